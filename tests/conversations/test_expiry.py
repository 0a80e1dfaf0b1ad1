"""Runs whose time is up: the row says so at once, whatever else goes on. Here that goes on until the
row has ended: a driver that waited for it would never end the row."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from assistant_manager.engines.base import Progress, Sighting, Turn
from conversations import patience
from conversations.driver import Driver
from conversations.models import Run
from tests.conversations.driving import ask, started, wait, wait_for
from tests.fakes.engine import ScriptedEngine

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted")]

TimeIsUp = Callable[[Run], None]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is given up for taking too long."""
    monkeypatch.setattr(patience, "CANCEL_WITHIN", 3600)


def test_an_upstream_that_does_not_listen_makes_no_run_expire_late(
    driver: Driver, time_is_up: TimeIsUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancel(self: ScriptedEngine, sighting: Sighting) -> None:
        self.cancelled.append(sighting.run_id)
        await asyncio.sleep(3600)

    monkeypatch.setattr(ScriptedEngine, "cancel", cancel)
    run = started(ask(seconds=3600, look_again=3600))
    time_is_up(run)
    wait(run, "expired")
    wait_for(lambda: run.public_id in ScriptedEngine.cancelled)


def test_a_start_that_is_seen_through_makes_no_run_expire_late(
    driver: Driver, time_is_up: TimeIsUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it comes to is then stopped upstream, or it would go on at our cost."""
    sent, answered = asyncio.Event(), asyncio.Event()

    async def start(self: ScriptedEngine, turn: Turn) -> Progress:
        sent.set()
        await answered.wait()
        return Progress("working", state={"here": True})

    monkeypatch.setattr(ScriptedEngine, "start_is_repeatable", False)
    monkeypatch.setattr(ScriptedEngine, "start", start)
    run = ask()
    wait_for(sent.is_set)
    time_is_up(run)
    wait(run, "expired")
    assert run.public_id not in ScriptedEngine.cancelled
    driver._loop.call_soon_threadsafe(answered.set)
    wait_for(lambda: run.public_id in ScriptedEngine.cancelled)


def test_a_burst_of_recordings_makes_no_run_expire_late(
    driver: Driver, time_is_up: TimeIsUp
) -> None:
    """The database thread of the driver is busy until the run has expired."""
    run = started(ask(seconds=3600, look_again=3600))
    recorded = threading.Event()
    driver._desk._database.submit(recorded.wait, 100)
    try:
        time_is_up(run)
        wait(run, "expired")
    finally:
        recorded.set()
