"""What of this room can be tried here, and what its drivers are spared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.conf import settings
from django.utils import timezone

from conversations import driver, patience
from conversations.care import Care
from conversations.models import Run

collect_ignore = [] if settings.REDIS_URL else ["test_shares_in_redis.py"]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver waits in bounded time for what takes moments. On a machine that stands still for
    seconds it would give up what a test is to see; whoever tests a bound sets it."""
    monkeypatch.setattr(patience, "CANCEL_WITHIN", 60)
    monkeypatch.setattr(driver, "STOP_WITHIN", 60)
    monkeypatch.setattr("conversations.desk.CLOSE_WITHIN", 60)


@pytest.fixture
def time_is_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Have the deadline come for a run that a driver looks after. One that is near from the start
    may pass before the run has come to where the test wants it."""
    timers: dict[int, Callable[[], object]] = {}
    work_in_time = Care._work_in_time

    async def noting(care: Care, lifetime: asyncio.Timeout) -> None:
        loop, come = asyncio.get_running_loop(), partial(care._time_is_up, lifetime)
        timers[care.run.pk] = partial(loop.call_soon_threadsafe, come)
        await work_in_time(care, lifetime)

    def time_is_up(run: Run) -> None:
        past = timezone.now() - timedelta(seconds=1)
        Run.objects.filter(pk=run.pk).update(expires_at=past)
        timers[run.pk]()

    monkeypatch.setattr(Care, "_work_in_time", noting)
    return time_is_up
