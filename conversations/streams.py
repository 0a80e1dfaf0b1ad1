"""The events of runs as they happen, for any number of readers.

All readers of a process share one watch of the table and one thread that asks it; a reader is no
more than a place in a queue. What is read is rows, so readers come back to where they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connection
from django.db.models import Max
from django.utils import timezone

from assistant_manager.models.prepared import Prepared
from conversations.models import Run, RunEvent, RunStatus, RunStep
from conversations.models.events import CHANNEL
from conversations.models.status import TERMINAL
from conversations.services.runs import end_if_overdue
from conversations.watch import TableWatch

logger = logging.getLogger(__name__)
T = TypeVar("T")

GATHERED_FOR = 0.02
"""Seconds between a change and the look at it, so that what comes together is read together."""
LOOK_ANYWAY_AFTER = 1.0
"""Seconds. A change that nobody told of is found by then."""
SILENT_AT_MOST = 15.0
"""Seconds after which a reader is told that there is nothing to tell."""
LAG = 200
"""Events. One that got its key early and was committed late is still among the last so many; if it
is not, the next full look finds it."""
BEHIND_AT_MOST = 1000
"""Batches that wait for one slow reader. It is then sent away, and may come back for them."""

LAST_EVENTS = frozenset(f"thread.run.{status}" for status in TERMINAL)


@dataclass(frozen=True)
class Told:
    """An event as readers may see it. `number` counts from 1 and never changes."""

    number: int
    type: str
    data: dict[str, Any]


_AFTER: Prepared[Any] = Prepared(
    lambda run, number: (
        RunEvent.objects.filter(run=run, seq__gt=number)
        .order_by("seq")
        .values_list("seq", "type", "data")
    )
)
_RECENT: Prepared[Any] = Prepared(
    lambda above: RunEvent.objects.filter(pk__gt=above).order_by("pk").values_list("pk", "run")
)


def told_of(run: Run, after: int) -> list[Told]:
    """The events of `run` after number `after`."""
    return _told(run.pk, run.holds_answers, after)


def _told(run: int, holds_answers: bool, after: int) -> list[Told]:
    if not holds_answers:
        return [Told(*row) for row in _AFTER.all(run=run, number=after)]
    shown = _without_held(run, [Told(*row) for row in _AFTER.all(run=run, number=0)])
    return shown[after:]


def _without_held(run: int, events: Iterable[Told]) -> list[Told]:
    """What may be told of a run whose answer waits for a person: its own moves as programs see
    them, and the calls that they must answer themselves. Nobody can tell from it what was written,
    nor how often; so they are numbered anew, and what was released is read from the messages."""
    for_client = set(
        RunStep.objects.filter(run=run, for_client=True).values_list("public_id", flat=True)
    )
    shown: list[Told] = []
    status = None
    for event in events:
        if event.data.get("step") in for_client:
            shown.append(Told(len(shown) + 1, event.type, event.data))
        elif "status" in event.data and event.type != f"thread.run.{RunStatus.HELD}":
            if event.type == f"thread.run.{status}":
                continue  # asked again, which is between the reviewer and the engine
            status = event.type.removeprefix("thread.run.")
            shown.append(Told(len(shown) + 1, event.type, event.data))
    return shown


@dataclass(eq=False)
class _Reader:
    run: int
    holds_answers: bool
    after: int
    batches: asyncio.Queue[list[Told]] = field(
        default_factory=lambda: asyncio.Queue(BEHIND_AT_MOST)
    )
    """An empty batch is the end."""

    def tell(self, events: list[Told]) -> bool:
        """Hand over those that are new; False when nothing more will come."""
        new = [event for event in events if event.number > self.after]
        if not new:
            return True
        self.after = new[-1].number
        with contextlib.suppress(asyncio.QueueFull):
            self.batches.put_nowait(new)
            return new[-1].type not in LAST_EVENTS
        return False

    def end(self) -> None:
        if self.batches.full():
            self.batches.get_nowait()
        self.batches.put_nowait([])


class Streams:
    """All readers of one event loop."""

    def __init__(self) -> None:
        self._readers: dict[int, set[_Reader]] = {}
        self._known: dict[int, int] = {}
        """The last event of a run that was read for its readers."""
        self._mark = 0
        self._changed = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="streams")

    async def follow(self, run: Run, after: int) -> AsyncGenerator[list[Told]]:
        """Batches of events after number `after`, until the run has ended or is gone; an empty one
        where there was nothing for a while."""
        reader = _Reader(run.pk, run.holds_answers, after)
        self._enter(reader)
        try:
            while True:
                try:
                    batch = await asyncio.wait_for(reader.batches.get(), SILENT_AT_MOST)
                except TimeoutError:
                    yield []
                    continue
                if not batch:
                    return
                yield batch
        finally:
            self._leave(reader)

    def _enter(self, reader: _Reader) -> None:
        self._readers.setdefault(reader.run, set()).add(reader)
        self._known.pop(reader.run, None)
        self._changed.set()
        if self._tending is None:
            self._tending = asyncio.ensure_future(self._tend())

    def _leave(self, reader: _Reader) -> None:
        readers = self._readers.get(reader.run, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(reader.run, None)
            self._known.pop(reader.run, None)
        if not self._readers:
            self._changed.set()

    async def _tend(self) -> None:
        loop = asyncio.get_running_loop()
        watch = TableWatch(partial(loop.call_soon_threadsafe, self._changed.set), CHANNEL)
        watch.start()
        try:
            await self._tend_readers(loop)
        finally:
            self._tending = None
            for readers in self._readers.values():
                for reader in readers:
                    reader.end()  # none, but after a mistake of ours
            await self._in_thread(watch.stop)
            await self._in_thread(_disconnect)

    async def _tend_readers(self, loop: asyncio.AbstractEventLoop) -> None:
        anyway_at = loop.time()
        while self._readers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(anyway_at - loop.time(), 0.001))
            await asyncio.sleep(GATHERED_FOR)
            self._changed.clear()
            everything = loop.time() >= anyway_at
            if everything:
                anyway_at = loop.time() + LOOK_ANYWAY_AFTER
            try:
                await self._look(everything)
            except DatabaseError as error:
                logger.warning("Events cannot be read just now: %s", error)
                await self._in_thread(_disconnect)

    async def _look(self, everything: bool) -> None:
        """Tell those who are here now. Who comes meanwhile may have read less than they have, and
        has its turn at the next look."""
        here = {run: set(readers) for run, readers in self._readers.items()}
        watched = {
            run: (next(iter(readers)).holds_answers, min(reader.after for reader in readers))
            for run, readers in here.items()
        }
        known = dict(self._known)
        last: dict[int, int] = {}
        if everything:
            ended = await self._in_thread(lambda: _ended(watched))
            last = await self._in_thread(lambda: _last(watched))
            changed = {run for run in watched if last.get(run) != known.get(run)}
        else:
            ended = set()
            self._mark, recent = await self._in_thread(lambda: _recent(self._mark))
            changed = {run for run in watched if run in recent or run not in known}
        if changed:
            news = await self._in_thread(
                lambda: {run: _told(run, *watched[run]) for run in changed}
            )
            for run, events in news.items():
                self._tell(here[run], events)
        for run in here:
            if run in self._readers and self._readers[run] <= here[run]:
                self._known[run] = last.get(run, known.get(run, 0))
        for run in ended - changed:
            for reader in here[run]:
                reader.end()

    def _tell(self, readers: Iterable[_Reader], events: list[Told]) -> None:
        for reader in readers:
            if not reader.tell(events):
                reader.end()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _disconnect() -> None:
    connection.close()


def _recent(mark: int) -> tuple[int, set[int]]:
    """The newest key, and the runs of the events since a little before `mark`."""
    if not mark:
        return RunEvent.objects.aggregate(last=Max("pk"))["last"] or 0, set()
    rows = _RECENT.all(above=mark - LAG)
    return max([mark, *(key for key, _ in rows)]), {run for _, run in rows}


def _last(runs: Iterable[int]) -> dict[int, int]:
    """The number of each run's last event."""
    rows = RunEvent.objects.filter(run__in=list(runs)).order_by("run").values_list("run")
    return dict(rows.annotate(last=Max("seq")))


def _ended(runs: Iterable[int]) -> set[int]:
    """Those that have ended or are gone. One past its time ends when it is looked at."""
    rows = Run.objects.filter(pk__in=list(runs))
    for run in rows.overdue(timezone.now()):
        end_if_overdue(run)
    return set(runs) - set(rows.active().values_list("pk", flat=True))


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Streams] = WeakKeyDictionary()


def streams() -> Streams:
    """Those of the running loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), Streams())
