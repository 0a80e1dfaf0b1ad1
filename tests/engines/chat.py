"""What the tests of the chat engine share."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from assistant_manager.engines.base import ConnectionInfo, Engine, Progress, Turn
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.exceptions import Unavailable
from tests.engines.turns import PATIENCE, make_turn, sighting_of
from tests.fakes.upstream.running import Upstream

SCRIPT_IDS = itertools.count(1)

Ask = Callable[..., Progress]


def scripted(
    connection: ConnectionInfo, script: dict[str, Any], *questions: Any, **changes: Any
) -> Turn:
    """A turn whose instructions tell the fake what to say; keyword arguments `options` change
    the connection's."""
    number = next(SCRIPT_IDS)
    options = changes.pop("options", None)
    if options is not None:
        connection = replace(connection, id=9_000 + number, options=ChatOptions(**options))
    told = json.dumps({"id": f"chat-{number}", **script})
    defaults = {"attempt_key": f"chat-{number}", "instructions": told, "connection": connection}
    return make_turn(*questions, **{**defaults, **changes})


async def persist(engine: Engine, turn: Turn) -> Progress:
    """As the driver does: what is unavailable is asked again."""
    progress = None
    async with asyncio.timeout(PATIENCE):
        while progress is None or progress.outcome == "working":
            try:
                if progress is None:
                    progress = await engine.start(turn)
                else:
                    progress = await engine.look(sighting_of(turn, progress))
            except Unavailable as error:
                await asyncio.sleep(min(error.retry_after or 0, 0.2))
    return progress


def asked(upstream: Upstream) -> list[dict[str, Any]]:
    """The bodies of all requests for a completion, refused ones included."""
    return [entry["body"] for entry in upstream.journal("POST", "/chat/completions")]
