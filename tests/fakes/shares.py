"""Shares without a store: several gates of one loop stand for several processes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from assistant_manager.engines.allotments import Ask, Share, SharesUnknown
from conversations.shares.book import Book


@dataclass
class Shelf:
    """The book of one connection, as all processes see it."""

    lease: float = 60.0
    later: float = 0.0
    """Seconds by which its clock is ahead of that of the processes."""
    book: Book = field(default_factory=Book)
    asks: list[Ask] = field(default_factory=list)
    trouble: str = ""
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answering.set()

    def of(self, driver: str) -> OnShelf:
        return OnShelf(self, driver)

    def held(self, driver: str) -> int:
        return self.book.holdings[driver].places if driver in self.book.holdings else 0


@dataclass(frozen=True)
class OnShelf:
    shelf: Shelf
    driver: str

    async def settle(self, ask: Ask) -> Share:
        self.shelf.asks.append(ask)
        await self.shelf.answering.wait()
        if self.shelf.trouble:
            raise SharesUnknown(self.shelf.trouble)
        now = time.monotonic() + self.shelf.later
        return self.shelf.book.settle(self.driver, ask, now=now, lease=self.shelf.lease)
