from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from assistant_manager.models import Connection, Model
from assistant_manager.sandbox import TierReport
from assistant_manager.secrets import Secret
from conversations.management import findings
from conversations.models import DriverHeartbeat
from tests.factories import make_run

pytestmark = pytest.mark.django_db

WORKING = [TierReport(tier="landlock", works=True, reason="", milliseconds=12.0)]


@pytest.fixture(autouse=True)
def sandbox(monkeypatch: pytest.MonkeyPatch) -> list[TierReport]:
    """What the probe reports; the real probe has its own tests and takes a second."""
    reports = list(WORKING)
    monkeypatch.setattr(findings, "probe", lambda tier: reports)
    return reports


@pytest.fixture
def worker(db: None) -> None:
    now = timezone.now()
    DriverHeartbeat.objects.create(name="here:1", started_at=now, seen_at=now, in_flight=3)


def examined() -> tuple[str, int]:
    """What the doctor says, and its exit code."""
    out = io.StringIO()
    try:
        call_command("doctor", stdout=out)
    except CommandError as error:
        return out.getvalue() + str(error), error.returncode
    return out.getvalue(), 0


def test_a_healthy_house_is_one_ok_a_part(worker: None) -> None:
    said, code = examined()

    assert code == 0
    lines = said.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    for part in ("settings", "data", "disk", "database", "queue", "tables", "workers", "sandbox"):
        assert sum(f" {part}:" in line for line in lines) == 1
    assert "1 running, 3 runs in flight" in said


def test_no_worker_is_missing_with_the_command_to_start_one() -> None:
    said, code = examined()

    assert code == 1
    assert "MISSING  workers: none is running" in said
    assert "-> Start one: celery -A config.celery worker" in said
    assert "one thing a run needs is missing" in said


def test_a_heartbeat_of_yesterday_is_no_worker() -> None:
    long_ago = timezone.now() - timezone.timedelta(days=1)
    DriverHeartbeat.objects.create(name="gone", started_at=long_ago, seen_at=long_ago)
    assert "MISSING  workers" in examined()[0]


def test_a_sandbox_that_does_not_work_says_why(worker: None, sandbox: list[TierReport]) -> None:
    sandbox[:] = [TierReport(tier="bubblewrap", works=False, reason="no bwrap", milliseconds=1.0)]

    said, code = examined()

    assert code == 1
    assert "MISSING  sandbox: none works, so code cannot run (bubblewrap: no bwrap)" in said


def test_a_database_out_of_reach_leaves_out_what_lives_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise OperationalError("connection refused\n\tIs the server running?")

    monkeypatch.setattr(connection, "ensure_connection", refuse)

    said, code = examined()

    assert code == 1
    assert "cannot be reached: connection refused Is the server running?" in said
    assert "-> Check DATABASE_URL." in said
    assert "workers" not in said
    assert "ok       sandbox" in said


def test_pending_migrations_are_counted(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings.MigrationExecutor, "migration_plan", lambda *_: [1, 2])

    said, code = examined()

    assert code == 1
    assert "MISSING  tables: 2 migrations are not applied" in said
    assert "-> manage.py migrate" in said


def test_a_redis_out_of_reach_is_missing(worker: None, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    said, code = examined()

    assert code == 1
    assert "MISSING  queue: Redis cannot be reached" in said


def test_a_broker_folder_that_is_gone_is_missing(
    worker: None, settings: Any, tmp_path: Path
) -> None:
    settings.REDIS_URL = ""
    settings.CELERY = {"broker_transport_options": {"data_folder_in": str(tmp_path / "gone")}}

    said, code = examined()

    assert code == 1
    assert f"MISSING  queue: {tmp_path / 'gone'} is not writable" in said


def test_no_model_at_all_is_missing(worker: None) -> None:
    Model.objects.all().delete()

    said, code = examined()

    assert code == 1
    assert "MISSING  models: none is set up" in said


def test_a_key_that_names_an_unset_variable_is_missing(worker: None) -> None:
    Connection.objects.create(name="Azure", kind="embedded", key_1=Secret("env:NOT_SET_ANYWHERE"))

    said, code = examined()

    assert code == 1
    assert "MISSING  connection Azure: env:NOT_SET_ANYWHERE is not set in the environment" in said


def test_keys_of_a_lost_encryption_key_are_missing(worker: None, settings: Any) -> None:
    Connection.objects.create(name="Azure", kind="embedded", key_1=Secret("a-real-key-1234"))
    settings.FIELD_ENCRYPTION_KEYS = ["r3v0Ej4bJ5xkcGtfBHVfbgIlzWdF8Dl0cYdtXXAW1JU="]

    said, code = examined()

    assert code == 1
    assert "MISSING  connection Azure: A stored key cannot be decrypted" in said
    assert "a-real-key-1234" not in said


def test_a_full_disk_is_missing(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1_000_000

    monkeypatch.setattr(findings.shutil, "disk_usage", lambda path: Usage)
    assert "MISSING  disk: 0.0 GB free" in examined()[0]


@pytest.fixture
def open_folder(settings: Any, tmp_path: Path) -> Iterator[Path]:
    tmp_path.chmod(0o755)
    settings.DATA_DIR = tmp_path
    yield tmp_path
    tmp_path.chmod(0o700)


def test_a_data_folder_open_to_others_is_worth_a_look_and_no_failure(
    worker: None, open_folder: Path
) -> None:
    said, code = examined()

    assert code == 0
    assert "look at  data:" in said
    assert f"-> chmod 700 {open_folder}" in said


def test_a_setting_that_is_wrong_is_named(worker: None, settings: Any) -> None:
    settings.SANDBOX_TIER = "magic"

    said, code = examined()

    assert code == 1
    assert "MISSING  settings: SANDBOX_TIER is 'magic'." in said


def test_what_waits_is_told_with_its_age(worker: None) -> None:
    assert "ok       waiting: no question waits" in examined()[0]
    now = timezone.now()
    make_run(due_at=now - timedelta(seconds=20))
    with time_machine.travel(now, tick=False):
        said, code = examined()
    assert "ok       waiting: 1 question waits for “Embedded”, for 20 seconds" in said
    assert code == 0


def test_a_question_that_waits_for_long_is_worth_a_look_and_no_failure(worker: None) -> None:
    for minutes in (3, 1):
        make_run(due_at=timezone.now() - timedelta(minutes=minutes))
    said, code = examined()
    assert "look at  waiting: 2 questions wait for “Embedded”, the oldest for 3 minutes" in said
    assert code == 0
