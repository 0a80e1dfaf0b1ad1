"""Rows written without the ORM are the rows the ORM would have written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import models

from conversations import bulk
from conversations.models import Message, Run, RunAttempt, RunStep
from tests.factories import make_run

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 8, 26, 12, 30, 59, 123456, tzinfo=UTC)
ODD = {"text": "naïve “quotes” % %s 'and' \\ 数学", "none": None, "list": [1, 2.5, True]}


def rows(run: Run, number: int) -> list[models.Model]:
    """One of each model that drivers write, all columns filled in one way or another."""
    return [
        Message(
            **{
                "thread": run.thread,
                "run": run,
                "attempt": number,
                "item": "m",
                "role": "assistant",
            },
            **{"content": [ODD], "metadata": {"a": "b"}, "completed_at": MOMENT},
        ),
        RunStep(
            **{"run": run, "attempt": number, "item": "s", "type": "tool_calls", "details": ODD},
            **{"notes": {}, "for_client": True, "last_error": None, "released_at": MOMENT},
        ),
        RunAttempt(run=run, number=number, note="100 %", state=None, upstream_id="x" * 500),
    ]


def stored(row: models.Model, found: dict[str, Any]) -> dict[str, Any]:
    columns = [field.attname for field in row._meta.concrete_fields if not field.primary_key]
    own = {"public_id", "key", "attempt", "number", "created_at"}
    values = type(row)._default_manager.values(*columns).get(**found)
    return {name: value for name, value in values.items() if name not in own}


def test_an_inserted_row_reads_as_a_saved_one() -> None:
    run = make_run()
    for saved in rows(run, 1):
        saved.save()
    for inserted in rows(run, 2):
        bulk.insert([inserted])
    for saved, inserted in zip(rows(run, 1), rows(run, 2), strict=True):
        number = "number" if isinstance(saved, RunAttempt) else "attempt"
        assert stored(saved, {"run": run, number: 1}) == stored(inserted, {"run": run, number: 2})


def test_an_update_changes_the_named_fields_of_these_rows_only() -> None:
    run = make_run()
    first, second = (RunAttempt.objects.create(run=run, number=number) for number in (1, 2))
    for attempt in (first, second):
        attempt.state, attempt.note = {"n": attempt.number}, "not to be stored"
    bulk.update([first], ("state",))
    rows = RunAttempt.objects.filter(run=run).values_list("state", "note")
    assert list(rows) == [({"n": 1}, ""), (None, "")]


def test_a_change_meets_the_rows_that_have_all_of_what_is_asked() -> None:
    run, other = make_run(), make_run()
    held = {"id": run.pk, "status": ("queued", "in_progress")}
    assert bulk.change(Run, held, last_error=ODD, started_at=MOMENT) == 1
    assert bulk.change(Run, {**held, "status": ("failed",)}, last_error=None) == 0
    run.refresh_from_db()
    other.refresh_from_db()
    assert (run.last_error, run.started_at) == (ODD, MOMENT)
    assert (other.last_error, other.started_at) == (None, None)


def test_json_that_is_none_is_stored_as_null() -> None:
    run = make_run()
    Run.objects.filter(pk=run.pk).update(last_error={"code": "server_error"})
    bulk.change(Run, {"id": run.pk}, last_error=None)
    assert Run.objects.filter(pk=run.pk, last_error__isnull=True).exists()


def test_rows_that_are_added_know_their_own_keys() -> None:
    run = make_run()
    attempts = [RunAttempt(run=run, number=number) for number in (3, 1, 2)]
    bulk.add_all(attempts)
    assert {attempt.pk: attempt.number for attempt in attempts} == dict(
        RunAttempt.objects.filter(run=run).values_list("pk", "number")
    )
    assert not any(attempt._state.adding for attempt in attempts)
    bulk.add_all([])


def test_a_change_tells_what_is_in_the_rows_it_met() -> None:
    run, other = make_run(), make_run()
    Run.objects.filter(pk=other.pk).update(attempt=3)
    where = {"id": (run.pk, other.pk), "status": "queued"}
    told = bulk.change_and_tell(Run, where, ("id", "attempt"), waiting_for="a place")
    assert dict(told) == {run.pk: 0, other.pk: 3}
    assert bulk.change_and_tell(Run, {**where, "attempt": 4}, ("id",), waiting_for="") == []
    run.refresh_from_db()
    assert run.waiting_for == "a place"
