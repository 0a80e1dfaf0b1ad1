"""Events: each move of a run and each piece of its answer, numbered, for whoever watches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connection, models
from django.utils import timezone

from assistant_manager.models.base import ProjectQuerySet
from assistant_manager.models.prepared import keeping_plans
from conversations import bulk

CHANNEL = "assistant_manager_events"
"""Where PostgreSQL tells those who follow events that there are new ones."""

WORK_CHANNEL = "assistant_manager_runs"
"""Where it tells the drivers that there is something to do."""

if TYPE_CHECKING:
    from conversations.models.runs import Run


class RunEventQuerySet(ProjectQuerySet):
    PROJECT_PATH = "run__project"

    def append(self, run: Run, type: str, data: dict[str, Any]) -> None:
        self.append_all(run, [(type, data)])

    def append_all(self, run: Run, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Number and store `events`. Call it in the transaction that has just updated the run's
        row: that row's lock keeps two writers from taking the same number."""
        self.append_to([run], events)

    def append_to(self, runs: Iterable[Run], events: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Leave the same `events` with each of these runs."""
        fields, now = bulk.fields_of(RunEvent, *_TOLD), timezone.now()
        told = [bulk.prepared(fields, [type, data, now]) for type, data in events]
        rows = [[run.pk, run.pk, *values] for run in runs for values in told]
        if rows:
            with connection.cursor() as cursor:
                cursor.executemany(_append(), rows)

    def append_first(self, run: Run, types: Sequence[str], data: dict[str, Any]) -> None:
        """The first events of a run that is new, all in one statement: nobody else writes to it, so
        their numbers are known. Tells those who look for work as well, on commit."""
        rows = [
            RunEvent(run_id=run.pk, seq=seq, type=type, data=data)
            for seq, type in enumerate(types, start=1)
        ]
        fields = bulk.fields_of(RunEvent, *_FIRST)
        with keeping_plans() as cursor:
            cursor.execute(
                _first(len(rows)), [value for row in rows for value in bulk.values(row, fields)]
            )

    def after(self, run: Run, seq: int) -> Any:
        return self.filter(run=run, seq__gt=seq).order_by("seq")


class RunEvent(models.Model):
    """`type` is the wire's event name, `thread.run.held` being ours. `data` holds what changed."""

    run = models.ForeignKey("conversations.Run", models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=40)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    objects = RunEventQuerySet.as_manager()

    class Meta:
        ordering = ["seq"]
        constraints = [
            models.UniqueConstraint(fields=["run", "seq"], name="events_of_a_run_are_numbered")
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.type}"


@cache
def _append() -> str:
    """Each row takes the number after the last of its run."""
    table = bulk.table(RunEvent)
    names = bulk.columns(bulk.fields_of(RunEvent, "run", "seq", *_TOLD))
    last = f"SELECT COALESCE(MAX(seq), 0) + 1 FROM {table} WHERE run_id = %s"  # noqa: S608
    insert = f"INSERT INTO {table} ({names}) VALUES (%s, ({last}), %s, %s, %s)"  # noqa: S608
    if connection.vendor != "postgresql":
        return insert
    return f"{insert} RETURNING pg_notify('{CHANNEL}', '')"  # once a transaction, on its commit


@cache
def _first(count: int) -> str:
    fields = bulk.fields_of(RunEvent, *_FIRST)
    places = f"({', '.join(['%s'] * len(fields))})"
    insert = (
        f"INSERT INTO {bulk.table(RunEvent)} ({bulk.columns(fields)}) "  # noqa: S608
        f"VALUES {', '.join([places] * count)}"
    )
    if connection.vendor != "postgresql":
        return insert
    return f"{insert} RETURNING pg_notify('{CHANNEL}', ''), pg_notify('{WORK_CHANNEL}', '')"


_TOLD = ("type", "data", "created_at")
_FIRST = ("run", "seq", *_TOLD)
