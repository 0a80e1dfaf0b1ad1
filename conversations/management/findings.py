"""What `manage.py doctor` looks at: one function per part, each in plain words."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from django.conf import settings
from django.core.checks import ERROR, run_checks
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from kombu import Connection as Broker

from assistant_manager.engines import engine_class
from assistant_manager.models import Connection, Model
from assistant_manager.models.connections import ANY_MODEL
from assistant_manager.sandbox import probe
from assistant_manager.secrets import SecretUnreadable
from conversations.models import DriverHeartbeat, Run
from conversations.waiting import queues

LITTLE_SPACE = 200_000_000
"""Bytes left on the disk below which runs are at risk."""
LONG_WAIT = timedelta(minutes=1)
"""A question that has waited for longer is worth a look."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`missing`: a run needs this and does not have it. `advice`: what to do, "" if nothing."""

    part: str
    text: str
    missing: bool = False
    advice: str = ""


def examine() -> Iterator[Finding]:
    """All parts in turn. Without a database, what lives in it is left out."""
    yield configuration()
    yield data_folder()
    yield disk()
    reachable = database()
    yield reachable
    yield broker()
    if not reachable.missing:
        migrated = migrations()
        yield migrated
        if not migrated.missing:
            yield workers()
            yield from waiting()
            yield from models()
            yield from connections()
    yield sandbox()


def configuration() -> Finding:
    errors = [str(error.msg) for error in run_checks() if error.level >= ERROR]
    if errors:
        return Finding("settings", "; ".join(errors), True, "See: manage.py check")
    return Finding("settings", "agree with each other")


def data_folder() -> Finding:
    folder = settings.DATA_DIR
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("data", f"{folder} is not writable", True, "Give this user the folder.")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return Finding(
            "data",
            f"{folder} can be entered by others (mode {mode:o}), and it holds secrets",
            advice=f"chmod 700 {folder}",
        )
    return Finding("data", f"{folder}, private")


def disk() -> Finding:
    free = shutil.disk_usage(settings.DATA_DIR).free
    text = f"{free / 1e9:.1f} GB free"
    if free < LITTLE_SPACE:
        return Finding("disk", text, True, f"Make room where {settings.DATA_DIR} lies.")
    return Finding("disk", text)


def database() -> Finding:
    where = "PostgreSQL" if connection.vendor == "postgresql" else "SQLite"
    failure = _failure(connection.ensure_connection)
    if failure:
        return Finding(
            "database", f"{where} cannot be reached: {failure}", True, "Check DATABASE_URL."
        )
    return Finding("database", where)


def migrations() -> Finding:
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if pending:
        return Finding(
            "tables", f"{len(pending)} migrations are not applied", True, "manage.py migrate"
        )
    return Finding("tables", "up to date")


def broker() -> Finding:
    if not settings.REDIS_URL:
        folder = Path(settings.CELERY["broker_transport_options"]["data_folder_in"])
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return Finding("queue", f"files in {folder}")
        return Finding("queue", f"{folder} is not writable", True, "Give this user the folder.")
    failure = _failure(_reach_broker)
    if failure:
        return Finding("queue", f"Redis cannot be reached: {failure}", True, "Check REDIS_URL.")
    return Finding("queue", "Redis")


def _reach_broker() -> None:
    with Broker(settings.REDIS_URL, connect_timeout=3) as link:
        link.ensure_connection(max_retries=1, timeout=3)


def workers() -> Finding:
    alive = list(DriverHeartbeat.objects.alive(timezone.now()))
    if not alive:
        return Finding(
            "workers",
            "none is running, so no question is answered",
            True,
            "Start one: celery -A config.celery worker -P threads -B   (or make run)",
        )
    busy = sum(driver.in_flight for driver in alive)
    return Finding("workers", f"{len(alive)} running, {busy} runs in flight")


def waiting() -> Iterator[Finding]:
    queued = queues(Run.objects.all())
    if not queued:
        yield Finding("waiting", "no question waits")
    for queue in queued:
        advice = "" if queue.age < LONG_WAIT else "Its page in the admin says why a run waits."
        yield Finding("waiting", str(queue), advice=advice)


def models() -> Iterator[Finding]:
    default = Model.objects.filter(name=ANY_MODEL).select_related("connection").first()
    if default is not None:
        yield Finding("models", f"any name goes to {default.connection} unless a row says more")
        return
    names = list(Model.objects.values_list("name", flat=True)[:5])
    yield Finding(
        "models",
        f"only these are served: {', '.join(names)}" if names else "none is set up",
        missing=not names,
        advice="" if names else "Add a connection and a model named * in the admin.",
    )


def connections() -> Iterator[Finding]:
    for row in Connection.objects.defer("key_1", "key_2", "webhook_secret"):
        part = f"connection {row.name}"
        failure = _failure(partial(_open, row.name))
        if failure:
            yield Finding(part, failure, True, "Correct it in the admin, under Connections.")
        elif row.pause:
            yield Finding(part, row.pause, advice="“Resume now” on its page in the admin.")
        else:
            yield Finding(part, row.key_note or _last_test(row))


def _last_test(row: Connection) -> str:
    report = row.inspection or {}
    if "tested_at" not in report:
        return "is set up"
    return f"is set up; its last test {'failed' if report.get('error') else 'went well'}"


def _open(name: str) -> None:
    """Read the row with its secrets and load its engine; nobody is called."""
    row = Connection.objects.get(name=name)
    engine_class(row.kind)
    for key in (row.key_1, row.key_2):
        try:
            revealed = key.reveal()
        except SecretUnreadable as error:
            raise ValueError(str(error)) from error
        if key and not revealed:
            raise ValueError(f"{key.stored} is not set in the environment")


def sandbox() -> Finding:
    tried = probe(settings.SANDBOX_TIER)
    works = next((report for report in tried if report.works), None)
    if works is not None:
        return Finding("sandbox", f"{works.tier}, tried just now ({works.milliseconds:.0f} ms)")
    reasons = "; ".join(f"{report.tier}: {report.reason}" for report in tried) or "switched off"
    return Finding(
        "sandbox",
        f"none works, so code cannot run ({reasons})",
        True,
        "Install bubblewrap, or use a kernel with Landlock (5.13 or newer).",
    )


def _failure(action: Callable[[], object]) -> str:
    """What went wrong, on one line; "" when nothing did. Here every failure is a finding."""
    try:
        action()
    except Exception as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""
