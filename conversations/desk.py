"""What the runs of one driver share: its name, its threads to the database, engines and gates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import Error, close_old_connections, connections

from assistant_manager.engines import engine_for
from assistant_manager.engines.base import ConnectionInfo, Engine, Progress
from assistant_manager.engines.exceptions import EngineError, Rejected
from assistant_manager.engines.gates import Gate, Standing, gate_of
from conversations import ledger, recording
from conversations.batches import Batch
from conversations.driver_names import new_name
from conversations.ledger import Begun, Held
from conversations.models import Run, RunAttempt
from conversations.shares import DriverShares

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_WITHIN = 5.0
"""Seconds an engine has to give back its processes and sockets."""


class Desk:
    """One a driver; used on its event loop only.

    Database work happens in one thread beside the loop, so that it is in order and the loop never
    waits for a disk. Only the leases and the deadlines have threads of their own: thousands of
    recordings in the queue must not keep those from being renewed, nor these from being kept.
    """

    def __init__(self) -> None:
        self.name = new_name()
        self.reviews_due = True  # a driver that died may have left answers nobody has queued
        self._engines: dict[str, Engine] = {}
        self._infos: dict[int, ConnectionInfo] = {}
        self._standings: dict[int, Standing] = {}
        self._shares = DriverShares(self.name)
        self._closed: dict[Gate, int] = {}
        self._database = ThreadPoolExecutor(1, thread_name_prefix="driver-database")
        self._leases = ThreadPoolExecutor(1, thread_name_prefix="driver-leases")
        self._deadlines = ThreadPoolExecutor(1, thread_name_prefix="driver-deadlines")
        self.begin = Batch[Run, Begun | None](partial(self._ours, ledger.begin_all))
        self.note_wait = Batch[tuple[Run, str], None](partial(self._ours, ledger.note_waits))
        self._record_start = Batch[tuple[RunAttempt, Progress], bool](
            partial(self._ours, recording.record_starts)
        )
        self._record = Batch[recording.Record, bool](partial(self._ours, recording.record_each))
        self.held = Batch[int, Held | None](partial(self._ours, ledger.held))

    async def record(self, run: Run, attempt: RunAttempt, progress: Progress) -> bool:
        """`recording.record`, in this driver's name."""
        if recording.is_bare_start(progress):
            return await self._record_start((attempt, progress))
        return await self._record((run, attempt, progress))

    async def held_late(self, run: int) -> Held | None:
        """As `held`, for a run whose time is up."""
        [held] = await self.deadline_db(ledger.held, [run], driver=self.name)
        return held

    async def _ours(self, work: Callable[..., T], items: Sequence[Any]) -> T:
        return await self.db(work, items, driver=self.name)

    async def db(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in the database thread."""
        return await _in(self._database, function, *args, **kwargs)

    async def lease_db(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in the thread of the leases."""
        return await _in(self._leases, function, *args, **kwargs)

    async def deadline_db(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in the thread of the deadlines."""
        return await _in(self._deadlines, function, *args, **kwargs)

    # --- engines ------------------------------------------------------------------------

    def engine(self, kind: str) -> Engine:
        """Raises Rejected where none of this kind is installed."""
        if kind not in self._engines:
            try:
                self._engines[kind] = engine_for(kind)
            except (KeyError, ImportError) as error:
                raise Rejected(f"No engine of kind “{kind}” is installed here.") from error
        return self._engines[kind]

    def shared(self, info: ConnectionInfo) -> ConnectionInfo:
        """The same, but one for all runs of a connection: thousands keep it for long."""
        known = self._infos.get(info.id)
        if known != info:
            known = self._infos[info.id] = info
        return known

    async def warm_up(self) -> None:
        """Have the engines ready before the first run asks for them."""
        try:
            for kind in await self.db(ledger.kinds_in_use):
                await self.engine(kind).warm_up()
        except (Error, EngineError) as error:
            logger.warning("An engine could not be prepared: %s", error)
        except Exception:
            logger.exception("An engine could not be prepared")

    # --- gates --------------------------------------------------------------------------

    def gate(self, run: Run) -> Gate:
        """The gate of the run's connection, as its row now has it."""
        row = run.connection
        gate = gate_of(row.pk, row.name)
        gate.configure(row.name, row.limits, self._shares)
        if row.pk not in self._standings:
            self._standings[row.pk] = row.standing
            gate.read(row.standing)
        return gate

    def crowded(self, most: int) -> list[int]:
        """The connections at whose gates that many runs wait already."""
        return [pk for pk in self._standings if gate_of(pk).waiting >= most]

    async def note_standing(self, run: Run, gate: Gate) -> None:
        """Put what the gate has come to know on the row, for people and other drivers."""
        standing = gate.standing
        if self._standings.get(run.connection_id) != standing:
            try:
                await self.db(ledger.note_standing, run.connection_id, standing)
            except Error as error:
                # The next to come by tries again; what its run has met must not be forgotten here.
                logger.warning("How “%s” stands could not be noted: %s", gate.name, error)
                return
            self._standings[run.connection_id] = standing

    async def read_standings(self) -> None:
        """Learn what people and other drivers have written about the connections we use."""
        known = dict(self._standings)
        rows = await self.lease_db(ledger.connections, known.keys())
        for row in rows:
            gate = gate_of(row.pk)
            gate.configure(row.name, row.limits, self._shares)
            if row.standing != known[row.pk] == self._standings[row.pk]:
                self._standings[row.pk] = row.standing
                gate.read(row.standing)

    # --- the end ------------------------------------------------------------------------

    def close_gates(self) -> None:
        """Before the runs are let go: what is under way upstream counts until others have it."""
        gates = [gate_of(connection) for connection in self._standings]
        self._closed = {gate: gate.close() for gate in gates}

    async def hand_over(self) -> None:
        """Give every lease back, after all that is being recorded and any renewal under way, then
        our part of the limits."""
        await self.db(connections.close_all)
        await self.deadline_db(connections.close_all)
        await self.lease_db(ledger.hand_over, driver=self.name)
        await self.lease_db(connections.close_all)
        for gate, inside in self._closed.items():
            await gate.give_back(inside)
        await self._shares.close()

    async def close(self) -> None:
        for kind, engine in self._engines.items():
            try:
                await asyncio.wait_for(engine.close(), CLOSE_WITHIN)
            except TimeoutError:
                logger.warning("The engine “%s” was not closed in time", kind)
            except Exception:
                logger.exception("The engine “%s” could not be closed", kind)
        self._database.shutdown(wait=False)
        self._leases.shutdown(wait=False)
        self._deadlines.shutdown(wait=False)


async def _in(
    thread: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    def call() -> T:
        try:
            return function(*args, **kwargs)
        except Error:
            close_old_connections()
            raise

    return await asyncio.get_running_loop().run_in_executor(thread, call)
