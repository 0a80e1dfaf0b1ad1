"""Who holds how much of one connection's limits: the whole rule, without a clock or a store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Self

from assistant_manager.engines.allotments import KEEP_FOR, Ask, Share

BURST = 1 / 12
"""The part of a minute's allowance that may be used at once."""


@dataclass(slots=True)
class Holding:
    """What one driver holds until `until`. `needs`: places it could use, those it has included;
    `served_at`: when it was last given one."""

    places: int
    needs: int
    until: float
    served_at: float = 0.0

    @property
    def is_hungry(self) -> bool:
        return self.needs > self.places


@dataclass(slots=True)
class Book:
    """Times are seconds of the store's clock. `starts` None: not counted yet, as many as may be made
    at once."""

    holdings: dict[str, Holding] = field(default_factory=dict)
    starts: float | None = None
    counted_at: float = 0.0

    @classmethod
    def new(cls, now: float, *, full: bool) -> Self:
        """Not `full`: starts may have been made already, so none may be made at once."""
        return cls(starts=None if full else 0.0, counted_at=now)

    @classmethod
    def read(cls, text: str) -> Self:
        kept = json.loads(text)
        kept["holdings"] = {name: Holding(**held) for name, held in kept["holdings"].items()}
        return cls(**kept)

    def write(self) -> str:
        return json.dumps(asdict(self))

    def settle(self, driver: str, ask: Ask, *, now: float, lease: float) -> Share:
        """Note what `driver` holds and give it what it may have, for `lease` seconds. The others
        have it a little later: they count what it had under way once they have taken it over."""
        self._drop_lapsed(now)
        places = self._places(driver, ask, now, lease)
        starts, next_start_in = self._starts(ask, now)
        contested = any(held.is_hungry for name, held in self.holdings.items() if name != driver)
        return Share(places, starts, next_start_in, contested, keeps=lease)

    def _drop_lapsed(self, now: float) -> None:
        self.holdings = {name: held for name, held in self.holdings.items() if held.until > now}

    # --- places ---------------------------------------------------------------------------

    def _places(self, driver: str, ask: Ask, now: float, lease: float) -> int:
        before = self.holdings.pop(driver, Holding(0, 0, 0.0))
        needs = ask.inside + ask.places
        keep_for = lease + KEEP_FOR if ask.keep_for is None else ask.keep_for
        if ask.limits.places is None or keep_for <= 0:
            return 0
        free = max(0, ask.limits.places - sum(held.places for held in self.holdings.values()))
        if any(held.is_hungry for held in self.holdings.values()):
            wanted = self._fair_part(driver, needs, before.served_at, ask.limits.places)
        else:
            wanted = needs + min(ask.spare, max(0, free - needs) // 2)
        places = min(wanted, free)
        held = max(places, ask.inside)
        served_at = now if places > before.places else before.served_at
        self.holdings[driver] = Holding(held, needs, now + keep_for, served_at)
        return places

    def _fair_part(self, driver: str, needs: int, served_at: float, limit: int) -> int:
        """Equal parts for all, but to nobody more than it needs; of what cannot be divided, one to
        each of those who have waited longest."""
        left = {name: held.needs for name, held in self.holdings.items()} | {driver: needs}
        served = {name: held.served_at for name, held in self.holdings.items()}
        served[driver] = served_at
        queue = sorted(left, key=lambda name: (served[name], name))
        part = 0
        while limit and (queue := [name for name in queue if left[name]]):
            each = max(1, limit // len(queue))
            for name in queue:
                given = min(each, left[name], limit)
                left[name] -= given
                limit -= given
                part += given if name == driver else 0
        return part

    # --- starts ---------------------------------------------------------------------------

    def _starts(self, ask: Ask, now: float) -> tuple[int, float]:
        """A token bucket: a rate, of which a part may be used at once."""
        per_minute = ask.limits.per_minute
        if not per_minute:
            self.starts = None
            return 0, 0.0
        most = max(per_minute * BURST, 1.0)
        if self.starts is None:
            self.starts = most
        came = max(0.0, now - self.counted_at) * per_minute / 60
        self.starts = min(most, self.starts + came + ask.starts_back)
        self.counted_at = max(now, self.counted_at)
        spare = min(ask.spare, max(0, int(self.starts) - ask.starts) // 2)
        given = min(ask.starts + spare, int(self.starts))
        self.starts -= given
        return given, max(0.0, 1 - self.starts) * 60 / per_minute
