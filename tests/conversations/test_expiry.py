"""Runs whose time is up: the row says so within a second, whatever else goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from pytest_django import Settings

from assistant_manager.engines.base import Progress, Sighting, Turn
from conversations.driver import Driver
from conversations.models import Run
from tests.conversations.driving import ask, wait, wait_for
from tests.fakes.engine import ScriptedEngine

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted")]

ON_TIME = timedelta(seconds=4)
"""One is what is meant, and what a quiet machine keeps. Each cause of being late would cost six."""


@pytest.fixture
def driver(settings: Settings) -> Iterator[Driver]:
    settings.RUN_LIFETIME_SECONDS = 5
    driver = Driver(capacity=20)
    driver.start()
    try:
        yield driver
    finally:
        driver.stop()


def ended_on_time(run: Run, deadline: datetime | None) -> bool:
    assert deadline is not None
    assert run.ended_at is not None
    return timedelta(0) <= run.ended_at - deadline < ON_TIME


def test_an_upstream_that_does_not_listen_makes_no_run_expire_late(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancel(self: ScriptedEngine, sighting: Sighting) -> None:
        self.cancelled.append(sighting.run_id)
        await asyncio.sleep(60)

    monkeypatch.setattr(ScriptedEngine, "cancel", cancel)
    run = ask(seconds=60, look_again=30)
    deadline = run.expires_at
    assert ended_on_time(wait(run, "expired"), deadline)
    wait_for(lambda: run.public_id in ScriptedEngine.cancelled, 60)


def test_a_start_that_is_seen_through_makes_no_run_expire_late(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it comes to is then stopped upstream, or it would go on at our cost."""
    answered = asyncio.Event()

    async def start(self: ScriptedEngine, turn: Turn) -> Progress:
        await answered.wait()
        return Progress("working", state={"here": True})

    monkeypatch.setattr(ScriptedEngine, "start_is_repeatable", False)
    monkeypatch.setattr(ScriptedEngine, "start", start)
    run = ask()
    deadline = run.expires_at
    assert ended_on_time(wait(run, "expired"), deadline)
    assert run.public_id not in ScriptedEngine.cancelled
    driver._loop.call_soon_threadsafe(answered.set)
    wait_for(lambda: run.public_id in ScriptedEngine.cancelled, 60)


def test_a_burst_of_recordings_makes_no_run_expire_late(driver: Driver) -> None:
    """The database thread of the driver is busy for longer than the run may live."""
    run = ask(seconds=60, look_again=30)
    deadline = run.expires_at
    wait(run, "in_progress")
    busy = driver._desk.db(time.sleep, 12)
    asyncio.run_coroutine_threadsafe(busy, driver._loop)
    assert ended_on_time(wait(run, "expired"), deadline)
