"""The task that works on one attempt, and how to watch it."""

from __future__ import annotations

import asyncio

from assistant_manager.engines.base import Progress
from assistant_manager.engines.chat.rounds import Rounds
from assistant_manager.engines.exceptions import Expired, Unavailable

SHORTEST_LOOK, LONGEST_LOOK = 0.25, 1.0
"""Seconds between two looks at a text that grows: each is a write to the database."""


class Work:
    """`take_up`, then `look` as often as one likes."""

    def __init__(self, rounds: Rounds) -> None:
        self.turn, self._rounds = rounds.turn, rounds
        self._patience = SHORTEST_LOOK
        self._task: asyncio.Task[None] | None = None

    async def take_up(self) -> Progress:
        """Begin, and return as soon as the upstream has taken the question, or refused it. The
        same as `look` where the work is under way."""
        if self._task is not None:
            return await self.look()
        self._set_going()
        await self._rounds.news.wait()
        return self._seen()

    async def look(self) -> Progress:
        """What is known, at the latest after a second; at once when there is more than text.

        Raises what ended the work. After an Unavailable the next look goes on with it.
        """
        self._set_going()
        try:
            # Not wait_for, which in Python 3.11 may swallow a cancel.
            async with asyncio.timeout(self._patience):
                await self._rounds.news.wait()
            self._patience = SHORTEST_LOOK
        except TimeoutError:
            self._patience = min(self._patience * 2, LONGEST_LOOK)
        return self._seen()

    async def stop(self) -> None:
        """End the work wherever it is. The stream is closed and the kernel killed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._rounds.forget()

    def _set_going(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._rounds.run())
            self._task.add_done_callback(lambda _: self._rounds.news.set())

    def _seen(self) -> Progress:
        task = self._task
        if task is None or not task.done():
            self._rounds.news.clear()
        elif task.cancelled():
            raise Expired("The work on this attempt was stopped.")
        elif error := task.exception():
            if isinstance(error, Unavailable):
                self._task = None
                self._rounds.news.clear()
            raise error
        return self._rounds.progress
