"""Whose turn it is: long queues, dead upstreams and full drivers keep nobody else waiting."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone

from assistant_manager.models import Connection, Model
from conversations.driver import Driver
from conversations.models import Run, RunStatus, Thread, lanes
from conversations.services import runs
from tests.conversations.driving import ask, wait, wait_for, wait_until
from tests.factories import make_assistant, make_run
from tests.fakes.engine import KIND, ScriptedEngine


def queue_up(number: int, like: Run, **fields: Any) -> list[Run]:
    """That many more runs like one there is, a thread for each."""
    threads = Thread.objects.bulk_create(Thread(project_id=like.project_id) for _ in range(number))
    given = {field.attname: getattr(like, field.attname) for field in Run._meta.concrete_fields}
    given = {name: value for name, value in given.items() if name not in ("id", "public_id")}
    return Run.objects.bulk_create(
        Run(**given | {"question_id": None, "thread_id": thread.pk} | fields) for thread in threads
    )


def claim(limit: int, driver: str = "me", **options: Any) -> list[Run]:
    now = timezone.now() + timedelta(seconds=1)
    return Run.objects.claim(driver=driver, now=now, limit=limit, **options)


def another_connection(name: str, **fields: Any) -> Connection:
    connection = Connection.objects.create(name=name, kind=KIND, **fields)
    Model.objects.create(name=name, connection=connection)
    return connection


@pytest.mark.django_db
class TestClaims:
    def test_the_long_queue_of_one_project_keeps_no_other_project_waiting(self) -> None:
        queue_up(300, make_run())
        late = make_run()
        assert late in claim(10)

    def test_a_long_queue_for_one_connection_keeps_no_other_connection_waiting(self) -> None:
        first = make_run()
        queue_up(300, first)
        [late] = queue_up(1, first, connection_id=another_connection("Other").pk)
        assert late in claim(10)

    def test_what_there_is_room_for_is_shared_evenly(self) -> None:
        for _ in range(3):
            queue_up(20, make_run())
        shares = Counter(run.project_id for run in claim(12))
        assert sorted(shares.values()) == [4, 4, 4]

    def test_what_the_short_queues_leave_goes_to_the_long_ones(self) -> None:
        few, many = make_run(), make_run()
        queue_up(1, few)
        queue_up(30, many)
        assert Counter(run.project_id for run in claim(20)) == {
            few.project_id: 2,
            many.project_id: 18,
        }

    def test_a_driver_with_room_for_one_serves_every_queue_in_time(self) -> None:
        projects = {make_run().project_id for _ in range(3)}
        for run in Run.objects.all():
            queue_up(100, run)
        assert {run.project_id for _ in range(60) for run in claim(1)} == projects

    def test_more_queues_than_one_statement_reads_are_served_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lanes, "FRONTS_AT_ONCE", 2)
        for _ in range(5):
            queue_up(2, make_run())
        assert Counter(Counter(run.project_id for run in claim(10)).values()) == {2: 5}
        assert len(claim(10)) == 5

    def test_within_a_queue_the_longest_due_is_first(self) -> None:
        first = make_run()
        assert first.due_at is not None
        for seconds in (1, 3, 2):
            due_at = first.due_at - timedelta(seconds=seconds)
            queue_up(1, first, due_at=due_at, metadata={"n": seconds})
        assert [run.metadata["n"] for run in claim(2)] == [3, 2]

    def test_runs_that_are_wanted_by_nobody_stay_where_they_are(self) -> None:
        waiting, going = make_run(), make_run(status=RunStatus.IN_PROGRESS)
        assert claim(10, wanted=lambda lane: lane.status != RunStatus.QUEUED) == [going]
        waiting.refresh_from_db()
        assert waiting.leased_by is None

    def test_what_a_dead_driver_had_not_begun_gets_its_place_back(self) -> None:
        first = make_run(created_at=timezone.now() - timedelta(minutes=1))
        queue_up(20, first, created_at=timezone.now())
        Run.objects.filter(pk=first.pk).update(
            due_at=None, leased_by="dead", lease_expires_at=timezone.now() - timedelta(seconds=1)
        )
        assert claim(1) == [first]

    def test_runs_of_the_future_are_nobodys_business_yet(self) -> None:
        later = timezone.now() + timedelta(hours=1)
        make_run(status=RunStatus.REQUIRES_ACTION, due_at=later, expires_at=later)
        assert not any(lanes.business(timezone.now()))
        assert lanes.lanes(timezone.now()) == []
        assert claim(10) == []

    def test_the_front_of_a_queue_is_found_without_reading_the_queue(self) -> None:
        with database.cursor() as cursor:
            if database.vendor == "postgresql":
                # The tables of tests are too small for an index to pay.
                for plan in ("seqscan", "bitmapscan", "sort"):
                    cursor.execute(f"SET LOCAL enable_{plan} = off")
            explain = "EXPLAIN" if database.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
            front = lanes._FRONT.format(lock="", number=0)
            for sql, values, index in (
                (front, [0, 1, 1, "queued", lanes._moment(timezone.now()), 5, 0], "run_lanes"),
                (lanes._LANES, [lanes._moment(timezone.now())], "run_lanes"),
                (lanes._BUSINESS, [lanes._moment(timezone.now())] * 3, "run_overdue"),
            ):
                cursor.execute(f"{explain} {sql}", values)
                plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
                assert re.search(rf"\b{index}\b", plan), plan
                assert not re.search("Sort|ORDER BY|SCAN (conversations_run|next)$", plan), plan


@pytest.mark.django_db(transaction=True)
def test_drivers_that_claim_at_once_share_no_row_of_any_queue() -> None:
    for _ in range(3):
        queue_up(9, make_run())

    def take(driver: str) -> list[int]:
        try:
            return [run.pk for _ in range(20) for run in claim(4, driver)]
        finally:
            database.close()

    with ThreadPoolExecutor(2) as threads:
        taken = [key for keys in threads.map(take, ("one", "two")) for key in keys]
    assert len(taken) == len(set(taken))
    assert sorted(taken) == sorted(Run.objects.values_list("pk", flat=True))


CAPACITY = 20


@contextmanager
def going(**options: Any) -> Iterator[Driver]:
    driver = Driver(**{"capacity": CAPACITY} | options)
    driver.start()
    try:
        yield driver
    finally:
        ScriptedEngine.gate.set()
        driver.stop()


@pytest.fixture
def endless() -> Iterator[Run]:
    """One of more runs than a driver takes up, none of which ends."""
    ScriptedEngine.gate.clear()
    another_connection("endless")
    script = json.dumps({"gate": True, "look_again": 0.2})
    assistant = make_assistant(instructions=script, model="endless")
    first = runs.ask(assistant=assistant, text="What is x?")
    queue_up(3 * CAPACITY, first)
    yield first
    ScriptedEngine.gate.set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("scripted")
@pytest.mark.timeout(300)
class TestDrivers:
    def test_one_connection_alone_may_fill_a_driver(self, endless: Run) -> None:
        with going() as driver:
            wait_for(lambda: driver.in_flight == CAPACITY)

    def test_a_driver_full_of_runs_that_do_not_end_has_room_for_others(self, endless: Run) -> None:
        with going() as driver:
            wait_for(lambda: driver.in_flight >= CAPACITY)
            wait(ask(), "completed")
            wait_for(lambda: driver.in_flight == CAPACITY)
            assert Run.objects.filter(status=RunStatus.QUEUED).count() > CAPACITY

    def test_a_dead_upstream_leaves_its_own_projects_their_other_connections(
        self, endless: Run
    ) -> None:
        with going() as driver:
            wait_for(lambda: driver.in_flight >= CAPACITY)
            assistant = make_assistant(project=endless.project, instructions="{}")
            wait(runs.ask(assistant=assistant, text="What is x?"), "completed")

    def test_runs_without_a_place_in_a_full_driver_expire_all_the_same(self, endless: Run) -> None:
        with going() as driver:
            wait_for(lambda: driver.in_flight >= CAPACITY)
            outside = Run.objects.filter(leased_by=None).latest("pk")
            Run.objects.filter(pk=outside.pk).update(expires_at=timezone.now())
            wait(outside, "expired")

    def test_thousands_that_wait_for_one_connection_cost_a_driver_little(self) -> None:
        another_connection(
            "paused", paused_until=timezone.now() + timedelta(hours=1), pause_reason="No credit."
        )
        assistant = make_assistant(instructions="{}", model="paused")
        first = runs.ask(assistant=assistant, text="What is x?")
        queue_up(5000, first)
        with going(capacity=200) as driver:
            wait_until(first, lambda: Run.objects.exclude(waiting_for="").count() == 20)
            wait(ask(), "completed")
            wait_for(lambda: driver.in_flight == 20)
