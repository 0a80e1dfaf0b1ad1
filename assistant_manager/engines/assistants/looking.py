"""Looking at an attempt: its run is found or made, watched, and brought home."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from assistant_manager.engines.assistants import files
from assistant_manager.engines.assistants.output import Output, is_open_call, under_way
from assistant_manager.engines.assistants.state import State
from assistant_manager.engines.assistants.status import (
    ENDS,
    ending,
    pace,
    quota_wait,
    tokens_of,
    usage_of,
)
from assistant_manager.engines.assistants.wire import Row, Wire
from assistant_manager.engines.base import Item, Progress, Sighting
from assistant_manager.engines.exceptions import Rejected, Unavailable

FETCHES_AT_MOST = 3
"""Looks that may fail for a file's sake; then the answer goes without it."""


async def enter(wire: Wire, state: State, sighting: Sighting) -> Progress:
    """Find the attempt's run in its thread, or create it."""
    run = await _find(wire, state) or await _create(wire, state, sighting)
    found = replace(state, run=run["id"])
    return Progress("working", state=found.stored(), upstream_id=run["id"], look_again=0)


async def _find(wire: Wire, state: State) -> Row | None:
    runs = await wire.all(state.runs)
    return next((run for run in runs if run["id"] not in state.given_up), None)


async def _create(wire: Wire, state: State, sighting: Sighting) -> Row:
    once = f"{sighting.attempt_key}-{len(state.given_up)}"
    try:
        return await wire.post(state.runs, state.order, once=once)
    except Rejected:
        # A thread has one run at a time: perhaps an earlier request of ours was only late.
        if late := await _find(wire, state):
            return late
        raise


async def see(wire: Wire, state: State) -> Progress:
    run = await wire.get(f"{state.runs}/{state.run}")
    if run["status"] not in ENDS:
        return await _watch(wire, state, run)
    seconds = quota_wait(run)
    if seconds is not None and not state.after:
        return _give_up(wire, state, seconds)
    return await _collect(wire, state, run)


async def _watch(wire: Wire, state: State, run: Row) -> Progress:
    """The code that it runs is shown before the upstream has its output."""
    items: list[Item] = []
    if state.shows_code and run["status"] == "in_progress":
        items = under_way(await wire.all(f"{state.runs}/{state.run}/steps", after=state.after))
    return _working(wire, state, run, items)


def _working(wire: Wire, state: State, run: Row, items: Sequence[Item] = ()) -> Progress:
    return Progress(
        "working",
        items,
        state=state.stored(),
        upstream_id=state.run,
        look_again=pace(run, wire.options.poll_seconds),
    )


def _give_up(wire: Wire, state: State, seconds: float) -> Progress:
    """Have another run tried in the same thread, once there is quota for it."""
    wire.client.gate.wait_for_quota(seconds)
    waiting = replace(state, run="", given_up=[*state.given_up, state.run])
    return Progress("working", state=waiting.stored(), look_again=seconds)


async def _collect(wire: Wire, state: State, run: Row) -> Progress:
    """All that the run has come to, at its end or where it waits for its functions."""
    place = f"{state.runs}/{state.run}"
    steps = await wire.all(f"{place}/steps", after=state.after)
    messages = await wire.all(f"/threads/{state.thread}/messages", run_id=state.run)
    downloads = files.Downloads(wire, may_wait=state.fetches < FETCHES_AT_MOST)
    try:
        items = await Output(downloads, state.files).items(steps, messages)
    except Unavailable:
        return _working(wire, replace(state, fetches=state.fetches + 1), run)
    left = replace(state, made=sorted({*state.made, *downloads.ids}))
    if run["status"] == "requires_action":
        asked = next((item.key for item in items if is_open_call(item)), None)
        if asked is None:  # its steps are shown later than itself
            return _working(wire, state, run)
        told = tokens_of(run) or state.told
        left = replace(left, waits_for=asked, after=steps[-1]["id"], told=told)
    return Progress(
        items=items,
        usage=usage_of(run, state.told),
        state=left.stored(),
        upstream_id=state.run,
        **ending(run, wire.client.scrubbed),
    )


async def cancel(wire: Wire, place: str) -> None:
    with suppress(Rejected):  # it has ended in the meantime
        await wire.post(f"{place}/cancel", {}, creates=False)
