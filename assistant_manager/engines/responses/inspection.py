"""Saying hello: does the connection work, and what does its upstream offer?"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from typing import Any

from assistant_manager.engines.base import Inspection, Json
from assistant_manager.engines.clients import Client
from assistant_manager.engines.exceptions import EngineError, Rejected
from assistant_manager.engines.responses.options import options_of
from assistant_manager.engines.responses.status import ending
from assistant_manager.engines.responses.wire import create, delete, retrieve
from assistant_manager.engines.troubles import reading

HELLO = "Say hello."
PATIENCE = 60.0
"""Seconds to wait for an answer to hello."""
LOOK_PAUSE = 0.5


async def inspected(client: Client, model: str) -> Inspection:
    """Raises what any start may raise."""
    options = options_of(client.info)
    body: dict[str, Any] = {
        "model": model,
        "input": HELLO,
        "background": options.background,
        "store": options.background,
    }
    body = {name: value for name, value in body.items() if name not in options.leave_out}
    started = time.monotonic()
    first = await create(client, body, key=str(uuid.uuid4()), seconds=PATIENCE)
    last = await _ended(client, first, started)
    seconds = time.monotonic() - started
    models = await _models(client)
    with suppress(EngineError):
        await delete(client, first["id"])
    with reading(client):
        answer = _answer(last)
    return Inspection(
        answer=answer,
        seconds=round(seconds, 2),
        models=models,
        supports={
            "Answers in the background": ending(first).outcome == "working",
            "List of models": models is not None,
        },
    )


async def _ended(client: Client, response: Json, started: float) -> Json:
    """The response when it has ended, or as it is when the patience has."""
    while ending(response).outcome == "working" and time.monotonic() - started < PATIENCE:
        await asyncio.sleep(LOOK_PAUSE)
        found = await retrieve(client, response["id"])
        if found is None:
            raise Rejected("The upstream took the question but does not know its answer.")
        response = found
    return response


async def _models(client: Client) -> list[str] | None:
    with suppress(EngineError):
        page = await client.call(lambda sdk: sdk.models.list())
        return sorted(model.id for model in page.data)
    return None


def _answer(response: Json) -> str:
    texts = [
        part.get("text") or part.get("refusal") or ""
        for item in response.get("output") or ()
        if item["type"] == "message"
        for part in item["content"]
    ]
    return "".join(texts) or f"No text came back; the answer's status is “{response['status']}”."
