"""Equal parts of a limit, for drivers that have nothing but the rows to tell what others hold."""

from __future__ import annotations

from dataclasses import replace

from django.db.models import Count
from django.utils import timezone

from assistant_manager.engines.allotments import Limits
from conversations.models import DriverHeartbeat, Run, RunStatus


def part_of(limits: Limits, connection: int, *, driver: str) -> Limits:
    """The part of `driver`; nothing while it does not count as alive.

    The parts of all drivers add up to the limit. Where one has more under way than its part, from
    before, all others take that much less.
    """
    drivers = sorted(DriverHeartbeat.objects.alive(timezone.now()).values_list("name", flat=True))
    if driver not in drivers:
        return Limits(0 if limits.places is not None else None, limits.per_minute)
    per_minute = limits.per_minute and limits.per_minute / len(drivers)
    if limits.places is None:
        return replace(limits, per_minute=per_minute)
    least, rest = divmod(limits.places, len(drivers))
    parts = {name: least + (rank < rest) for rank, name in enumerate(drivers)}
    too_many = sum(
        max(0, inside - parts.get(name, 0))
        for name, inside in _under_way(connection).items()
        if name != driver
    )
    return Limits(max(0, parts[driver] - too_many), per_minute)


def _under_way(connection: int) -> dict[str, int]:
    """Answers under way, by the driver that looks after them; "" for those of nobody."""
    counts = (
        Run.objects.filter(
            connection=connection, status__in=(RunStatus.IN_PROGRESS, RunStatus.CANCELLING)
        )
        .values_list("leased_by")
        .annotate(Count("pk"))
        .order_by()
    )
    return {name or "": number for name, number in counts}
