"""Questions put as cheaply as the tables allow, so that who asks is never the limit.

The first question goes through the services; all others are copies of its rows, each question
committed on its own.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Model as Row
from django.utils import timezone

from assistant_manager.models import Assistant, Connection, Model
from assistant_manager.secrets import Secret
from conversations.models import Run, RunEvent, RunStatus
from conversations.nudges import nudge
from conversations.services import runs
from tests.factories import make_assistant, make_project


def make_asker(
    url: str, *, seconds: float | tuple[float, float], deltas: int = 0, **options: Any
) -> Assistant:
    """An assistant whose answers come from the upstream at `url`, over a connection of its own
    with these options."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    key = Secret("sk-bench-0123456789")
    upstream = Connection.objects.create(
        name=name, kind="responses", base_url=f"{url}/v1", key_1=key, options=options
    )
    Model.objects.create(name=name, connection=upstream)
    script = json.dumps({"seconds": seconds, "deltas": deltas})
    return make_assistant(project=make_project(), model=name, instructions=script, tools=[])


class Questions:
    """Puts questions to one assistant; `asked` says when each was committed, by the run's key."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self.asked: dict[int, float] = {}
        with transaction.atomic():
            self._original = runs.ask(assistant=assistant, text="I need to solve 3x + 11 = 14.")
            Run.objects.filter(pk=self._original.pk).update(
                status=RunStatus.CANCELLED, due_at=None, expires_at=None, ended_at=timezone.now()
            )
        self._events = list(RunEvent.objects.filter(run=self._original).order_by("seq"))

    @property
    def runs(self) -> Any:
        """The rows of the copies."""
        return Run.objects.filter(project=self.assistant.project).exclude(pk=self._original.pk)

    def ask(self, count: int = 1) -> None:
        """Put that many questions, in one transaction."""
        with transaction.atomic(), connection.cursor() as cursor:
            keys = [self._copy(cursor) for _ in range(count)]
            nudge()
        now = time.time()
        self.asked.update((key, now) for key in keys)

    def ask_many(self, count: int, at_once: int = 250) -> None:
        for start in range(0, count, at_once):
            self.ask(min(at_once, count - start))

    def ask_steadily(self, rate: float, seconds: float) -> threading.Thread:
        """Put `rate` questions a second, each in a transaction of its own, from a thread."""

        def work() -> None:
            began = time.monotonic()
            for number in range(int(rate * seconds)):
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                self.ask()
            connection.close()

        thread = threading.Thread(target=work, name="asking")
        thread.start()
        return thread

    def abandon(self) -> None:
        """End what is still going on, without a word to anybody."""
        self.runs.active().update(
            **{"status": RunStatus.CANCELLED, "ended_at": timezone.now()},
            **{"due_at": None, "expires_at": None, "leased_by": None, "lease_expires_at": None},
        )

    def _copy(self, cursor: Any) -> int:
        now = timezone.now()
        original = self._original
        thread = _copied(cursor, original.thread, created_at=now, public_id=_id("thread_"))
        assert original.question is not None
        message = _copied(
            cursor,
            original.question,
            created_at=now,
            released_at=now,
            public_id=_id("msg_"),
            thread_id=thread,
        )
        run = _copied(
            cursor,
            original,
            **{"public_id": _id("run_"), "thread_id": thread, "question_id": message},
            **{"status": "queued", "ended_at": None, "created_at": now, "due_at": now},
            expires_at=now + timedelta(seconds=settings.RUN_LIFETIME_SECONDS),
        )
        for event in self._events:
            _copied(cursor, event, run_id=run, created_at=now)
        return run


def _id(prefix: str) -> str:
    return prefix + uuid.uuid4().hex[:24]


_STATEMENTS: dict[tuple[type[Row], Sequence[str]], str] = {}


def _copied(cursor: Any, row: Row, **changes: Any) -> int:
    """The key of a copy of `row` with these columns changed."""
    names = tuple(changes)
    if (type(row), names) not in _STATEMENTS:
        fields = [field for field in row._meta.concrete_fields if not field.primary_key]
        quoted = connection.ops.quote_name
        columns = ", ".join(quoted(str(field.column)) for field in fields)
        values = ", ".join(
            "%s" if field.attname in names else quoted(str(field.column)) for field in fields
        )
        table = quoted(row._meta.db_table)
        _STATEMENTS[type(row), names] = (
            f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} WHERE id = %s "
            "RETURNING id"
        )
    fields = [field for field in row._meta.concrete_fields if field.attname in names]
    values_in_order = [
        field.get_db_prep_save(changes[str(field.attname)], connection) for field in fields
    ]
    cursor.execute(_STATEMENTS[type(row), names], [*values_in_order, row.pk])
    return int(cursor.fetchone()[0])
