"""What is said of questions that wait: how many, since when, and for about how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from assistant_manager.models import Connection
from conversations.models import Run, RunAttempt, RunStatus
from conversations.waiting import Outlook, in_words, outlook, queues
from tests.factories import make_assistant, make_project, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still, however long a test takes."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)


def waiting(minutes: float = 1, **fields: Any) -> Run:
    asked = timezone.now() - timedelta(minutes=minutes)
    return make_run(**{"created_at": asked, "due_at": asked} | fields)


def taken_up(run: Run) -> None:
    lease = timezone.now() + timedelta(minutes=1)
    Run.objects.filter(pk=run.pk).update(due_at=None, leased_by="d", lease_expires_at=lease)


def started(number: int, seconds_ago: float) -> None:
    """That many starts, all as long ago."""
    run = make_run(status=RunStatus.COMPLETED, due_at=None)
    moment = timezone.now() - timedelta(seconds=seconds_ago)
    RunAttempt.objects.bulk_create(
        RunAttempt(run=run, number=n, created_at=moment) for n in range(1, number + 1)
    )


def before(run: Run) -> int:
    found = outlook(run)
    return found.before if found else 0


def test_in_a_project_the_earlier_questions_are_before_the_later() -> None:
    assistant = make_assistant()
    first, second, third = (waiting(minutes, assistant=assistant) for minutes in (3, 2, 1))
    assert [before(run) for run in (first, second, third)] == [0, 1, 2]


def test_of_another_projects_long_queue_only_a_fair_part_is_before_one() -> None:
    many = make_assistant(project=make_project())
    for minutes in range(10, 20):
        waiting(minutes, assistant=many)
    few = make_assistant(project=make_project())
    first, second = waiting(2, assistant=few), waiting(1, assistant=few)
    assert before(first) == 0
    assert before(second) == 2


def test_what_drivers_have_taken_up_is_before_what_they_have_not() -> None:
    early, late = waiting(2), waiting(1)
    taken_up(late)
    assert before(early) == 1
    late.refresh_from_db()
    assert before(late) == 0


def test_other_connections_do_not_count() -> None:
    other = Connection.objects.create(name="Other", kind="embedded")
    assistant = make_assistant()
    waiting(2, assistant=assistant, connection=other)
    assert before(waiting(1, assistant=assistant)) == 0


def test_the_pace_of_the_last_minutes_tells_how_long_it_takes() -> None:
    assistant = make_assistant()
    *_, last = (waiting(minutes, assistant=assistant) for minutes in range(9, 0, -1))
    started(4, seconds_ago=60)
    found = outlook(last)
    assert found is not None
    assert found.left == timedelta(minutes=2)
    assert str(found) == "About 2 minutes, 8 questions before it."


@pytest.mark.parametrize(("number", "seconds_ago"), [(0, 0), (1, 10), (50, 600)])
def test_without_a_pace_no_time_is_named(number: int, seconds_ago: float) -> None:
    assistant = make_assistant()
    waiting(2, assistant=assistant)
    started(number, seconds_ago)
    assert outlook(waiting(1, assistant=assistant)) == Outlook(1, None)


def test_a_pause_names_its_own_hour() -> None:
    assistant = make_assistant()
    waiting(2, assistant=assistant)
    started(50, seconds_ago=60)
    Connection.objects.update(paused_until=timezone.now() + timedelta(hours=1), pause_reason="?")
    found = outlook(waiting(1, assistant=assistant))
    assert str(found) == "1 question before it."


def test_nothing_is_said_of_what_begins_at_once_or_has_begun() -> None:
    assistant = make_assistant()
    waiting(2, assistant=assistant)
    assert outlook(make_run(assistant=assistant)) is None
    assert outlook(waiting(1, assistant=assistant, status=RunStatus.IN_PROGRESS)) is None


def test_queues_are_counted_a_connection_the_oldest_first(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    other = Connection.objects.create(name="Other", kind="embedded")
    for minutes in (1, 3):
        taken_up(waiting(minutes))
    waiting(2)
    waiting(4, connection=other)
    waiting(9, status=RunStatus.IN_PROGRESS)
    with django_assert_num_queries(2):
        found = queues(Run.objects.all())
    assert [str(queue) for queue in found] == [
        "1 question waits for “Other”, for 4 minutes",
        "3 questions wait for “Embedded”, the oldest for 3 minutes",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "a few seconds"),
        (9, "a few seconds"),
        (45, "45 seconds"),
        (61, "1 minute"),
        (150, "2 minutes"),
        (5400, "2 hours"),
        (200_000, "2 days"),
    ],
)
def test_times_are_told_as_people_do(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words
