"""A thousand runs are under way as their worker is told to stop, and as it is killed: the next one
goes on with every one of them, waits for no lease, and asks the upstream for nothing again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.models import Connection, Model, Project
from assistant_manager.secrets import Secret
from conversations.driver import STOP_WITHIN
from conversations.driver_names import new_name, readable
from conversations.models import Run, RunAttempt
from conversations.services import runs
from conversations.services.threads import text_content
from tests.chaos.waiting import wait_for
from tests.factories import QUESTION, make_assistant, make_project
from tests.fakes.upstream.running import Upstream
from tests.invariants import broken, disagreements
from tests.processes import start_worker

RUNS = 1000
LEASE = 3.0
PATIENCE = 240
"""Seconds for what takes one or two."""
LONG_LEASE = 1200.0 if new_name() != readable(new_name()) else LEASE
"""Seconds: much longer than we wait, so that what is taken over is not owed to the end of a lease.
Only where the system says too little of a dead process is there no other way."""


@pytest.fixture
def project(transactional_db: None, upstream: Upstream, settings: Settings) -> Project:
    row = Connection.objects.create(
        name="Slow",
        kind="responses",
        base_url=f"{upstream.url}/v1",
        key_1=Secret("sk-slow-12345678"),
    )
    Model.objects.create(name="slow", connection=row)
    settings.RUN_LIFETIME_SECONDS = 3600
    return make_project()


def ask_all(project: Project) -> None:
    assistant = make_assistant(
        project=project, model="slow", tools=[], instructions=json.dumps({"seconds": 3600})
    )
    for _ in range(RUNS):
        question = {"role": "user", "content": text_content(QUESTION)}
        runs.request_run(
            thread=project.threads.create(), assistant=assistant, additional_messages=[question]
        )


def held_by(worker: subprocess.Popen[bytes]) -> int:
    """The runs that this worker looks after, their leases being good."""
    now = timezone.now()
    return Run.objects.filter(
        leased_by__contains=f":{worker.pid}:", lease_expires_at__gt=now
    ).count()


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(6 * PATIENCE)
def test_the_next_worker_goes_on_with_a_thousand_runs(
    project: Project, upstream: Upstream, tmp_path: Path
) -> None:
    log = tmp_path / "workers.log"
    workers = []

    def start(lease: float) -> subprocess.Popen[bytes]:
        workers.append(start_worker(log, DRIVER_LEASE_SECONDS=str(lease)))
        return workers[-1]

    try:
        ask_all(project)
        first = start(LEASE)
        under_way = RunAttempt.objects.exclude(upstream_id="")
        wait_for(lambda: under_way.count() == RUNS and held_by(first) == RUNS, PATIENCE, log)

        first.send_signal(signal.SIGTERM)
        mine = Run.objects.filter(leased_by__contains=f":{first.pid}:")
        told = wait_for(lambda: not mine.exists() or first.poll() is not None, PATIENCE, log)
        first.wait(timeout=PATIENCE)
        gave_up = told > STOP_WITHIN and "were not handed over" in log.read_text()
        assert gave_up or not mine.exists(), "it stopped without handing its runs over"

        second = start(LONG_LEASE)
        wait_for(lambda: held_by(second) == RUNS, PATIENCE, log)
        second.kill()
        second.wait()
        third = start(LEASE)
        killed = wait_for(lambda: held_by(third) == RUNS, PATIENCE, log)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    sys.stdout.write(f"Handed over in {told:.2f} s; taken over {killed:.2f} s after kill -9.\n")
    assert upstream.counts()["accepted"] == RUNS
    assert RunAttempt.objects.count() == RUNS
    assert [*broken(Run.objects.all()), *disagreements(upstream)] == []
