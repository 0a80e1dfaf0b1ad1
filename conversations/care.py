"""Looking after one run: from its claim to its end, or to where somebody else must act."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar

from django.db import Error
from django.utils import timezone

from assistant_manager.engines.base import Engine, Progress, Sighting, Turn
from assistant_manager.engines.exceptions import (
    EngineError,
    Expired,
    Rejected,
    Unavailable,
    Unknown,
)
from assistant_manager.secrets import SecretUnreadable
from conversations import ledger, patience, recording
from conversations.desk import Desk
from conversations.ledger import Begun
from conversations.models import Run, RunAttempt, RunStatus
from conversations.parking import News, Parked, Unparked
from conversations.patience import PAUSE, back_off, let_go, may_pass, seen_through

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WORTH_PARKING = 0.2
"""Seconds to the next look from which on it costs less to read the rows again than to keep them."""


class Care:
    """One claim of one run. Cancelling the task that awaits `take` drops it at any point.

    Once that task is done, `parked` says that only looks are left to do, and None that nothing is.
    In the latter case the run has to `leave` its gate, unless it did.
    """

    def __init__(
        self, run: Run, desk: Desk, unparked: Unparked | None = None, *, is_inside: bool = False
    ) -> None:
        """`is_inside`: it has a place at the gate, since it was parked until now. With `unparked`
        there is news of it."""
        self.run = run
        self.parked: Parked | None = None
        self._desk = desk
        self._gate = desk.gate(run)
        self._is_inside = is_inside
        self._unparked = unparked
        self._news: News = None
        self._waits: Parked | None = None
        self._trouble: Unavailable | None = None
        self._ending: asyncio.Task[None] | None = None

    async def take(self, before: asyncio.Task[None] | None) -> None:
        """Look after the run once `before`, an earlier care for it, has let go."""
        if before is not None:
            await let_go(before)
        failures = 0
        while True:
            try:
                if failures or before is not None:
                    # What this instance says may have been rolled back, or be older than the last
                    # that `before` did: never act on it.
                    self.run = await self._desk.db(ledger.reload, self.run)
                await self._advance()
                return
            except (Error, OSError) as error:
                failures += 1
                await self._rest(error, failures)

    async def _advance(self) -> None:
        self._waits = None
        if self._seconds_left() == 0:
            await self._expire()
            return
        lifetime = asyncio.timeout(None)
        try:
            async with lifetime:
                if self.run.state is RunStatus.CANCELLING:
                    await self._cancel()
                else:
                    await self._work_in_time(lifetime)
            if self._ending is not None:
                await self._ending
                await self._expire()
            else:
                self.parked = self._waits
        except (Rejected, SecretUnreadable) as error:
            code = error.code if isinstance(error, Rejected) else "server_error"
            await self._fail(str(error), code)
        except Exception as error:
            if isinstance(error, TimeoutError) and lifetime.expired():
                await self._expire()
                return
            if may_pass(error):
                raise
            logger.exception("Looking after %s failed", self.run.public_id)
            await self._fail(
                "The server had an error while it worked on this run; its log says more."
            )

    def _seconds_left(self) -> float | None:
        if self.run.state is RunStatus.CANCELLING or self.run.expires_at is None:
            return None
        return max(0.0, (self.run.expires_at - timezone.now()).total_seconds())

    async def _work_in_time(self, lifetime: asyncio.Timeout) -> None:
        seconds = self._seconds_left()
        if seconds is None:
            await self._work()
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._time_is_up, lifetime)
        try:
            await self._work()
        finally:
            timer.cancel()

    def _time_is_up(self, lifetime: asyncio.Timeout) -> None:
        self._ending = asyncio.create_task(self._end_in_time(lifetime))

    async def _end_in_time(self, lifetime: asyncio.Timeout) -> None:
        """The row first: the work may take its time to let go, and the upstream to listen."""
        try:
            await self._expire_row()
        except (Error, OSError) as error:
            logger.warning("%s could not be expired yet: %s", self.run.public_id, error)
        finally:
            with contextlib.suppress(RuntimeError):  # the work has come to its own end
                lifetime.reschedule(asyncio.get_running_loop().time())

    # --- working ------------------------------------------------------------------------

    async def _work(self) -> None:
        if self.run.state is RunStatus.QUEUED:
            self.leave()  # the place it may have was for another attempt
            await self._gate.enter(self._tell)
        elif not self._is_inside:
            self._gate.take_over()
        self._is_inside = True
        try:
            await self._attempt()
        finally:
            if self._waits is None:
                self.leave()

    def leave(self) -> None:
        """Make room at the gate, where that has not been done."""
        if self._is_inside:
            self._is_inside = False
            self._gate.leave()

    async def _attempt(self) -> None:
        """One attempt after the other, until one tells how the run goes on."""
        lost = 0
        while True:
            try:
                await self._attempt_once()
                return
            except Expired:
                if not await self._start_over(lost=False):
                    return
            except Unknown as error:
                lost += 1
                await self._await_adoption(error)
                if not await self._start_over(lost=True):
                    return
                # An upstream in trouble has hardly got over it by now, and starts are few.
                await asyncio.sleep(back_off(2 * lost))

    async def _start_over(self, *, lost: bool) -> bool:
        return await self._desk.db(ledger.start_over, self.run, driver=self._desk.name, lost=lost)

    async def _attempt_once(self) -> None:
        try:
            await self._follow()
        except EngineError:
            await self._desk.note_standing(self.run, self._gate)
            raise
        await self._desk.note_standing(self.run, self._gate)

    async def _begin(self) -> Begun | None:
        number = self.run.attempt + 1 if self.run.state is RunStatus.QUEUED else None
        try:
            return await self._desk.begin(self.run)
        except asyncio.CancelledError:
            if number is not None:
                await self._nothing_sent(number)
            raise

    async def _nothing_sent(self, number: int) -> None:
        """It may be on the rows that a start is made; the next must not believe it."""
        noting = self._desk.db(ledger.not_taken, self.run, number, driver=self._desk.name)
        with contextlib.suppress(Error):
            await asyncio.shield(noting)

    async def _await_adoption(self, error: Unknown) -> None:
        """A start was lost. Where webhooks come in, one may still say whose it was: that makes the
        row due, and this wait ends with the knock."""
        seconds = await self._desk.db(ledger.adoption_seconds, self.run)
        if seconds:
            await self._tell(f"{error} Waiting for word of it.")
            await asyncio.sleep(seconds)

    async def _follow(self) -> None:
        """Start the attempt or go on with it, and look until it needs no more looking."""
        begun = self._went_on() or await self._begin()
        if begun is None:
            return
        attempt, work = begun.attempt, begun.work
        del begun  # or the whole thread stays in memory until its answer is there
        engine = self._desk.engine(work.connection.kind)
        seen: Progress | None = None
        failures = 0
        while True:
            try:
                progress = await self._ask(engine, attempt, work, seen)
            except Unavailable as error:
                failures += 1
                self._trouble = error
                await self._wait_and_see(error, failures)
                continue
            if progress is None:
                if engine.works_here:  # or it went on beside the next driver's
                    await self._tidy(engine, _next_look(work, Progress("working")))
                return
            failures, self._trouble, seen = 0, None, progress
            if progress.outcome != "working":
                self._desk.reviews_due |= self.run.wants_review
                if progress.outcome != "requires_action":
                    await self._tidy(engine, _next_look(work, progress))
                return
            work = _next_look(work, progress)
            if progress.look_again >= WORTH_PARKING and not engine.works_here:
                self._waits = self._parked(attempt, work, progress)
                return
            await asyncio.sleep(max(progress.look_again, PAUSE))

    def _went_on(self) -> Begun | None:
        """The attempt that was looked at while its run was parked."""
        unparked, self._unparked = self._unparked, None
        if unparked is None or not unparked.is_news_of(self.run):
            return None
        self._news = unparked.news
        return Begun(unparked.attempt, unparked.sighting)

    def _parked(self, attempt: RunAttempt, sighting: Sighting, seen: Progress) -> Parked:
        run = self.run
        sighting = replace(sighting, connection=self._desk.shared(sighting.connection))
        has_no_items = attempt.has_no_items
        return Parked(run.pk, run.connection_id, self._gate, sighting, seen, has_no_items)

    async def _ask(
        self, engine: Engine, attempt: RunAttempt, work: Turn | Sighting, seen: Progress | None
    ) -> Progress | None:
        """Start or look, and record what is new. None: the run is no longer ours."""
        if isinstance(work, Turn):
            return await self._start(engine, attempt, work)
        progress = await self._look(engine, work)
        if progress == seen or await self._record(attempt, progress):
            return progress
        return None

    async def _look(self, engine: Engine, sighting: Sighting) -> Progress:
        news, self._news = self._news, None
        if isinstance(news, Exception):
            raise news
        return news or await engine.look(sighting)

    async def _tidy(self, engine: Engine, sighting: Sighting) -> None:
        """Only now that the answer is on the rows: before, it would be lost with us."""
        try:
            await asyncio.wait_for(engine.tidy(sighting), patience.CANCEL_WITHIN)
        except (EngineError, TimeoutError) as error:
            logger.warning("%s was not removed upstream: %s", self.run.public_id, error)
        except Exception:
            logger.exception("%s was not removed upstream", self.run.public_id)

    async def _may_start(self, attempt: RunAttempt) -> bool:
        """Wait until others may start as well, unless the gate let the run in for this very start.
        False: it is no longer ours to make."""
        if attempt.state is not None or attempt.sent_at is not None:
            return True
        await self._gate.enter_again(self._tell)
        try:
            return await self._desk.db(ledger.send, attempt, driver=self._desk.name)
        except asyncio.CancelledError:
            await self._nothing_sent(attempt.number)
            raise

    async def _start(self, engine: Engine, attempt: RunAttempt, turn: Turn) -> Progress | None:
        if not await self._may_start(attempt):
            return None
        starting = self._start_and_record(engine, attempt, turn)
        return await (starting if engine.start_is_repeatable else seen_through(starting))

    async def _start_and_record(
        self, engine: Engine, attempt: RunAttempt, turn: Turn
    ) -> Progress | None:
        try:
            progress = await engine.start(turn)
        except (Unavailable, Rejected):
            if attempt.state is None:
                attempt.sent_at = None
                driver = self._desk.name
                number = attempt.number
                await self._patiently(
                    self._desk.db, ledger.not_taken, self.run, number, driver=driver
                )
            raise
        if await self._record(attempt, progress):
            return progress
        if self.run.state is RunStatus.EXPIRED:  # beside the start: the rows know of no answer
            await self._tell_upstream_to_stop(_next_look(turn, progress))
        return None

    async def _wait_and_see(self, error: Unavailable, failures: int) -> None:
        """Wait as long as the upstream wants."""
        await self._desk.note_standing(self.run, self._gate)
        await self._tell(str(error))
        await asyncio.sleep(error.retry_after or back_off(failures))

    # --- what reaches the rows ------------------------------------------------------------

    async def _record(self, attempt: RunAttempt, progress: Progress) -> bool:
        return await self._patiently(self._desk.record, self.run, attempt, progress)

    async def _patiently(
        self, write: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Write what nobody else knows: to let go of it while the database is away or the disk is
        full would mean to ask the upstream for another answer."""
        failures = 0
        while True:
            try:
                return await write(*args, **kwargs)
            except (Error, OSError) as error:
                if not may_pass(error):
                    raise
                failures += 1
                await self._rest(error, failures)

    async def _rest(self, error: Exception, failures: int) -> None:
        name = self.run.public_id
        logger.warning("%s could not be recorded, trying again: %s", name, error)
        await asyncio.sleep(back_off(failures))

    async def _tell(self, reason: str) -> None:
        """Say in words why the run does not move."""
        await self._desk.note_wait((self.run, reason))

    async def _fail(self, message: str, code: str = "server_error") -> None:
        await self._desk.db(recording.fail, self.run, message, code=code, driver=self._desk.name)

    async def _expire(self) -> None:
        if not self.run.is_ended and not await self._expire_row():
            # The wall clock lags behind ours, or somebody gave the run more time.
            due_at = self.run.expires_at
            await self._desk.db(ledger.let_go, self.run, driver=self._desk.name, due_at=due_at)
        if self.run.state is RunStatus.EXPIRED:
            await self._tell_upstream_to_stop()

    async def _expire_row(self) -> bool:
        """Not behind what the other runs record: that may take seconds."""
        trouble = self._trouble
        waited_for = {"code": trouble.code, "message": str(trouble)} if trouble else None
        return await self._desk.deadline_db(recording.expire, self.run, error=waited_for)

    async def _cancel(self) -> None:
        await self._tell_upstream_to_stop()
        await self._desk.db(recording.end, self.run, RunStatus.CANCELLED)

    async def _tell_upstream_to_stop(self, sighting: Sighting | None = None) -> None:
        """Best effort, in bounded time: an upstream that does not listen delays nobody, nor does
        an engine with a fault."""
        try:
            sighting = sighting or await self._desk.db(ledger.current_sighting, self.run)
            if sighting is not None:
                engine = self._desk.engine(sighting.connection.kind)
                await asyncio.wait_for(engine.cancel(sighting), patience.CANCEL_WITHIN)
        except Error:
            raise
        except (EngineError, SecretUnreadable, TimeoutError) as error:
            logger.warning("%s was not cancelled upstream: %s", self.run.public_id, error)
        except Exception:
            logger.exception("%s was not cancelled upstream", self.run.public_id)


def _next_look(work: Turn | Sighting, progress: Progress) -> Sighting:
    if isinstance(work, Sighting):
        return work if work.state == progress.state else replace(work, state=progress.state)
    return Sighting(
        run_id=work.run_id,
        attempt=work.attempt,
        attempt_key=work.attempt_key,
        state=progress.state,
        connection=work.connection,
        deadline=work.deadline,
    )
