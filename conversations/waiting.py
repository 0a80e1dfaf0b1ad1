"""How many questions wait, since when, and about how long one of them still will; in words.

Estimates are guesses from rows and cost a few milliseconds, whatever the length of the queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, QuerySet
from django.utils import timezone

from conversations.models import Run, RunAttempt, RunStatus

LOOKING_BACK = timedelta(minutes=5)
"""How far the pace of a connection is looked at."""
ATTEMPTS_AT_MOST = 500
"""How many of the latest starts are read for it."""
SOON = timedelta(seconds=2)
"""Nothing is said of questions that wait for less: nearly all have begun by then."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The questions that wait for one connection."""

    connection: str
    length: int
    since: datetime
    """When the one that waits longest was asked, or last given back by a driver."""

    @property
    def age(self) -> timedelta:
        return timezone.now() - self.since

    def __str__(self) -> str:
        questions = "1 question waits" if self.length == 1 else f"{self.length} questions wait"
        longest = "for" if self.length == 1 else "the oldest for"
        return f"{questions} for “{self.connection}”, {longest} {in_words(self.age)}"


@dataclass(frozen=True, slots=True)
class Outlook:
    """How many questions are before one, and for about how long; None: nobody can say."""

    before: int
    left: timedelta | None

    def __str__(self) -> str:
        before = "1 question" if self.before == 1 else f"{self.before} questions"
        if self.left is None:
            return f"{before} before it."
        return f"About {in_words(self.left)}, {before} before it."


def queues(rows: QuerySet[Run]) -> list[Queue]:
    """The queue of each connection that has one among `rows`, the oldest first."""
    queued = rows.filter(status=RunStatus.QUEUED).order_by()
    found: dict[str, tuple[int, datetime]] = {}
    for part, since in (
        (queued.filter(leased_by=None, due_at__isnull=False), "due_at"),
        (queued.filter(leased_by__isnull=False), "created_at"),  # at the gate, in a driver's hand
    ):
        counted = part.values_list("connection__name").annotate(Count("pk"), Min(since))
        for name, length, oldest in counted:
            others, before = found.get(name, (0, oldest))
            found[name] = others + length, min(before, oldest)
    return sorted((Queue(name, *rest) for name, rest in found.items()), key=lambda q: q.since)


def outlook(run: Run) -> Outlook | None:
    """What is to be said of a question that waits; None where it is hardly waiting, or next."""
    now = timezone.now()
    if run.state is not RunStatus.QUEUED or now - run.created_at < SOON:
        return None
    before = _before(run)
    if not before:
        return None
    if run.connection.pause:
        return Outlook(before, None)
    pace = _starts_a_second(run.connection_id, now)
    return Outlook(before, timedelta(seconds=before / pace) if pace else None)


def _before(run: Run) -> int:
    """Those that drivers have taken up before it, and those that have their turn before it: as many
    of each other project as of its own."""
    queued = Run.objects.filter(connection=run.connection_id, status=RunStatus.QUEUED)
    taken_up = queued.filter(leased_by__isnull=False)
    if run.leased_by is not None:
        return taken_up.filter(created_at__lt=run.created_at).count()
    outside = queued.filter(leased_by=None, due_at__isnull=False)
    own = outside.filter(project=run.project_id, due_at__lt=run.due_at).count()
    others = outside.exclude(project=run.project_id).order_by().values_list("project")
    lengths: Iterable[tuple[int, int]] = others.annotate(Count("pk"))
    return taken_up.count() + own + sum(min(length, own) for _, length in lengths)


def _starts_a_second(connection: int, now: datetime) -> float:
    """0 where the connection has not begun enough to tell."""
    latest = RunAttempt.objects.order_by("-pk").values_list("run__connection", "created_at")
    recent = [row for row in latest[:ATTEMPTS_AT_MOST] if row[1] > now - LOOKING_BACK]
    starts = sum(1 for key, _ in recent if key == connection)
    if starts < 2:
        return 0.0
    return starts / (now - min(at for _, at in recent)).total_seconds()


def in_words(time: timedelta) -> str:
    seconds = max(time.total_seconds(), 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = round(seconds / size)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{round(seconds)} seconds" if seconds >= 10 else "a few seconds"
