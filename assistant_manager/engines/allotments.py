"""What this process may start at one connection, of a limit that all processes keep together.

The others are asked for many at a time, in the background: as long as a limit is far away, no start
waits for them. Like the gate it belongs to, an allotment lives on one event loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

RENEW = 0.75
"""Seconds between two asks while anything is held, and while nobody answers: so soon do others get what is not needed."""
POLL = 0.25
"""Seconds, about, between two asks while no place is free."""
GAP = 0.02
"""Seconds at least between two asks."""
KEEP_FOR = 3.0
"""Seconds that the places of a process stay taken once it has ended, or its lease has: its answers
go on upstream, and count until others have taken them over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the connection's row: answers under way at once, and starts a minute. None: no limit."""

    places: int | None = None
    per_minute: float | None = None

    def __bool__(self) -> bool:
        return bool(self.places or self.per_minute)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who is at a gate: under way, asking for a place, asking for another try of a start."""

    inside: int = 0
    waiting: int = 0
    trying_again: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """What a process holds and wants.

    It keeps no more places than it has `inside`, and no starts, until it is answered. `spare`
    places and starts are for those who may come before it asks again. `keep_for` is in seconds; None:
    until its lease and KEEP_FOR have passed.
    """

    connection: int
    limits: Limits
    inside: int
    places: int = 0
    """How many more are wanted."""
    starts: int = 0
    spare: int = 0
    starts_back: int = 0
    keep_for: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    places: int
    """How many may be inside. Fewer than are: so many are to leave before another may go in."""
    starts: int
    next_start_in: float
    """Seconds until there is another start to be had; 0 where there is one now."""
    contested: bool
    """Another process waits for places."""
    keeps: float
    """Seconds from the ask on that this holds without another."""


class SharesUnknown(Exception):
    """Nobody can tell what others hold; says why in words."""


class Shares(Protocol):
    """Knows what every process holds."""

    async def settle(self, ask: Ask) -> Share:
        """Note what a process holds and give it what it may have. Raises SharesUnknown."""
        ...


class Allotment:
    def __init__(
        self,
        connection: int,
        shares: Shares,
        crowd: Callable[[], Crowd],
        changed: Callable[[], None],
    ) -> None:
        self.limits = Limits()
        self.trouble = ""
        """Why nobody knows what others hold; "" while that is known."""
        self._connection, self._shares = connection, shares
        self._crowd, self._changed = crowd, changed
        self._share = Share(0, 0, 0.0, contested=False, keeps=0.0)
        self._places = self._starts = 0
        self._holds_until = 0.0  # on the monotonic clock
        self._short_of_places = self._short_of_starts = False
        self._taken = 0
        self._asking = self._closed = False
        self._asked_at = 0.0
        self._called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- for the gate ---------------------------------------------------------------------

    def obstacle(self, name: str, *, for_place: bool) -> str | None:
        """Why nothing may be started now, or None. "" while the others are being asked: it is too
        early to say."""
        if for_place and not self._has_place():
            words = f"Waiting for a place: “{name}” takes {self.limits.places} at once."
            is_known = self._short_of_places
        elif self.limits.per_minute is not None and self._starts < 1:
            words = f"Waiting for quota at “{name}”."
            is_known = self._short_of_starts
        else:
            return None
        if self._asking or self._closed:
            return ""
        if self.trouble or is_known:
            return self.trouble or words
        self.call()
        return ""

    def limit(self, limits: Limits) -> None:
        """Take over what staff may have edited."""
        if limits != self.limits:
            before, self.limits = self.limits, limits
            if before or self._is_used:
                self.call()

    def take(self) -> None:
        self._taken += 1
        if self.limits.per_minute is not None:
            self._starts -= 1

    def came_or_left(self) -> None:
        """Somebody was taken over, or left: others hear of it now where it matters to them."""
        crowd = self._crowd()
        is_over = crowd.inside >= self._places
        is_spare = crowd.inside + crowd.waiting < self._places
        is_uncounted = crowd.inside > self._places
        if self.limits.places is not None and (
            is_uncounted or (self._share.contested and (is_over or is_spare))
        ):
            self.call()

    def call(self) -> None:
        """Ask the others soon."""
        if self._closed:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._keep_asking())
        else:
            self._called.set()

    def close(self) -> None:
        """Ask no more, and take nothing. `give_back` follows."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    async def give_back(self, inside: int) -> None:
        """Leave the others what is held, but for the places of the answers that still go on."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._holds_until > time.monotonic():
            keep_for = KEEP_FOR if inside else 0.0
            back = max(self._starts, 0)
            with suppress(SharesUnknown):
                await self._shares.settle(
                    Ask(self._connection, self.limits, inside, starts_back=back, keep_for=keep_for)
                )

    # --- asking ---------------------------------------------------------------------------

    @property
    def _is_used(self) -> bool:
        crowd = self._crowd()
        wants = crowd.waiting or crowd.trying_again
        counts = crowd.inside and self.limits.places is not None
        return bool(self._places or self._starts > 0 or counts or (self.limits and wants))

    def _has_place(self) -> bool:
        if self.limits.places is None:
            return True
        return time.monotonic() < self._holds_until and self._crowd().inside < self._places

    async def _keep_asking(self) -> None:
        while True:
            self._called.clear()
            await self._ask()
            if not self._is_used:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._called.wait()
            await asyncio.sleep(max(0.0, self._asked_at + GAP - time.monotonic()))

    def _pause(self) -> float:
        crowd = self._crowd()
        pause = RENEW
        if self._short_of_places and crowd.waiting:
            pause = POLL * _about()
        if self._short_of_starts and (crowd.waiting or crowd.trying_again):
            pause = min(pause, self._share.next_start_in + POLL / 10 * _about())
        return pause

    async def _ask(self) -> None:
        crowd = self._crowd()
        starts = crowd.waiting + crowd.trying_again
        ask = Ask(
            self._connection,
            self.limits,
            crowd.inside,
            places=crowd.waiting,
            starts=starts,
            spare=self._taken,
            starts_back=max(self._starts, 0),
        )
        # Meanwhile whoever leaves may be followed, but not beyond what we were given last.
        self._places = min(crowd.inside, self._share.places)
        self._taken = self._starts = 0
        self._asking, self._asked_at = True, time.monotonic()
        try:
            self._take(ask, await self._shares.settle(ask))
        except SharesUnknown as error:
            self.trouble = str(error)
        finally:
            self._asking = False
            self._changed()

    def _take(self, ask: Ask, share: Share) -> None:
        self.trouble = ""
        self._share, self._places, self._starts = share, share.places, share.starts
        self._holds_until = self._asked_at + share.keeps
        has_limit = self.limits.places is not None
        self._short_of_places = has_limit and share.places < ask.inside + ask.places
        self._short_of_starts = share.starts < ask.starts


def _about() -> float:
    """Around 1: processes that ask in step would always be answered in the same order."""
    return random.uniform(0.5, 1.5)  # noqa: S311 (no secret)
