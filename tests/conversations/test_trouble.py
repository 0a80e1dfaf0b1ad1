"""What a driver survives: a database that goes away, keys nobody can read, engines that misbehave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.engines.base import MessageItem, Progress, Sighting, Turn, Usage
from assistant_manager.models import Connection, Model
from assistant_manager.secrets import Secret
from conversations import ledger, recording
from conversations.driver import Driver
from conversations.models import Run
from conversations.services import runs, threads
from tests.conversations.driving import ask, started, wait, wait_for, wait_until
from tests.factories import make_assistant
from tests.fakes.engine import KIND, ScriptedEngine

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted")]


def test_a_key_nobody_can_read_fails_its_own_run_and_no_other(
    driver: Driver, settings: Settings
) -> None:
    sealed = Connection.objects.create(name="Sealed", kind=KIND, key_1=Secret("sk-1234"))
    Model.objects.create(name="sealed", connection=sealed)
    settings.FIELD_ENCRYPTION_KEYS = ["kD6sXvZ0cVbS1oT0bYB0Fq1B0m8aZ2mJ4m0hXW2bq1Y="]
    run = runs.ask(assistant=make_assistant(instructions="{}", model="sealed"), text="What is x?")
    run = wait(run, "failed")
    assert run.last_error is not None
    assert "cannot be decrypted" in run.last_error["message"]
    wait(ask(), "completed")


@pytest.mark.parametrize("trouble", [InterfaceError("connection already closed"), ValueError("?")])
def test_a_driver_outlives_whatever_goes_wrong_at_the_table(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    wait(ask(), "completed")
    look, failures = ledger.knocks, [trouble] * 2

    def knocks(**kwargs: Any) -> list[Run]:
        if failures:
            raise failures.pop()
        return look(**kwargs)

    monkeypatch.setattr(ledger, "knocks", knocks)
    wait_for(lambda: not failures)
    wait(ask(), "completed")


@pytest.mark.parametrize("trouble", [InterfaceError("connection already closed"), ValueError("?")])
def test_leases_are_renewed_after_whatever_went_wrong(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, trouble: Exception
) -> None:
    settings.DRIVER_LEASE_SECONDS = 0.3
    renew, failures = ledger.renew, [trouble]
    renewed: list[set[int]] = []

    def renewing(**kwargs: Any) -> set[int]:
        if failures:
            raise failures.pop()
        renewed.append(renew(**kwargs))
        return renewed[-1]

    monkeypatch.setattr(ledger, "renew", renewing)
    driver = Driver()
    driver.start()
    try:
        wait_for(lambda: len(renewed) > 1)
    finally:
        driver.stop()


def test_an_answer_whose_commit_failed_is_not_lost_while_the_database_is_away(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit fails, so do the reads after it, and only then is the database back."""
    end, failures = recording.end, iter([OperationalError("gone")])
    reload, away = ledger.reload, iter([OperationalError("starting up")])

    def ending(*args: Any, **kwargs: Any) -> bool:
        ended = end(*args, **kwargs)
        for failure in failures:
            raise failure
        return ended

    def reloading(run: Run) -> Run:
        for failure in away:
            raise failure
        return reload(run)

    monkeypatch.setattr(recording, "end", ending)
    monkeypatch.setattr(ledger, "reload", reloading)
    run = wait(ask(), "completed")
    assert run.messages.filter(role="assistant").count() == 1


def test_a_late_error_of_a_driver_that_lost_the_run_fails_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = asyncio.Event()

    async def start(self: ScriptedEngine, turn: Turn) -> Progress:
        await lost.wait()
        raise ZeroDivisionError("late")

    monkeypatch.setattr(ScriptedEngine, "start", start)
    run = wait(ask(), "in_progress")
    far = timezone.now() + timedelta(hours=1)
    Run.objects.filter(pk=run.pk).update(leased_by="another", lease_expires_at=far)
    driver._loop.call_soon_threadsafe(lost.set)
    wait_for(lambda: driver.in_flight == 0)
    run.refresh_from_db()
    assert (run.status, run.leased_by) == ("in_progress", "another")


