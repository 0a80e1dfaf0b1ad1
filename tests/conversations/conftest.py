"""What of this room can be tried here, and what its drivers are spared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.conf import settings
from django.utils import timezone

from conversations import patience
from conversations.care import Care
from conversations.driver import Driver
from conversations.models import Run
from conversations.parking import Parked, Parking

collect_ignore = [] if settings.REDIS_URL else ["test_shares_in_redis.py"]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver waits in bounded time for what takes moments. On a machine that stands still for
    seconds it would give up what a test is to see; whoever tests a bound sets it."""
    monkeypatch.setattr(patience, "CANCEL_WITHIN", 60)
    monkeypatch.setattr("conversations.driver.STOP_WITHIN", 60)
    monkeypatch.setattr("conversations.desk.CLOSE_WITHIN", 60)


@pytest.fixture
def time_is_up(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Have the deadline come for a run that a driver looks after. One that is near from the start
    may pass before the run has come to where the test wants it."""
    timers: dict[int, Callable[[], object]] = {}
    work_in_time, park = Care._work_in_time, Parking.park

    async def working(care: Care, lifetime: asyncio.Timeout) -> None:
        timers[care.run.pk] = partial(care._time_is_up, lifetime)
        try:
            await work_in_time(care, lifetime)
        finally:
            del timers[care.run.pk]

    def parking(parking: Parking, parked: Parked) -> None:
        park(parking, parked)
        timers[parked.run] = partial(parking._time_is_up, parked)

    def ring(run: int) -> None:
        if run in timers:
            timers[run]()
        else:  # between the one and the other
            driver._loop.call_soon(ring, run)

    def time_is_up(run: Run) -> None:
        past = timezone.now() - timedelta(seconds=1)
        Run.objects.filter(pk=run.pk).update(expires_at=past)
        driver._loop.call_soon_threadsafe(ring, run.pk)

    monkeypatch.setattr(Care, "_work_in_time", working)
    monkeypatch.setattr(Parking, "park", parking)
    return time_is_up
