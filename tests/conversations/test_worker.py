"""The real Celery worker, on the broker this suite was given: files, or Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from assistant_manager.models import Connection, IdempotencyKey, Model, SignInLink
from assistant_manager.services import request_inspection
from conversations.models import DriverHeartbeat, Run, RunAttempt
from conversations.services import runs
from conversations.tasks import sweep
from tests.factories import QUESTION, make_assistant, make_project, make_staff
from tests.processes import WORKER, running, start_worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

PATIENCE = 90
"""Seconds. A worker takes some to begin, and many where others use the processors."""


def wait_for(holds: Callable[[], object], log: Path, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_answers_the_quickstart_question(tmp_path: Path) -> None:
    run = runs.ask(assistant=make_assistant(), text=QUESTION)
    log = tmp_path / "worker.log"
    with running(WORKER, log):
        wait_for(lambda: not Run.objects.active().exists(), log)
    run.refresh_from_db()
    assert run.status == "completed", run.last_error
    answer = runs.answer_of(run)
    assert answer is not None
    assert "x = 1" in answer.text
    code = run.steps.get(type="tool_calls").calls[0]["code_interpreter"]
    assert "solve" in code["input"]
    assert "1" in code["outputs"][0]["logs"]


@pytest.mark.slow
def test_a_worker_says_hello_to_a_connection(tmp_path: Path) -> None:
    connection = Model.objects.get(name="*").connection
    request_inspection(connection=connection, model="")
    log = tmp_path / "worker.log"
    with running(WORKER, log):
        wait_for(Connection.objects.filter(inspection__has_key="tested_at").exists, log)
    connection.refresh_from_db()
    assert connection.inspection is not None
    assert "without an upstream" in connection.inspection["answer"]


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_a_worker_told_to_stop_hands_its_runs_over_at_once_and_ends(tmp_path: Path) -> None:
    script = json.dumps({"seconds": 3600, "look_again": 1})
    run = runs.ask(assistant=make_assistant(instructions=script), text=QUESTION)
    log = tmp_path / "worker.log"
    worker = start_worker(log)
    started = RunAttempt.objects.filter(run=run, state__isnull=False)
    wait_for(started.exists, log)
    worker.terminate()
    free = Run.objects.filter(pk=run.pk, status="in_progress", leased_by=None)
    wait_for(free.exclude(due_at=None).exists, log)
    assert worker.wait(timeout=PATIENCE) == 0
    assert not DriverHeartbeat.objects.exists(), "a stopped driver does not count as alive"


@pytest.mark.slow
def test_the_worker_takes_tasks_from_the_broker(tmp_path: Path) -> None:
    old = timezone.now() - timedelta(days=2)
    SignInLink.objects.create(user=make_staff(), digest="x", expires_at=old)
    log = tmp_path / "worker.log"
    with running(WORKER, log):
        wait_for(DriverHeartbeat.objects.exists, log)
        sweep.delay()
        wait_for(lambda: not SignInLink.objects.exists(), log)


def test_the_sweep_forgets_what_is_over_and_keeps_the_rest() -> None:
    project = make_project()
    old, now = timezone.now() - timedelta(days=2), timezone.now()
    IdempotencyKey.objects.create(project=project, key="old", fingerprint="", created_at=old)
    IdempotencyKey.objects.create(project=project, key="new", fingerprint="", created_at=now)
    SignInLink.objects.issue(make_staff())
    SignInLink.objects.create(user=make_staff(), digest="x", expires_at=old)
    DriverHeartbeat.objects.create(name="gone", started_at=old, seen_at=old)
    sweep()
    assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["new"]
    assert SignInLink.objects.count() == 1
    assert not DriverHeartbeat.objects.exists()
    sweep()