def test_an_engine_that_cannot_cancel_delays_nobody(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancel(self: ScriptedEngine, sighting: Sighting) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(ScriptedEngine, "cancel", cancel)
    run = started(ask(seconds=3600, look_again=3600))
    runs.cancel_run(run=run)
    wait(run, "cancelled")


def test_an_engine_that_cannot_cancel_does_not_keep_a_run_from_expiring(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, time_is_up: Callable[[Run], None]
) -> None:
    async def cancel(self: ScriptedEngine, sighting: Sighting) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(ScriptedEngine, "cancel", cancel)
    run = started(ask(seconds=3600, look_again=3600))
    time_is_up(run)
    wait(run, "expired")


def test_an_engine_that_will_not_let_go_cannot_hold_up_a_cancel(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()

    async def start(self: ScriptedEngine, turn: Turn) -> Progress:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        raise ZeroDivisionError("at last")

    monkeypatch.setattr("conversations.patience.CANCEL_WITHIN", 0.5)
    monkeypatch.setattr(ScriptedEngine, "start", start)
    run = wait(ask(), "in_progress")
    runs.cancel_run(run=run)
    wait(run, "cancelled")
    driver._loop.call_soon_threadsafe(released.set)


@pytest.mark.parametrize(
    "broken",
    [
        {"usage": Usage(-1, 0)},
        {"items": [MessageItem("k" * 101, "x = 1", done=True)], "usage": Usage(-1, 0)},
    ],
)
def test_what_the_database_refuses_fails_the_run_instead_of_being_tried_for_ever(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any]
) -> None:
    async def start(self: ScriptedEngine, turn: Turn) -> Progress:
        return Progress("completed", **broken)

    monkeypatch.setattr(ScriptedEngine, "start", start)
    run = wait(ask(), "failed")
    assert run.last_error is not None
    assert "The server had an error" in run.last_error["message"]


def test_looking_again_at_once_and_for_ever_leaves_the_processor_to_others(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def look(self: ScriptedEngine, sighting: Sighting) -> Progress:
        nonlocal looks
        looks += 1
        return Progress("working", state=sighting.state, look_again=0)

    monkeypatch.setattr(ScriptedEngine, "look", look)
    started(ask())
    began, before = time.monotonic(), looks
    wait_for(lambda: looks > before + 200)
    assert time.monotonic() - began > 1


def test_the_engine_is_left_in_peace_about_a_run_that_was_deleted(
    driver: Driver, settings: Settings
) -> None:
    settings.DRIVER_LEASE_SECONDS = 0.3
    run = wait(ask(hang=True), "in_progress")
    threads.delete_thread(thread=run.thread)
    wait_for(lambda: driver.in_flight == 0)


def test_why_a_run_waited_is_forgotten_once_it_moves(driver: Driver) -> None:
    run = started(ask(unavailable=1, seconds=3600, look_again=3600))
    assert run.waiting_for == ""


def end_connections() -> None:
    """Those of everybody else; SQLite has no server that could."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def test_a_driver_recovers_by_itself_when_the_server_ends_its_connections(driver: Driver) -> None:
    asked = [ask(seconds=0.3, look_again=0.05, code="print(1)") for _ in range(20)]
    for _ in range(10):
        end_connections()
        time.sleep(0.15)
    for run in asked:
        wait(run, "completed")
        assert run.messages.filter(role="assistant").count() == 1


def test_leases_are_renewed_however_much_waits_to_be_recorded(settings: Settings) -> None:
    settings.DRIVER_LEASE_SECONDS = 1.5
    driver = Driver()
    driver.start()
    recorded = threading.Event()
    try:
        run = started(ask(seconds=3600, look_again=3600))
        driver._desk._database.submit(recorded.wait, 100)
        for _ in range(3):
            before = run.lease_expires_at
            assert before is not None
            wait_until(run, lambda before=before: run.lease_expires_at > before)  # type: ignore[misc]
    finally:
        recorded.set()
        driver.stop()
