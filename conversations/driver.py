"""The driver: moves many runs at once.

It claims due rows by lease, asks their engines concurrently on one event loop and records what
comes back. The rows are the truth: a driver may die on any line, and another goes on from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from django.conf import settings
from django.db import Error
from django.utils import timezone

from conversations import ledger
from conversations.care import Care
from conversations.desk import Desk
from conversations.driver_names import readable
from conversations.models import Review, Run, RunStatus
from conversations.models.lanes import Lane
from conversations.parking import Parking, Unparked
from conversations.patience import CANCEL_WITHIN, PAUSE
from conversations.watch import TableWatch

try:
    # With the standard loop each line to an upstream over TLS takes a quarter of a megabyte.
    from uvloop import new_event_loop
except ImportError:  # on Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

logger = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at the table when nothing wakes the driver: how late a lost nudge may
be noticed."""
SHARES = 10
"""The part of a driver's capacity that is claimed at once, that may wait at one gate, and that is
left beyond the capacity for connections that hold little of it."""
DEADLINES_EVERY = 0.4
"""Seconds between two looks for runs that nobody holds and whose time is up."""
NEIGHBOURS_EVERY = 2.0
"""Seconds between two looks for drivers of this machine whose process is gone."""
STOP_WITHIN = 5.0
"""Seconds a stopping driver waits for what is on its way to the database."""


