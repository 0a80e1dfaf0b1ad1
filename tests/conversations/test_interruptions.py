"""Starts that somebody or something interrupts: none is made behind a gate's back or by two, and what
came of it is kept."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.engines.base import Progress, Sighting, Turn
from assistant_manager.engines.exceptions import Expired, Unavailable
from assistant_manager.models import Connection
from assistant_manager.secrets import Secret
from conversations import ledger, recording
from conversations.driver import Driver
from conversations.models import Run, RunAttempt
from conversations.services import runs
from tests.conversations.driving import PATIENCE, ask, wait, wait_for, wait_until
from tests.conversations.test_starts import ANSWER, LOST, once, starting
from tests.fakes.engine import KIND, ScriptedEngine

__all__ = ["once"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("scripted", "once"),
]


def left_by_a_dead_worker(*, refused: bool) -> Run:
    """A run whose worker died: in the middle of a start, or, `refused`, before the next one."""
    run = ask()
    [claimed] = Run.objects.claim(driver="dead", now=timezone.now(), limit=1)
    begun = ledger.begin(claimed, driver="dead")
    assert begun is not None
    if refused:
        ledger.not_taken(run, 1, driver="dead")
    Run.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    return run


def test_a_start_that_a_dead_worker_left_to_be_made_waits_at_the_gate(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.DRIVER_LEASE_SECONDS = 3
    starts = starting(monkeypatch, ANSWER)
    run = left_by_a_dead_worker(refused=True)
    hour = timezone.now() + timedelta(hours=1)
    Connection.objects.update(paused_until=hour, pause_reason="No credit.")
    driver = Driver()
    driver.start()
    try:
        wait_until(run, lambda: run.waiting_for == "No credit.")
        assert starts.turns == []
        Connection.objects.update(paused_until=None, pause_reason="")
        run = wait(run, "completed")
    finally:
        driver.stop()
    assert [turn.attempt for turn in starts.turns] == [1]


def test_a_worker_that_lost_the_run_while_it_waited_starts_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, lost = ledger.send, threading.Event()

    def late(attempt: RunAttempt, *, driver: str) -> bool:
        lost.wait(100)
        return send(attempt, driver=driver)

    monkeypatch.setattr(ledger, "send", late)
    starts = starting(monkeypatch, Unavailable("Busy.", retry_after=0.1), ANSWER)
    run = wait_until(run := ask(), lambda: run.waiting_for == "Busy.")
    far = timezone.now() + timedelta(hours=1)
    Run.objects.update(leased_by="another", lease_expires_at=far)
    lost.set()
    wait_for(lambda: driver.in_flight == 0)
    assert len(starts.turns) == 1
    assert RunAttempt.objects.get(run=run).sent_at is None


def test_an_answer_in_hand_is_kept_until_the_database_is_back(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = starting(monkeypatch, ANSWER)
    end, failures = recording.end, iter([OperationalError("gone")])

    def ending(*args: Any, **kwargs: Any) -> bool:
        ended = end(*args, **kwargs)
        for failure in failures:
            raise failure
        return ended

    monkeypatch.setattr(recording, "end", ending)
    run = wait(ask(), "completed")
    assert len(starts.turns) == 1
    assert run.attempts.count() == 1
    assert run.messages.filter(role="assistant").count() == 1


def test_whoever_knocks_twice_waits_for_the_start_as_well(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, answered = asyncio.Event(), asyncio.Event()

    async def slowly(turn: Turn) -> Progress:
        sent.set()
        await answered.wait()
        return Progress("working", state={"id": "resp_1"}, upstream_id="resp_1")

    told: list[Sighting] = []

    async def cancel(self: ScriptedEngine, sighting: Sighting) -> None:
        told.append(sighting)

    starts = starting(monkeypatch, slowly)
    monkeypatch.setattr(ScriptedEngine, "cancel", cancel)
    run = ask()
    wait_for(sent.is_set)
    runs.cancel_run(run=run)
    knocked = Run.objects.filter(pk=run.pk, due_at=None)
    wait_for(knocked.exists)
    Run.objects.filter(pk=run.pk).update(due_at=timezone.now())
    wait_for(knocked.exists)
    driver._loop.call_soon_threadsafe(answered.set)
    wait(run, "cancelled")
    assert [sighting.state for sighting in told] == [{"id": "resp_1"}]
    assert len(starts.turns) == 1


def test_whoever_knocks_finds_the_run_as_the_earlier_care_has_left_it(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The row is read for the knock, and the earlier care's last word is written after that."""
    starts = starting(monkeypatch, LOST, ANSWER)
    Connection.objects.update(webhook_secret=Secret("whsec_1234"))
    knocks = ledger.knocks

    def read_and_start_over(*, driver: str) -> list[Run]:
        read = knocks(driver=driver)
        for row in read:
            settings.ADOPTION_SECONDS = 0
            assert ledger.start_over(Run.objects.get(pk=row.pk), driver=driver, lost=True)
        return read

    monkeypatch.setattr(ledger, "knocks", read_and_start_over)
    run = wait_until(run := ask(), lambda: "Waiting for word" in run.waiting_for)
    Run.objects.update(due_at=timezone.now())
    run = wait(run, "completed", "failed")
    assert run.status == "completed", run.last_error
    assert [turn.attempt for turn in starts.turns] == [1, 2]


