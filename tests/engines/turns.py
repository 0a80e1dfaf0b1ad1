"""Turns for the tests of engines, valid by default."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from assistant_manager.engines.base import (
    ConnectionInfo,
    Engine,
    MessageItem,
    Progress,
    Sighting,
    Turn,
    TurnMessage,
)

QUICKSTART = "I need to solve the equation `3x + 11 = 14`. Can you help me?"
CODE = {"type": "code_interpreter"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 2, "maximum": 7},
            },
            "required": ["place", "unit", "days"],
            "additionalProperties": False,
        },
    },
}
PATIENCE = 60
"""Seconds for an answer that takes less than one: a busy machine may stand still for ten."""
DEADLINE = datetime(2030, 1, 1, tzinfo=UTC)


def say(text: str, role: Any = "user") -> TurnMessage:
    return TurnMessage(role, [{"type": "text", "text": {"value": text, "annotations": []}}])


def make_turn(*questions: str | TurnMessage, **changes: Any) -> Turn:
    """A turn of an assistant with the code interpreter. Asks the quickstart question by default."""
    turn = Turn(
        run_id="run_000000000000000000000001",
        attempt=1,
        attempt_key="attempt-1",
        model="gpt-4-1106-preview",
        instructions="You are a personal math tutor.",
        messages=[say(q) if isinstance(q, str) else q for q in questions or (QUICKSTART,)],
        connection=ConnectionInfo(kind="embedded"),
        deadline=DEADLINE,
        tools=[CODE],
    )
    return replace(turn, **changes)


def sighting_of(turn: Turn, progress: Progress) -> Sighting:
    return Sighting(
        run_id=turn.run_id,
        attempt=turn.attempt,
        attempt_key=turn.attempt_key,
        state=progress.state,
        connection=turn.connection,
        deadline=turn.deadline,
    )


async def finish(engine: Engine, turn: Turn, *, within: float = PATIENCE) -> Progress:
    """Looks until the attempt no longer works; state makes the trip through JSON, as in a row."""
    progress = await engine.start(turn)
    async with asyncio.timeout(within):
        while progress.outcome == "working":
            await asyncio.sleep(progress.look_again)
            stored = replace(progress, state=json.loads(json.dumps(progress.state)))
            progress = await engine.look(sighting_of(turn, stored))
    return progress


def answer_of(progress: Progress) -> str:
    return "".join(item.text for item in progress.items if isinstance(item, MessageItem))
