"""Trying a connection: does the model answer, and what else does it bear."""

from __future__ import annotations

import time
from typing import Any

from assistant_manager.engines.base import Inspection, Json
from assistant_manager.engines.chat.answers import Answer, NoAnswer, listen
from assistant_manager.engines.clients import Client
from assistant_manager.engines.exceptions import EngineError, Rejected

HELLO = "Say hello."
FEW_TOKENS = 64
"""For the trials after the first, of which nobody reads the answer."""
PING: dict[str, Any] = {
    "type": "function",
    "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}},
}
RED_SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR42mP4z8BAEmIY1TCqYfhq"
    "AACQ+f8B8u7oVwAAAABJRU5ErkJggg=="
)


async def inspect(client: Client, model: str) -> Inspection:
    """Raises EngineError where the model does not answer. `supports` lacks what could not be tried."""
    began = time.monotonic()
    hello = await _ask(client, {"model": model, "messages": [_user(HELLO)]})
    seconds = time.monotonic() - began
    limit = getattr(client.info.options, "token_limit", "max_completion_tokens")
    few = {"model": model, limit: FEW_TOKENS}
    picture: list[Json] = [
        {"type": "text", "text": "What colour is this?"},
        {"type": "image_url", "image_url": {"url": RED_SQUARE}},
    ]
    calling = {**few, "messages": [_user(HELLO)], "tools": [PING], "tool_choice": "required"}
    tries = {
        "tools": (calling, lambda answer: bool(answer.calls)),
        "pictures": ({**few, "messages": [_user(picture)]}, lambda answer: True),
    }
    supports = {"streaming": True}
    for name, (body, holds) in tries.items():
        try:
            supports[name] = holds(await _ask(client, body))
        except (Rejected, NoAnswer):  # many servers fall over what they cannot do
            supports[name] = False
        except EngineError:
            continue  # busy just now, which says nothing of the model
    return Inspection(hello.text, seconds, await _models(client), supports)


async def _ask(client: Client, body: Json) -> Answer:
    return await listen(client, body, {}, lambda answer: None)


async def _models(client: Client) -> list[str] | None:
    """Many servers do not list theirs."""
    try:
        page = await client.call(lambda sdk: sdk.models.list())
    except EngineError:
        return None
    return sorted(model.id for model in page.data or ())


def _user(content: str | list[Json]) -> dict[str, Any]:
    return {"role": "user", "content": content}
