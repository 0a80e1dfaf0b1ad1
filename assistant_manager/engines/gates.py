"""The gate of a connection: who may start an answer there now, and why others wait.

One gate a connection and process. It lives on the event loop that uses it and is not thread-safe.
Clients feed it with what the upstream says of its limits and troubles; the driver asks it before
it starts a run, and writes the part that people and other processes should know to the row. The
limits of the row are kept together with the gates of other processes, by way of `Shares`.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from django.utils import timezone

from assistant_manager.engines.allotments import Allotment, Crowd, Limits, Shares
from assistant_manager.engines.base import Key

Tell = Callable[[str], Awaitable[None]]
"""Told in words why a run waits, whenever the reason changes."""

TROUBLES_AT_MOST = 5
"""Failures in a row, of whichever run, after which a connection counts as out of order."""
OUTAGE_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
BILLING_SECONDS = (60.0, 120.0, 300.0, 900.0)
PROBE_SECONDS = 60.0
"""How long the first run after an outage may take to tell whether it is over."""
ASKING = ("", None)
"""The obstacle while other processes are asked what they hold: no reason to tell anybody yet."""
LONGEST_WAIT = 3600.0
"""Seconds. An upstream that names a longer time, or the end of all days, is asked again before."""
LONGEST_RESET = 86400.0
"""Seconds. No allowance is counted over more than a day."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(duration: str) -> float | None:
    """Seconds of a duration as rate-limit headers write it: `120ms`, `6m0s`, `1.5`; None for
    anything else, `inf` and `nan` included."""
    parts = _DURATION.findall(duration)
    if parts and "".join(number + unit for number, unit in parts) == duration.strip():
        return sum(float(number) * _UNIT[unit] for number, unit in parts)
    try:
        seconds = float(duration)
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


