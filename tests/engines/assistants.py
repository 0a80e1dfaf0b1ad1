"""What the tests of the assistants engine share: turns with a script, and a patient driver."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from assistant_manager.engines.assistants import AssistantsEngine
from assistant_manager.engines.base import ConnectionInfo, Item, Progress, ToolCallsItem, Turn
from assistant_manager.engines.exceptions import Unavailable
from tests.engines.turns import PATIENCE, make_turn, sighting_of

A = TypeVar("A")
T = TypeVar("T")
numbers = itertools.count(1)


def scripted(connection: ConnectionInfo, script: dict[str, Any], **changes: Any) -> Turn:
    """A turn of its own run, to which the fake answers by the script."""
    number = next(numbers)
    names = {"run_id": f"run_{number:024}", "attempt_key": f"attempt-{number}"}
    told = json.dumps({"id": f"assistants-{number}", **script})
    return make_turn(connection=connection, instructions=told, **{**names, **changes})


async def persist(ask: Callable[[A], Awaitable[T]], about: A) -> T:
    """As the driver does: ask again while nothing was decided."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await ask(about)
            except Unavailable:
                await asyncio.sleep(0.01)


async def see_through(engine: AssistantsEngine, turn: Turn) -> Progress:
    """The attempt to its end, whatever goes wrong on the way."""
    progress = await persist(engine.start, turn)
    async with asyncio.timeout(PATIENCE):
        while progress.outcome == "working":
            await asyncio.sleep(progress.look_again)
            progress = await persist(engine.look, sighting_of(turn, stored(progress)))
    return progress


def stored(progress: Progress) -> Progress:
    """With its state as it comes back from a row."""
    return replace(progress, state=json.loads(json.dumps(progress.state)))


def answered(items: list[Item] | Any, *outputs: str) -> list[Item]:
    """The items with what the client says its functions returned."""
    left = iter(outputs)
    return [
        replace(
            item,
            calls=[
                replace(call, output=next(left)) if call.type == "function" else call
                for call in item.calls
            ],
            done=True,
        )
        if isinstance(item, ToolCallsItem)
        else item
        for item in items
    ]


def next_attempt(turn: Turn, progress: Progress, *outputs: str, **changes: Any) -> Turn:
    """The turn that follows, once the client has submitted `outputs`."""
    return replace(
        turn,
        attempt=turn.attempt + 1,
        attempt_key=f"{turn.attempt_key}-next",
        past=[*turn.past, *answered(progress.items, *outputs)],
        past_states=[*turn.past_states, stored(progress).state],
        **changes,
    )
