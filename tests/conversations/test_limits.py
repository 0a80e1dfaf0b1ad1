"""Limits, pauses and keys of a connection, from its upstream to its row and to the runs that wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from assistant_manager.engines import gates
from assistant_manager.models import Connection, Model, Project
from assistant_manager.secrets import Secret
from assistant_manager.services import resume_connection
from conversations import ledger
from conversations.driver import Driver
from conversations.models import Run
from conversations.services import runs
from tests.conversations.driving import wait, wait_for, wait_until
from tests.factories import make_assistant
from tests.fakes.upstream.running import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND = "sk-first-000000001111", "sk-second-00000002222"


@pytest.fixture(autouse=True)
def connection(transactional_db: None, upstream: Upstream) -> Connection:
    """Every model leads to the fake's Responses API."""
    connection = Connection.objects.create(
        name="Vendor",
        kind="responses",
        base_url=f"{upstream.url}/v1",
        key_1=Secret(FIRST),
        key_2=Secret(SECOND),
        options={"poll_seconds": 0.05},
    )
    Model.objects.update(connection=connection)
    return connection


def ask(project: Project, **script: Any) -> Run:
    assistant = make_assistant(project=project, instructions=json.dumps(script), tools=[])
    return runs.ask(assistant=assistant, text="What is x?")


def until(row: Connection, holds: Callable[[], object]) -> None:
    def holds_now() -> object:
        row.refresh_from_db()
        return holds()

    wait_for(holds_now)


def test_a_paused_connection_is_not_asked_before_it_is_resumed(
    connection: Connection, project: Project, upstream: Upstream, driver: Driver
) -> None:
    hour = timezone.now() + timedelta(hours=1)
    Connection.objects.update(paused_until=hour, pause_reason="Waiting until 10:42.")
    run = ask(project)
    wait_until(run, lambda: run.waiting_for == "Waiting until 10:42.")
    assert upstream.counts()["asked"] == 0
    resume_connection(connection=connection)
    wait(run, "completed")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why runs waited, each reason in words, however soon it was over."""
    reasons: list[str] = []
    note_waits = ledger.note_waits

    def noting(waits: Sequence[tuple[Run, str]], *, driver: str) -> list[None]:
        reasons.extend(reason for _, reason in waits)
        return note_waits(waits, driver=driver)

    monkeypatch.setattr(ledger, "note_waits", noting)
    return reasons


def test_a_rate_limit_delays_the_run_and_nothing_else(
    connection: Connection, project: Project, upstream: Upstream, told: list[str], driver: Driver
) -> None:
    run = wait(ask(project, id="limited", faults=["429", "429"], retry_after=2), "completed")
    assert any("waiting for quota until" in reason for reason in told)
    assert run.waiting_for == ""
    counts = upstream.counts()
    assert (counts["asked"], counts["accepted"]) == (3, 1)


def test_no_credit_fails_one_run_and_the_others_wait(
    connection: Connection, project: Project, upstream: Upstream, driver: Driver
) -> None:
    first = wait(ask(project, id="poor", faults=["billing"]), "failed")
    assert "has no credit left" in str(first.last_error)
    until(connection, lambda: "has no credit left" in connection.pause)
    second = ask(project)
    wait_until(second, lambda: "has no credit left" in second.waiting_for)
    assert upstream.counts()["asked"] == 1


def test_places_are_limited_and_those_outside_say_so(
    connection: Connection, project: Project, upstream: Upstream, driver: Driver
) -> None:
    Connection.objects.update(max_concurrent=1)
    first = ask(project, seconds=3600)
    wait_until(first, lambda: first.status == "in_progress")
    second = ask(project)
    wait_until(second, lambda: "takes 1 at once" in second.waiting_for)
    assert second.status == "queued"
    runs.cancel_run(run=first)
    wait(second, "completed")
    assert wait(first, "cancelled")


def test_a_refused_key_costs_no_run_and_the_row_says_so(
    connection: Connection, project: Project, upstream: Upstream, driver: Driver
) -> None:
    upstream.revoke(FIRST)
    wait(ask(project), "completed")
    until(connection, lambda: connection.key_in_use == 2)
    assert connection.key_note.startswith("Key 1 was refused on ")


def test_an_upstream_that_is_down_is_left_alone_until_it_answers_again(
    connection: Connection,
    project: Project,
    upstream: Upstream,
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "OUTAGE_SECONDS", (2.0,))  # however long the outage is
    upstream.set_chaos({"503": 1.0})
    asked = [ask(project) for _ in range(5)]
    until(connection, lambda: "does not answer" in connection.pause)
    upstream.set_chaos()
    for run in asked:
        wait(run, "completed")
    until(connection, lambda: not connection.pause)
    assert upstream.counts()["accepted"] == len(asked)