def test_an_attempt_is_given_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = left_by_a_dead_worker(refused=False)
    [claimed] = Run.objects.claim(driver="next", now=timezone.now(), limit=1)
    older = Run.objects.get(pk=run.pk)
    assert ledger.start_over(claimed, driver="next", lost=True)
    assert not ledger.start_over(older, driver="next", lost=True)
    assert [attempt.number for attempt in run.attempts.all()] == [1, 2]


def test_a_start_that_was_found_and_then_forgotten_is_made_anew(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = starting(monkeypatch, LOST, ANSWER)

    async def look(self: ScriptedEngine, sighting: Sighting) -> Progress:
        raise Expired("never heard of it")

    monkeypatch.setattr(ScriptedEngine, "look", look)
    Connection.objects.update(webhook_secret=Secret("whsec_1234"))
    run = wait_until(run := ask(), lambda: "Waiting for word" in run.waiting_for)
    RunAttempt.objects.update(state={"id": "resp_1"}, upstream_id="resp_1")
    Run.objects.update(due_at=timezone.now())
    wait(run, "completed")
    assert [turn.attempt for turn in starts.turns] == [1, 2]


def test_an_engine_that_was_taken_away_fails_the_runs_in_its_hands_by_name(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    run = left_by_a_dead_worker(refused=False)
    settings.ENGINES = {}
    driver = Driver()
    driver.start()
    try:
        run = wait(run, "failed")
    finally:
        driver.stop()
    assert run.last_error is not None
    assert f"No engine of kind “{KIND}”" in run.last_error["message"]


def test_an_answer_that_waits_for_the_database_is_handed_over_with_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reply is there, but the database has other things to do when the worker stops."""
    replied, busy = threading.Event(), threading.Event()

    async def reply(turn: Turn) -> Progress:
        first._desk._database.submit(busy.wait, 100)
        replied.set()
        return Progress("working", state={"id": "resp_1"}, upstream_id="resp_1")

    async def look(self: ScriptedEngine, sighting: Sighting) -> Progress:
        return ANSWER if sighting.state == {"id": "resp_1"} else Progress("failed")

    starts = starting(monkeypatch, reply)
    monkeypatch.setattr(ScriptedEngine, "look", look)
    run = ask()
    first, second = Driver(), Driver()
    first.start()
    assert replied.wait(PATIENCE)
    stop_while(first, busy)
    second.start()
    try:
        run = wait(run, "completed")
    finally:
        second.stop()
    assert [turn.attempt for turn in starts.turns] == [1]


@pytest.mark.parametrize(
    ("noted_by", "deeds", "started"),
    [
        ("begin_all", [ANSWER], [1]),
        ("send", [Unavailable("Busy.", retry_after=0.1), ANSWER], [1, 1]),
    ],
)
def test_a_run_handed_over_before_its_start_does_not_count_as_lost(
    monkeypatch: pytest.MonkeyPatch, noted_by: str, deeds: list[Any], started: list[int]
) -> None:
    """The rows say already that it is made, for the first time or again."""
    note, noted, busy = getattr(ledger, noted_by), threading.Event(), threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> Any:
        done = note(*args, **kwargs)
        noted.set()
        busy.wait(100)
        return done

    starts = starting(monkeypatch, *deeds)
    monkeypatch.setattr(ledger, noted_by, slowly)
    run = ask()
    first, second = Driver(), Driver()
    first.start()
    assert noted.wait(PATIENCE)
    stop_while(first, busy)
    second.start()
    try:
        run = wait(run, "completed")
    finally:
        second.stop()
    assert [turn.attempt for turn in starts.turns] == started


def stop_while(driver: Driver, busy: threading.Event) -> None:
    """Stop a driver whose database is busy, until a moment after its run was interrupted: by hand,
    as the driver may itself be waiting for the database."""
    [task] = driver._tasks.values()
    driver.begin_to_stop()
    driver._loop.call_soon_threadsafe(task.cancel)
    wait_for(lambda: task.cancelling() > 0)
    busy.set()
    driver.stop()