class Bucket:
    """A token bucket: `per_minute` starts, of which at most `burst` at once."""

    def __init__(self, per_minute: float, burst: float) -> None:
        self.per_minute, self.burst = per_minute, max(burst, 1.0)
        self._level = self.burst
        self._at = time.monotonic()

    def wait(self) -> float:
        """Seconds until one may be taken; 0 when one may now."""
        self._fill()
        return 0.0 if self._level >= 1 else (1 - self._level) * 60 / self.per_minute

    def take(self) -> None:
        self._fill()
        self._level -= 1

    def correct(self, per_minute: float, burst: float, remaining: float) -> None:
        """The upstream says how it counts, and that no more than so many are left."""
        self._fill()
        self.per_minute, self.burst = per_minute, max(burst, 1.0)
        self._level = min(self._level, remaining)

    def _fill(self) -> None:
        now = time.monotonic()
        self._level = min(self.burst, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now


@dataclass(frozen=True, slots=True)
class Standing:
    """How a connection stands, as its row says it. `paused_until` None: nothing keeps runs back.
    `key_in_use` is 1 or 2; `key_note` says why it is not the first, "" where it is."""

    paused_until: datetime | None = None
    pause_reason: str = ""
    key_in_use: int = 1
    key_note: str = ""


class Gate:
    def __init__(self, connection_id: int = 0, name: str = "") -> None:
        self.name = name
        self.inside = 0
        self.waiting = 0
        """How many ask to go in and may not yet."""
        self.standing = Standing()
        self._connection_id = connection_id
        self._trying_again = 0
        self._allotment: Allotment | None = None
        self._headers: Bucket | None = None
        self._paused_until = 0.0  # on the monotonic clock
        self._pauses_for_trouble = False
        self._troubles = 0
        self._probe_until = 0.0
        self._refused: set[str] = set()
        self._changed = asyncio.Event()
        # Two queues: those inside must never wait behind those who wait for them to leave.
        self._entrance = asyncio.Lock()
        self._retries = asyncio.Lock()

    # --- what the row says --------------------------------------------------------------

    def configure(self, name: str, limits: Limits, shares: Shares) -> None:
        """Take over the limits of the row, which may have been edited."""
        self.name = name
        if self._allotment is None and limits:
            self._allotment = Allotment(self._connection_id, shares, self._crowd, self._wake)
        if self._allotment is not None:
            self._allotment.limit(limits)

    def read(self, standing: Standing) -> None:
        """Take over what another process, or a person, has written to the row."""
        if standing == self.standing:
            return
        if standing.paused_until is None:
            self._troubles, self._paused_until, self._probe_until = 0, 0.0, 0.0
        elif standing.paused_until != self.standing.paused_until:
            left = (standing.paused_until - timezone.now()).total_seconds()
            self._paused_until = time.monotonic() + max(left, 0.0)
        self.standing = standing
        self._wake()

    # --- going in and out ---------------------------------------------------------------

    async def enter(self, tell: Tell) -> None:
        """Wait until one more answer may be started, in the order of asking. `leave` follows."""
        self.waiting += 1
        try:
            await self._pass(self._entrance, tell, for_place=True)
        finally:
            self.waiting -= 1
        self.inside += 1

    async def enter_again(self, tell: Tell) -> None:
        """Wait, as one who is inside, until the upstream may be asked once more."""
        self._trying_again += 1
        try:
            await self._pass(self._retries, tell, for_place=False)
        finally:
            self._trying_again -= 1

    def take_over(self) -> None:
        """Count an answer that is under way already. `leave` follows."""
        self.inside += 1
        if self._allotment is not None:
            self._allotment.came_or_left()

    def leave(self) -> None:
        self.inside -= 1
        if self._allotment is not None:
            self._allotment.came_or_left()
        self._wake()

    def close(self) -> int:
        """Let nobody in who counts against a limit; returns how many are inside. `give_back`
        follows, once they have left."""
        if self._allotment is not None:
            self._allotment.close()
        return self.inside

    async def give_back(self, inside: int) -> None:
        """Leave our part of the limits to other processes; so many answers still go on upstream."""
        if self._allotment is not None:
            await self._allotment.give_back(inside)

    def _crowd(self) -> Crowd:
        """Those who wait for something else are not to take places or starts from others."""
        if self._stop() is not None:
            return Crowd(self.inside)
        return Crowd(self.inside, self.waiting, self._trying_again)

    async def _pass(self, queue: asyncio.Lock, tell: Tell, *, for_place: bool) -> None:
        told = ""
        while queue.locked() and self._obstacle(for_place) == ASKING:
            await self._changed.wait()
        if queue.locked():
            await asyncio.sleep(0)  # whoever is in front may be going in just now
        if queue.locked():
            told = self._reason(for_place) or f"Waiting for earlier questions to “{self.name}”."
            await tell(told)
        async with queue:
            while True:
                # Taken before the look: what changes while we tell is not missed.
                changed = self._changed
                obstacle = self._obstacle(for_place)
                if obstacle is None:
                    break
                reason, seconds = obstacle
                if reason not in ("", told):
                    told = reason
                    await tell(reason)
                # Not wait_for, which in Python 3.11 may swallow a cancel.
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await changed.wait()
            if self._headers is not None:
                self._headers.take()
            if self._allotment is not None:
                self._allotment.take()
            if self._troubles >= TROUBLES_AT_MOST:
                self._probe_until = time.monotonic() + PROBE_SECONDS

    def _wake(self) -> None:
        """Have everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _reason(self, for_place: bool) -> str:
        obstacle = self._obstacle(for_place)
        return obstacle[0] if obstacle else ""

    def _obstacle(self, for_place: bool) -> tuple[str, float | None] | None:
        """Why nothing may be started now, and for how many seconds (None: until somebody leaves)."""
        stop = self._stop()
        if stop is not None or self._allotment is None:
            return stop
        reason = self._allotment.obstacle(self.name, for_place=for_place)
        return None if reason is None else (reason, None)

    def _stop(self) -> tuple[str, float] | None:
        """What the upstream has against another start, and for how many seconds."""
        now = time.monotonic()
        if self._paused_until > now:
            return self.standing.pause_reason, self._paused_until - now
        if self._probe_until > now:
            return f"Trying whether “{self.name}” answers again.", self._probe_until - now
        if self._headers is not None and (wait := self._headers.wait()):
            return f"Waiting for quota at “{self.name}”.", wait
        return None

    # --- what clients have seen ---------------------------------------------------------

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take over the limits an answer of the upstream tells of (`x-ratelimit-*`); its "reset" is
        how long until the whole allowance is back."""
        limit, remaining, reset = (
            seconds_of(headers.get(f"x-ratelimit-{what}-requests", ""))
            for what in ("limit", "remaining", "reset")
        )
        if limit and remaining is not None:
            spent = max(limit - remaining, 0.0)
            rate = spent * 60 / min(reset, LONGEST_RESET) if spent and reset else limit
            if self._headers is None:
                self._headers = Bucket(rate, limit)
            self._headers.correct(rate, limit, remaining)
        for what in ("requests", "tokens"):
            reset = seconds_of(headers.get(f"x-ratelimit-reset-{what}", ""))
            if reset and headers.get(f"x-ratelimit-remaining-{what}") == "0":
                self.wait_for_quota(reset)

    def wait_for_quota(self, seconds: float) -> None:
        self._pause(seconds, f"“{self.name}” takes no more just now: waiting for quota until")

    def out_of_credit(self) -> None:
        """The account behind the connection has no money left, or a spending limit was reached."""
        if self._is_resting:
            return
        self._troubles = max(self._troubles + 1, TROUBLES_AT_MOST)
        seconds = _step(BILLING_SECONDS, self._troubles - TROUBLES_AT_MOST)
        why = f"“{self.name}” has no credit left, or a spending limit was reached."
        self._pause(seconds, f"{why} Next try at", for_trouble=True)

    def failed(self) -> None:
        """One request met an upstream that is away or broken."""
        if self._is_resting:
            return
        self._troubles += 1
        if self._troubles >= TROUBLES_AT_MOST:
            seconds = _step(OUTAGE_SECONDS, self._troubles - TROUBLES_AT_MOST)
            self._pause(seconds, f"“{self.name}” does not answer. Next try at", for_trouble=True)

    def succeeded(self) -> None:
        """One request was answered, if only with a refusal: whatever the trouble was, it is over."""
        if self._troubles:
            self._troubles, self._probe_until = 0, 0.0
            if self._pauses_for_trouble:
                self._paused_until = 0.0
            self._wake()
        if self.standing.paused_until and self._paused_until <= time.monotonic():
            self.standing = replace(self.standing, paused_until=None, pause_reason="")

    @property
    def _is_resting(self) -> bool:
        """Whether a pause for trouble is on. What fails then was asked before: it is the same
        trouble and must not lengthen the pause."""
        return self._pauses_for_trouble and self._paused_until > time.monotonic()

    def in_order(self, keys: Sequence[Key]) -> list[Key]:
        """The keys as they should be tried: the one in use first, those that were refused last."""
        in_use = self.standing.key_in_use
        return sorted(keys, key=lambda key: (key.text in self._refused, key.number != in_use))

    def refused(self, key: Key) -> None:
        self._refused.add(key.text)

    def accepted(self, key: Key) -> None:
        """`key` works. A note stays while the other one does not."""
        self._refused.discard(key.text)
        if key.number != self.standing.key_in_use:
            moment = f"{timezone.localtime():%-d %B, %H:%M}"
            note = f"Key {3 - key.number} was refused on {moment}; key {key.number} is in use."
            self.standing = replace(
                self.standing, key_in_use=key.number, key_note=note if self._refused else ""
            )

    def _pause(self, seconds: float, reason: str, *, for_trouble: bool = False) -> None:
        """Keep new starts back that long; `reason` lacks the hour at its end."""
        seconds = min(seconds, LONGEST_WAIT)
        if for_trouble:
            self._probe_until = 0.0
        until = time.monotonic() + seconds
        if until <= self._paused_until:
            return
        self._paused_until, self._pauses_for_trouble = until, for_trouble
        moment = timezone.now() + timedelta(seconds=seconds)
        hour = f"{timezone.localtime(moment):{'%H:%M' if seconds >= 60 else '%H:%M:%S'}}"
        self.standing = replace(
            self.standing, paused_until=moment, pause_reason=f"{reason} {hour}."
        )
        self._wake()


def _step(steps: Sequence[float], number: int) -> float:
    return steps[min(number, len(steps) - 1)]


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Gate]] = WeakKeyDictionary()


def gate_of(connection_id: int, name: str = "") -> Gate:
    """The gate of this connection on the running event loop."""
    gates = _gates.setdefault(asyncio.get_running_loop(), {})
    if connection_id not in gates:
        gates[connection_id] = Gate(connection_id, name)
    return gates[connection_id]
