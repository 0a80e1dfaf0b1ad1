"""Saying hello through a connection: one question from its start to its end, as any run would."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from assistant_manager.engines.base import (
    ConnectionInfo,
    Inspection,
    MessageItem,
    Progress,
    Sighting,
    Turn,
    TurnMessage,
)
from assistant_manager.engines.exceptions import EngineError, Rejected, Unavailable

if TYPE_CHECKING:
    from assistant_manager.engines.assistants.wire import Wire
    from assistant_manager.engines.base import Engine

WITHIN_SECONDS = 20.0
HELLO = "Say hello."


async def inspect(engine: Engine, wire: Wire, connection: ConnectionInfo, model: str) -> Inspection:
    """Raises Unavailable where no answer comes in time, and Rejected with the reason where none
    will."""
    await wire.get("/assistants", limit=1)
    models = await _models(wire)
    began = time.monotonic()
    progress = await _ask(engine, _hello(connection, model))
    seconds = time.monotonic() - began
    if progress.outcome != "completed":
        reason = progress.error or progress.incomplete_reason or "no reason given"
        raise Rejected(f"“{connection.name}” took the question, but {progress.outcome}: {reason}")
    answer = " ".join(item.text for item in progress.items if isinstance(item, MessageItem))
    supports = {"Assistants API": True, "list of models": models is not None}
    return Inspection(answer, seconds, models, supports)


def _hello(connection: ConnectionInfo, model: str) -> Turn:
    return Turn(
        run_id="connection-test",
        attempt=1,
        attempt_key=uuid.uuid4().hex,
        model=model,
        instructions="",
        messages=[TurnMessage("user", [{"type": "text", "text": {"value": HELLO}}])],
        connection=connection,
        deadline=timezone.now() + timedelta(seconds=WITHIN_SECONDS),
    )


async def _ask(engine: Engine, turn: Turn) -> Progress:
    sighting = None
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            progress = await engine.start(turn)
            sighting = _sighting(turn, progress)
            while progress.outcome == "working":
                await asyncio.sleep(progress.look_again)
                progress = await engine.look(sighting)
                sighting = replace(sighting, state=progress.state)
    except TimeoutError:
        within = f"{WITHIN_SECONDS:.0f} seconds"
        raise Unavailable(f"“{turn.connection.name}” gave no answer within {within}.") from None
    finally:
        if sighting:
            with suppress(EngineError):
                await engine.cancel(sighting)
    return progress


def _sighting(turn: Turn, progress: Progress) -> Sighting:
    return Sighting(
        run_id=turn.run_id,
        attempt=turn.attempt,
        attempt_key=turn.attempt_key,
        state=progress.state,
        connection=turn.connection,
        deadline=turn.deadline,
    )


async def _models(wire: Wire) -> list[str] | None:
    """None where the upstream does not list them."""
    try:
        return await wire.models()
    except EngineError:
        return None
