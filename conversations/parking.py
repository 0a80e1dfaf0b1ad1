"""Runs that are only to be looked at now and then, kept without their rows.

A run in the making has its row, its attempt and a task in memory, some 18 KiB of it; most of its
time it waits for the next look. Parked, it is what a look needs. Its rows are read again once there
is something to record.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from django.db import Error
from django.utils import timezone

from assistant_manager.engines.base import Progress, Sighting
from assistant_manager.engines.exceptions import Unavailable
from assistant_manager.engines.gates import Gate
from conversations.desk import Desk
from conversations.ledger import Held
from conversations.models import Run, RunAttempt, RunStatus
from conversations.patience import PAUSE, back_off

logger = logging.getLogger(__name__)

News: TypeAlias = Progress | Exception | None
"""What came of a look; None where the time of the run is up."""


@dataclass(slots=True, eq=False)
class Parked:
    """A run upstream, inside its gate. `seen` is the last that was recorded; `has_no_items` says
    that nothing of the attempt is on the rows."""

    run: int
    connection: int
    gate: Gate
    sighting: Sighting
    seen: Progress
    has_no_items: bool
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.sighting.run_id

    @property
    def seconds_left(self) -> float:
        return max(0.0, (self.sighting.deadline - timezone.now()).total_seconds())


@dataclass(slots=True)
class Unparked:
    """What is known of a run that was parked until just now, and is still inside its gate."""

    attempt: RunAttempt
    sighting: Sighting
    news: News

    def is_news_of(self, run: Run) -> bool:
        """Whether `run` is still where it was when it was looked at."""
        is_current = run.attempt == self.attempt.number == self.sighting.attempt
        return self.news is not None and run.state is RunStatus.IN_PROGRESS and is_current


GoOn: TypeAlias = Callable[[Run, Unparked], None]


class Parking:
    """Used on one event loop."""

    def __init__(self, desk: Desk, go_on: GoOn) -> None:
        self.by_connection: Counter[int] = Counter()
        self._desk = desk
        self._go_on = go_on
        self._parked: dict[int, Parked] = {}
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._parked)

    @property
    def by_run(self) -> Mapping[int, Parked]:
        return self._parked

    def park(self, parked: Parked) -> None:
        if self._is_closed:
            parked.gate.leave()
            return
        self._parked[parked.run] = parked
        self.by_connection[parked.connection] += 1
        self._wait(parked, parked.seen.look_again)

    def take(self, run: int) -> bool:
        """Somebody else looks after it from here on, and has its place at the gate. False where it
        was not parked."""
        parked = self._parked.get(run)
        if parked is not None:
            self._release(parked)
        return parked is not None

    def drop(self, parked: Parked) -> None:
        """It is no longer ours."""
        if self._parked.get(parked.run) is parked:
            self._release(parked)
            parked.gate.leave()

    def close(self) -> None:
        """Let go of all, and take no more."""
        self._is_closed = True
        for parked in list(self._parked.values()):
            self.drop(parked)

    def _release(self, parked: Parked) -> None:
        del self._parked[parked.run]
        self.by_connection[parked.connection] -= 1
        self._stop_timer(parked)
        if parked.task is not None and parked.task is not asyncio.current_task():
            parked.task.cancel()
        parked.task = None

    @staticmethod
    def _stop_timer(parked: Parked) -> None:
        if parked.timer is not None:
            parked.timer.cancel()
            parked.timer = None

    def _wait(self, parked: Parked, seconds: float) -> None:
        loop, left, seconds = asyncio.get_running_loop(), parked.seconds_left, max(seconds, PAUSE)
        if left <= seconds:
            parked.timer = loop.call_later(left, self._time_is_up, parked)
        else:
            parked.timer = loop.call_later(seconds, self._look_again, parked)

    def _look_again(self, parked: Parked) -> None:
        loop = asyncio.get_running_loop()
        parked.timer = loop.call_later(parked.seconds_left, self._time_is_up, parked)
        parked.task = loop.create_task(self._look(parked))

    def _time_is_up(self, parked: Parked) -> None:
        """Whatever the upstream says from here on, and however long it takes to say it."""
        if parked.task is not None:
            parked.task.cancel()
        parked.timer = None
        parked.task = asyncio.get_running_loop().create_task(self._hand_back(parked, None))

    async def _look(self, parked: Parked) -> None:
        news: News
        try:
            engine = self._desk.engine(parked.sighting.connection.kind)
            news = await engine.look(parked.sighting)
        except asyncio.CancelledError:
            if parked.task is not asyncio.current_task():
                raise
            # Nobody cancelled this look but somebody inside it: it must not be the last.
            news = Unavailable("The look was broken off.")
        except Exception as error:
            news = error
        if parked.task is not asyncio.current_task():
            return  # an engine that does not hear that it is to stop
        if isinstance(news, Progress) and news == parked.seen:
            parked.task = None
            self._stop_timer(parked)
            self._wait(parked, news.look_again)
        else:
            await self._hand_back(parked, news)

    async def _hand_back(self, parked: Parked, news: News) -> None:
        held = await self._rows(parked, is_late=news is None)
        self._release(parked)
        if held is None:
            parked.gate.leave()
        else:
            held.attempt.has_no_items = parked.has_no_items
            self._go_on(held.run, Unparked(held.attempt, parked.sighting, news))

    async def _rows(self, parked: Parked, *, is_late: bool) -> Held | None:
        """None where the run is no longer ours. What is late does not wait behind recordings."""
        read = self._desk.held_late if is_late else self._desk.held
        failures = 0
        while True:
            try:
                return await read(parked.run)
            except Error as error:
                logger.warning("%s could not be read, trying again: %s", parked.name, error)
            except Exception:
                logger.exception("%s could not be read, trying again", parked.name)
            failures += 1
            await asyncio.sleep(back_off(failures))
