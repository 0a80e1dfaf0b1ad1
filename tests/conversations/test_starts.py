"""Starts upstream: fenced, seen through, given up and found again; and who may make one when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.engines.base import MessageItem, Progress, Sighting, Turn
from assistant_manager.engines.exceptions import Expired, Unavailable, Unknown
from assistant_manager.models import Connection
from assistant_manager.secrets import Secret
from conversations import ledger, patience
from conversations.driver import Driver
from conversations.models import Run, RunAttempt
from conversations.services import runs
from tests.conversations.driving import ask, wait, wait_for, wait_until
from tests.fakes.engine import KIND, ScriptedEngine

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted")]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted engine's starts must not be made twice, as with an upstream that charges."""
    monkeypatch.setattr(ScriptedEngine, "start_is_repeatable", False)


class Starts:
    """Replaces the engine's start by a list of what each is to do, the last for all further."""

    def __init__(self, *deeds: Any) -> None:
        self.deeds = list(deeds)
        self.turns: list[Turn] = []

    async def __call__(self, turn: Turn) -> Progress:
        self.turns.append(turn)
        deed = self.deeds.pop(0) if len(self.deeds) > 1 else self.deeds[0]
        if isinstance(deed, Exception):
            raise deed
        if callable(deed):
            return await deed(turn)
        return deed


def starting(monkeypatch: pytest.MonkeyPatch, *deeds: Any) -> Starts:
    starts = Starts(*deeds)

    async def start(self: ScriptedEngine, turn: Turn) -> Progress:
        return await starts(turn)

    monkeypatch.setattr(ScriptedEngine, "start", start)
    return starts


ANSWER = Progress("completed", items=[MessageItem("answer", "x = 1", done=True)])
LOST = Unknown("The reply was cut off.")