class Driver:
    """Start it once in a worker process; `stop` hands its runs over. Thread-safe."""

    def __init__(self, *, capacity: int | None = None) -> None:
        self._desk = Desk()
        self.name = self._desk.name
        self.capacity = capacity or settings.DRIVER_CAPACITY
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._parking = Parking(self._desk, self._go_on)
        self._held: Counter[int] = Counter()  # tasks by connection
        self._thread = threading.Thread(target=self._serve, name="driver", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._wake: asyncio.Event
        self._stopping = False

    # --- from outside -------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def begin_to_stop(self) -> None:
        """Take nothing more up and hand every run over; returns at once."""
        self._stopping = True
        self.nudge()

    def stop(self) -> None:
        """Hand every run over and end, in bounded time."""
        self.begin_to_stop()
        self._thread.join(timeout=STOP_WITHIN + CANCEL_WITHIN)

    def nudge(self) -> None:
        """Look at the table now."""
        if self._ready.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    @property
    def in_flight(self) -> int:
        return len(self._tasks) + len(self._parking)

    # --- the loop -----------------------------------------------------------------------

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._ready.set()
        watch = TableWatch(self.nudge)
        watch.start()
        routines = [
            asyncio.create_task(routine)
            for routine in (self._renew(), self._bury_neighbours(), self._keep_deadlines())
        ]
        warming = asyncio.create_task(self._desk.warm_up())
        try:
            while not self._stopping:
                self._wake.clear()
                if not await self._look_at_the_table():
                    await self._rest()
        finally:
            for routine in (*routines, warming):
                routine.cancel()
            watch.stop()
            await self._hand_over()
            # A kernel that is just being started ends with whoever starts it.
            await asyncio.wait([warming], timeout=STOP_WITHIN)
            await self._desk.close()

    async def _rest(self) -> None:
        await asyncio.sleep(PAUSE)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), TICK)

    async def _look_at_the_table(self) -> bool:
        """Claim what is due and answer knocks; True when there may be more at once."""
        try:
            for run in await self._desk.db(ledger.knocks, driver=self.name):
                self._take_up(run)
            if self._desk.reviews_due:
                await self._queue_reviews()
            return await self._claim()
        except Error as error:
            logger.warning("The database does not answer, trying again: %s", error)
        except Exception:
            # Whatever it is: a worker without its driver would look alive and answer nothing.
            logger.exception("The table of runs could not be looked at, trying again")
        await asyncio.sleep(TICK)
        return False

    async def _queue_reviews(self) -> None:
        self._desk.reviews_due = False
        try:
            await self._desk.db(Review.objects.open_missing)
        except Error:
            self._desk.reviews_due = True
            raise

    async def _claim(self) -> bool:
        """Claim what there is room for; True when there may be more."""
        share = max(1, self.capacity // SHARES)
        room = self.capacity - self.in_flight
        batch = min(share, room if room > 0 else room + share)
        if batch <= 0:
            return False
        claimed = await self._desk.db(
            Run.objects.claim,
            driver=self.name,
            now=timezone.now(),
            limit=batch,
            wanted=self._wanted(share, full=room <= 0),
        )
        for run in claimed:
            self._take_up(run)
        return len(claimed) == batch

    def _wanted(self, share: int, *, full: bool) -> Callable[[Lane], bool]:
        """Of those that would only wait for a crowded connection no more are taken up, or they left
        no room for others. A driver that is full has another share for connections that hold less
        than that: what keeps it full may be an upstream that ends nothing."""
        crowded = self._desk.crowded(share)
        held = self._held + self._parking.by_connection
        large = {key for key, count in held.items() if full and count >= share}

        def wanted(lane: Lane) -> bool:
            waits = lane.status == RunStatus.QUEUED and lane.connection in crowded
            return not waits and lane.connection not in large

        return wanted

    async def _keep_deadlines(self) -> None:
        """End the runs that nobody holds once their time is up: they need no room, and wait for
        nothing that is being recorded."""
        while True:
            try:
                late = await self._desk.deadline_db(
                    Run.objects.claim_overdue, driver=self.name, now=timezone.now()
                )
                for run in late:
                    self._take_up(run)
            except Error as error:
                logger.warning("Deadlines could not be looked at, trying again: %s", error)
            except Exception:
                logger.exception("Deadlines could not be looked at, trying again")
            await asyncio.sleep(DEADLINES_EVERY)

    def _take_up(self, run: Run) -> None:
        """Look after `run` from here on; what was going on for it is dropped first."""
        before = self._tasks.get(run.pk)
        if before is not None:
            before.cancel()
        is_inside = self._parking.take(run.pk)
        self._care(Care(run, self._desk, is_inside=is_inside), before)

    def _go_on(self, run: Run, unparked: Unparked) -> None:
        self._care(Care(run, self._desk, unparked, is_inside=True), None)

    def _care(self, care: Care, before: asyncio.Task[None] | None) -> None:
        run = care.run
        task = asyncio.create_task(care.take(before))
        self._tasks[run.pk] = task
        self._held[run.connection_id] += 1
        task.add_done_callback(partial(self._let_drop, care, run))

    def _let_drop(self, care: Care, run: Run, task: asyncio.Task[None]) -> None:
        self._held[run.connection_id] -= 1
        if self._tasks.get(run.pk) is task:
            del self._tasks[run.pk]
            if care.parked is not None:
                self._parking.park(care.parked)
                return
        care.leave()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Lost hold of %s; its lease will lapse", run.public_id, exc_info=error)
        self._wake.set()

    async def _renew(self) -> None:
        """Keep the leases. Twice in a row, a row leased in our name without a task is let go, and
        a task without such a row is dropped: it was deleted, or another driver's by now."""
        strays: set[int] = set()
        lost: set[asyncio.Task[None]] = set()
        while True:
            tasks, parked = dict(self._tasks), dict(self._parking.by_run)
            try:
                ours = await self._desk.lease_db(
                    ledger.renew,
                    driver=self.name,
                    orphans=strays - tasks.keys() - parked.keys(),
                    in_flight=len(tasks) + len(parked),
                )
                for run in parked.keys() - ours:
                    self._parking.drop(parked[run])
                strays = ours - self._tasks.keys() - self._parking.by_run.keys()
                missing = {task for key, task in tasks.items() if key not in ours}
                for task in missing & lost:
                    task.cancel()
                lost = missing
                await self._desk.read_standings()
            except Error as error:
                logger.warning("Leases could not be renewed, trying again: %s", error)
            except Exception:
                logger.exception("Leases could not be renewed, trying again")
            await asyncio.sleep(settings.DRIVER_LEASE_SECONDS / 3)

    async def _bury_neighbours(self) -> None:
        """Have nobody wait for the leases of those who died beside us, or before us."""
        buried: set[str] = set()
        while True:
            try:
                gone = await self._desk.lease_db(ledger.bury, buried=buried)
                for name in gone - buried:
                    logger.warning("%s is gone; its runs are taken over", readable(name))
                buried |= gone
                if gone:
                    self._wake.set()
            except Error as error:
                logger.warning("Neighbours could not be looked for, trying again: %s", error)
            except Exception:
                logger.exception("Neighbours could not be looked for, trying again")
            await asyncio.sleep(NEIGHBOURS_EVERY)

    async def _hand_over(self) -> None:
        self._desk.close_gates()
        self._parking.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_WITHIN)
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await self._desk.hand_over()
        except (Error, TimeoutError) as error:
            logger.warning("The runs were not handed over; their leases will lapse: %s", error)
