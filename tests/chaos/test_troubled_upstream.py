"""An upstream full of troubles, two workers: every question ends once, and little is asked twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pytest_django import Settings

from assistant_manager.models import Connection, Model, Project
from assistant_manager.secrets import Secret
from conversations.models import Run, RunAttempt
from conversations.services import runs
from tests.chaos.waiting import wait_for
from tests.factories import QUESTION, make_assistant, make_project, make_thread
from tests.fakes.upstream.running import Upstream
from tests.invariants import broken
from tests.processes import WORKER, running

RUNS = 1000
TROUBLES = {"429": 0.10, "500": 0.05, "cut": 0.05}
UNHURRIED = {"DRIVER_LEASE_SECONDS": "60", "RUN_LIFETIME_SECONDS": "3600"}
PATIENCE = 400
"""Seconds for what takes a tenth of it."""
CREATES_AT_MOST = 1.02
"""Creates carried out upstream for each run whose own starts were never ambiguous."""


@pytest.fixture
def project(transactional_db: None, upstream: Upstream, settings: Settings) -> Project:
    settings.RUN_LIFETIME_SECONDS = 3600
    connection = Connection.objects.create(
        name="Troubled",
        kind="responses",
        base_url=f"{upstream.url}/v1",
        key_1=Secret("sk-first-0123456789"),
        key_2=Secret("sk-second-0123456789"),
        options={"poll_seconds": 0.5},
    )
    Model.objects.create(name="troubled", connection=connection)
    return make_project()


def has_changed_keys() -> bool:
    connection = Connection.objects.get(name="Troubled")
    return connection.key_in_use == 2 and "Key 1 was refused" in connection.key_note


def ask(project: Project, number: int) -> None:
    script = json.dumps({"id": f"question-{number}", "answer": f"x = {number}", "seconds": 0.5})
    assistant = make_assistant(project=project, model="troubled", instructions=script, tools=[])
    thread = make_thread(project=project, question=QUESTION)
    runs.request_run(thread=thread, assistant=assistant, metadata={"number": str(number)})


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_every_question_ends_once_whatever_the_upstream_does(
    project: Project, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.set_chaos(TROUBLES)
    log = tmp_path / "worker.log"
    for number in range(RUNS // 2):
        ask(project, number)
    ended = Run.objects.exclude(ended_at=None)
    # Nobody dies here: a start that another worker took for lost would count as one.
    with running(WORKER, log, **UNHURRIED), running(WORKER, log, **UNHURRIED):
        wait_for(lambda: ended.count() > RUNS / 4, seconds=PATIENCE, log=log)
        upstream.revoke("sk-first-0123456789")
        for number in range(RUNS // 2, RUNS):
            ask(project, number)
        wait_for(lambda: ended.count() == RUNS, seconds=PATIENCE, log=log)
        wait_for(has_changed_keys, seconds=PATIENCE, log=log)
    assert_each_ended_once()
    assert_little_was_asked_twice(upstream)
    assert "sk-first" not in log.read_text()
    assert upstream.violations() == []


def assert_each_ended_once() -> None:
    assert broken(Run.objects.all()) == []
    for run in Run.objects.prefetch_related("messages"):
        answers = [message.text for message in run.messages.all()]
        if run.status == "completed":
            assert answers == [f"x = {run.metadata['number']}"]
        else:
            assert run.last_error is not None, f"{run} is {run.status} without a word"
    ends = Counter(Run.objects.values_list("status", flat=True))
    assert ends["completed"] > 0.98 * RUNS, ends


def assert_little_was_asked_twice(upstream: Upstream) -> None:
    creates = upstream.counts()["creates_by_run"]
    lost = set(RunAttempt.objects.exclude(lost_at=None).values_list("run__public_id", flat=True))
    plain = [run for run in Run.objects.filter(status="completed") if run.public_id not in lost]
    carried_out = sum(creates[run.public_id] for run in plain)
    assert carried_out <= CREATES_AT_MOST * len(plain)
    assert len(lost) < 0.2 * RUNS, "only cut replies and errors 500 are ambiguous"