def test_a_lost_start_is_made_again_as_a_new_attempt(
    driver: Driver, once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = starting(monkeypatch, LOST, ANSWER)
    run = wait(ask(), "completed")
    first, second = run.attempts.all()
    assert first.lost_at is not None
    assert second.lost_at is None
    assert [turn.attempt_key for turn in starts.turns] == [first.key, second.key]


def test_starts_are_not_lost_for_ever(
    driver: Driver, once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "BACK_OFF", (0.1,))
    starts = starting(monkeypatch, LOST)
    run = wait(ask(), "failed")
    assert run.last_error is not None
    assert "lost again and again" in run.last_error["message"]
    assert len(starts.turns) == 1 + ledger.LOST_AT_MOST


def test_a_start_that_a_dead_worker_may_have_made_is_not_made_again(
    once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = starting(monkeypatch, ANSWER)
    run = ask()
    Run.objects.claim(driver="dead", now=timezone.now(), limit=1)
    run.refresh_from_db()
    assert ledger.begin(run, driver="dead") is not None
    Run.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    driver = Driver()
    driver.start()
    try:
        run = wait(run, "completed")
    finally:
        driver.stop()
    assert [turn.attempt for turn in starts.turns] == [2]


def test_a_start_that_was_refused_is_made_again_by_whoever_comes_next(
    once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = starting(monkeypatch, Unavailable("Busy.", retry_after=3600), ANSWER)
    run = ask()
    first, second = Driver(), Driver()
    first.start()
    wait_until(run, lambda: run.waiting_for == "Busy.")
    first.stop()
    second.start()
    try:
        run = wait(run, "completed")
    finally:
        second.stop()
    assert [turn.attempt for turn in starts.turns] == [1, 1]


def test_a_cancel_in_the_middle_of_a_start_reaches_the_upstream(
    driver: Driver, once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, answered = asyncio.Event(), asyncio.Event()

    async def slowly(turn: Turn) -> Progress:
        sent.set()
        await answered.wait()
        return Progress("working", state={"id": "resp_1"}, upstream_id="resp_1")

    told: list[Sighting] = []

    async def cancel(self: ScriptedEngine, sighting: Sighting) -> None:
        told.append(sighting)

    starting(monkeypatch, slowly)
    monkeypatch.setattr(ScriptedEngine, "cancel", cancel)
    run = ask()
    wait_for(sent.is_set)
    runs.cancel_run(run=run)
    wait_for(Run.objects.filter(pk=run.pk, due_at=None).exists)
    driver._loop.call_soon_threadsafe(answered.set)
    wait(run, "cancelled")
    assert [sighting.state for sighting in told] == [{"id": "resp_1"}]
    assert run.attempts.get().upstream_id == "resp_1"


def test_a_lost_start_waits_for_its_webhook_and_is_found(
    driver: Driver, once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = starting(monkeypatch, LOST)

    async def look(self: ScriptedEngine, sighting: Sighting) -> Progress:
        return ANSWER if sighting.state == {"id": "resp_1"} else Progress("failed")

    monkeypatch.setattr(ScriptedEngine, "look", look)
    Connection.objects.update(webhook_secret=Secret("whsec_1234"))
    run = ask()
    wait_until(run, lambda: "Waiting for word" in run.waiting_for)
    RunAttempt.objects.update(state={"id": "resp_1"}, upstream_id="resp_1")
    Run.objects.update(due_at=timezone.now())
    run = wait(run, "completed")
    assert len(starts.turns) == 1
    assert run.attempts.get().lost_at is None


def test_an_upstream_that_forgot_a_run_is_asked_anew(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = starting(monkeypatch, Expired("never heard of it"), ANSWER)
    run = wait(ask(), "completed")
    assert [turn.attempt for turn in starts.turns] == [1, 2]
    assert run.attempts.count() == 2


def test_only_so_many_runs_are_upstream_at_once(driver: Driver) -> None:
    Connection.objects.update(max_concurrent=2)
    asked = [ask(gate=True, look_again=0.05) for _ in range(4)]
    going = Run.objects.filter(status="in_progress")
    waiting = Run.objects.filter(status="queued").exclude(waiting_for="")
    wait_for(lambda: (going.count(), waiting.count()) == (2, 2))
    assert waiting.filter(waiting_for__contains="2 at once").exists()
    ScriptedEngine.gate.set()
    for run in asked:
        wait(run, "completed")


def test_a_waiting_run_expires_with_the_reason_it_waited_for(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, time_is_up: Callable[[Run], None]
) -> None:
    busy = Unavailable("No quota until noon.", retry_after=3600, code="rate_limit_exceeded")
    starting(monkeypatch, busy)
    run = wait_until(run := ask(), lambda: bool(run.waiting_for))
    time_is_up(run)
    run = wait(run, "expired")
    assert run.last_error == {"code": "rate_limit_exceeded", "message": "No quota until noon."}


def test_a_pause_on_the_row_keeps_runs_back_until_a_person_lifts_it(
    driver: Driver, settings: Settings
) -> None:
    settings.DRIVER_LEASE_SECONDS = 3
    hour = timezone.now() + timedelta(hours=1)
    Connection.objects.update(paused_until=hour, pause_reason="No credit. Next try at 10:42.")
    run = ask()
    run = wait_until(run, lambda: bool(run.waiting_for))
    assert (run.status, run.waiting_for) == ("queued", "No credit. Next try at 10:42.")
    Connection.objects.update(paused_until=None, pause_reason="")
    wait(run, "completed")


def test_the_connection_of_a_run_must_still_have_an_engine(
    driver: Driver, settings: Settings
) -> None:
    settings.ENGINES = {}
    run = wait(ask(), "failed")
    assert run.last_error is not None
    assert f"“{KIND}”" in run.last_error["message"]


def test_options_nobody_knows_fail_the_run_and_say_so(driver: Driver) -> None:
    Connection.objects.update(options={"colour": "blue"})
    run = wait(ask(), "failed")
    assert run.last_error is not None
    assert "colour" in run.last_error["message"]
