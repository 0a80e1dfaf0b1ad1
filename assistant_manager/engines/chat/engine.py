"""The engine for servers that speak Chat Completions."""

from __future__ import annotations

import asyncio
import importlib
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

from assistant_manager.engines.base import (
    ConnectionInfo,
    Engine,
    Inspection,
    Progress,
    Sighting,
    Turn,
)
from assistant_manager.engines.cells import Workplace
from assistant_manager.engines.chat.inspection import inspect
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.chat.rounds import Rounds
from assistant_manager.engines.chat.work import Work
from assistant_manager.engines.clients import Clients
from assistant_manager.engines.exceptions import Expired, Unavailable
from assistant_manager.sandbox import Sandbox

KEPT_SECONDS = 300.0
"""How long work is kept that nobody looks at: its driver has lost the run."""


class ChatEngine(Engine):
    """Works in this process: each attempt is a task that goes on between two looks.

    An end is kept until `tidy`, so that a driver which could not record it hears it again.
    """

    kind = "chat"
    options = ChatOptions
    works_here = True

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self._workplace = Workplace(sandbox)
        self._clients = Clients()
        self._unknown: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
        self._works: dict[str, Work] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._chores: set[asyncio.Task[None]] = set()

    async def start(self, turn: Turn) -> Progress:
        key = turn.attempt_key
        if key in self._works and self._works[key].turn.connection != turn.connection:
            await self._drop(key)  # the row was edited: its keys or its place may be others
        if key not in self._works:
            self._works[key] = Work(self._rounds(turn))
        return await self._watch(key, self._works[key].take_up())

    async def look(self, sighting: Sighting) -> Progress:
        if sighting.attempt_key not in self._works:
            raise Expired("This process does not work on the attempt any more.")
        return await self._watch(sighting.attempt_key, self._works[sighting.attempt_key].look())

    async def cancel(self, sighting: Sighting) -> None:
        await self._drop(sighting.attempt_key)

    async def tidy(self, sighting: Sighting) -> None:
        await self._drop(sighting.attempt_key)

    async def inspect(self, connection: ConnectionInfo, model: str) -> Inspection:
        return await inspect(self._clients.of(connection), model)

    async def warm_up(self) -> None:
        # Most of a second, in which the loop would stand still.
        await asyncio.to_thread(importlib.import_module, "openai")
        await self._workplace.warm_up()

    async def close(self) -> None:
        for key in list(self._works):
            await self._drop(key)
        await self._clients.close()
        await self._workplace.close()  # last: a kernel that is just being started takes its time

    def _rounds(self, turn: Turn) -> Rounds:
        client, unknown = self._clients.of(turn.connection), self._unknown
        model = (turn.connection.id, turn.model)
        return Rounds(turn, client, self._workplace.open(), unknown[model])

    async def _watch(self, key: str, looking: Coroutine[Any, Any, Progress]) -> Progress:
        self._keep(key)
        try:
            return await looking
        except Unavailable as error:
            self._keep(key, error.retry_after or 0)
            raise
        except (Exception, asyncio.CancelledError):
            # Whoever was waiting has gone: who comes next goes on from the rows, and what is done
            # here meanwhile would not be what is there.
            await self._drop(key)
            raise

    def _keep(self, key: str, more: float = 0) -> None:
        """Count the time anew after which the work is given up, `more` seconds later than usual."""
        if key in self._timers:
            self._timers[key].cancel()
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(KEPT_SECONDS + more, self._give_up, key)

    def _give_up(self, key: str) -> None:
        chore = asyncio.create_task(self._drop(key))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _drop(self, key: str) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if work := self._works.pop(key, None):
            await work.stop()
