"""Calls that come together go to the database together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from conversations.patience import may_pass

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGEST = 100
"""Calls in one batch: what is asked meanwhile must not wait for longer than a moment."""


class Batch(Generic[Item, Result]):
    """While one batch is under way, the next one gathers: a call that comes alone waits for nobody.

    `work` is given the items and returns for each its result, or the exception to raise.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]]
    ) -> None:
        self._work = work
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Raises what `work` returned, or raised, for this item. Cancelled before its batch has
        set out, the call is never made."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._go())
        return await future

    async def _go(self) -> None:
        try:
            while self._waiting:
                calls = [call for call in self._waiting[:LARGEST] if not call[1].done()]
                del self._waiting[:LARGEST]
                if calls:
                    await self._make(calls)
        finally:
            self._task = None

    async def _make(self, calls: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._work([item for item, _ in calls])
        except Exception as error:
            if len(calls) > 1 and not may_pass(error):
                # Whose fault it is nobody knows: alone, each of the others succeeds.
                for call in calls:
                    if not call[1].done():
                        await self._make([call])
                return
            results = [error] * len(calls)
        for (_, future), result in zip(calls, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
