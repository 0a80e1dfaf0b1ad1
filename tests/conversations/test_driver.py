"""The driver: what it does with rows, engines and trouble."""

from __future__ import annotations

import errno
import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.models import ReleasePolicy
from conversations import recording
from conversations.driver import Driver
from conversations.items import ItemWriter
from conversations.models import DriverHeartbeat, Review, Run, RunAttempt, RunStatus
from conversations.services import reviews, runs
from tests.conversations.driving import PATIENCE, ask, started, wait, wait_for, wait_until
from tests.factories import make_assistant, make_project, make_staff, make_thread
from tests.fakes.engine import ScriptedEngine

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted")]


def test_a_question_is_answered(driver: Driver) -> None:
    run = wait(ask(answer="x = 1", code="print(1)"), "completed")
    assert [message.text for message in run.thread.messages.all()] == ["What is x?", "x = 1"]
    assert [step.type for step in run.steps.all()] == ["tool_calls", "message_creation"]
    assert (run.prompt_tokens, run.completion_tokens) == (10, 5)
    assert run.started_at
    assert run.completed_at
    assert run.expires_at is None
    assert run.leased_by is None


def test_a_run_leaves_its_events_in_the_order_of_the_protocol(driver: Driver) -> None:
    run = wait(ask(answer="x = 1", code="print(1)"), "completed")
    assert [event.type.removeprefix("thread.") for event in run.events.all()] == [
        "run.created",
        "run.queued",
        "run.in_progress",
        "run.step.created",
        "run.step.in_progress",
        "run.step.delta",
        "run.step.completed",
        "run.step.created",
        "run.step.in_progress",
        "message.created",
        "message.in_progress",
        "message.delta",
        "message.completed",
        "run.step.completed",
        "run.completed",
    ]


def test_the_lock_of_the_thread_falls_with_the_end_of_the_run(driver: Driver) -> None:
    run = wait(ask(), "completed")
    again = runs.ask(assistant=run.assistant, text="And y?", thread=run.thread)
    wait(again, "completed")


def test_submitted_outputs_reach_the_engine(driver: Driver) -> None:
    run = wait(ask(function="weather"), "requires_action")
    [call] = runs.pending_calls(run)
    assert call["function"] == {
        "name": "weather",
        "arguments": '{"city": "Bern"}',
        "output": None,
    }
    runs.submit_tool_outputs(run=run, outputs={call["id"]: "sunny"})
    run = wait(run, "completed")
    answer = runs.answer_of(run)
    assert answer is not None
    assert answer.text == "The tools say: sunny"
    assert (run.prompt_tokens, run.completion_tokens) == (17, 8)


@pytest.mark.parametrize("script", [{"seconds": 3600, "look_again": 3600}, {"hang": True}])
def test_cancelling_interrupts_whatever_the_engine_does(
    driver: Driver, script: dict[str, Any]
) -> None:
    run = wait(ask(**script), "in_progress")
    if not script.get("hang"):
        started(run)
    runs.cancel_run(run=run)
    run = wait(run, "cancelled")
    assert run.cancelled_at is not None
    if not script.get("hang"):
        assert ScriptedEngine.cancelled == [run.public_id]


def test_a_run_that_waits_for_outputs_can_be_cancelled(driver: Driver) -> None:
    run = wait(ask(function="weather"), "requires_action")
    runs.cancel_run(run=run)
    run = wait(run, "cancelled")
    assert [step.status for step in run.steps.all()] == ["cancelled"]


def test_a_refused_question_fails_with_the_engines_words(driver: Driver) -> None:
    run = wait(ask(fail="No such model."), "failed")
    assert run.last_error == {"code": "server_error", "message": "No such model."}


def test_an_unforeseen_error_fails_the_run_without_its_details(driver: Driver) -> None:
    run = wait(ask(bug="secret detail"), "failed")
    assert "secret detail" not in json.dumps(run.last_error)


def test_a_busy_upstream_is_asked_again(driver: Driver) -> None:
    run = wait(ask(unavailable=3), "completed")
    assert ScriptedEngine.starts[f"{run.public_id}:1"] == 4


def test_a_forgotten_attempt_is_started_over(driver: Driver) -> None:
    run = wait(ask(forget=1), "completed")
    assert run.attempt == 2


def test_an_upstream_that_forgets_everything_fails_the_run(driver: Driver) -> None:
    run = wait(ask(forget=99), "failed")
    assert run.last_error is not None
    assert "forgot this run" in run.last_error["message"]


def test_token_limits_end_a_run_as_incomplete(driver: Driver) -> None:
    run = wait(ask(incomplete="max_completion_tokens"), "incomplete")
    assert run.incomplete_reason == "max_completion_tokens"


@pytest.mark.parametrize("script", [{"seconds": 3600, "look_again": 3600}, {"hang": True}])
def test_a_run_expires_while_the_engine_works(
    driver: Driver, settings: Settings, script: dict[str, Any]
) -> None:
    settings.RUN_LIFETIME_SECONDS = 1
    run = wait(ask(**script), "expired")
    assert run.ended_at is not None
    assert run.ended_at - run.created_at >= timedelta(seconds=1)
    assert run.completed_at is None
    assert run.failed_at is None


def test_a_run_whose_clock_lags_expires_all_the_same(
    driver: Driver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RUN_LIFETIME_SECONDS = 1
    settings.DRIVER_LEASE_SECONDS = 600  # so that no renewal comes to the rescue
    expire, early = recording.expire, iter([False, False])
    monkeypatch.setattr(
        recording, "expire", lambda run, **_: expire(run) if next(early, True) else False
    )
    run = wait(ask(hang=True), "expired")
    assert run.leased_by is None


def test_a_run_nobody_answered_expires(driver: Driver) -> None:
    run = wait(ask(function="weather"), "requires_action")
    soon = timezone.now() + timedelta(seconds=0.2)
    Run.objects.filter(pk=run.pk).update(expires_at=soon, due_at=soon)
    run = wait(run, "expired")
    assert [step.status for step in run.steps.all()] == ["expired"]


def test_a_held_answer_is_hidden_until_a_person_approves(driver: Driver) -> None:
    run = wait(ask(ReleasePolicy.AFTER_REVIEW, answer="x = 2", code="print(1)"), "held")
    assert run.state.wire == "in_progress"
    assert not run.thread.messages.released().filter(role="assistant").exists()
    assert not run.steps.released().exists()
    review = wait_for_review(run)
    reviews.approve(review=review, by=make_staff(run.project))
    run.refresh_from_db()
    assert run.status == "completed"
    assert run.thread.messages.released().filter(role="assistant").get().text == "x = 2"


def wait_for_review(run: Run) -> Review:
    wait_until(run, lambda: Review.objects.waiting().filter(run=run).exists())
    return Review.objects.get(run=run)


def test_asking_again_takes_the_reviewers_note_to_the_engine(driver: Driver) -> None:
    run = wait(ask(ReleasePolicy.AFTER_REVIEW, answer="x = 2"), "held")
    staff = make_staff(run.project)
    reviews.ask_again(review=wait_for_review(run), by=staff, note="check the sign")
    run = wait(run, "held")
    assert run.attempt == 2
    reviews.approve(review=wait_for_review(run), by=staff)
    released = run.thread.messages.released().filter(role="assistant")
    assert [message.text for message in released] == ["x = 2 (check the sign)"]


def test_a_held_run_can_be_cancelled_and_its_review_is_withdrawn(driver: Driver) -> None:
    run = wait(ask(ReleasePolicy.AFTER_REVIEW), "held")
    review = wait_for_review(run)
    runs.cancel_run(run=run)
    run = wait(run, "cancelled")
    review.refresh_from_db()
    assert review.status == "withdrawn"
    assert not run.thread.messages.released().filter(role="assistant").exists()


def test_a_sampled_answer_is_released_and_queued_for_review(driver: Driver) -> None:
    assistant = make_assistant(
        instructions="{}", release_policy=ReleasePolicy.SAMPLE, sample_percent=100
    )
    run = wait(runs.ask(assistant=assistant, text="What is x?"), "completed")
    wait_for_review(run)


def test_a_stopped_driver_hands_its_runs_to_the_next() -> None:
    first, second = Driver(), Driver()
    first.start()
    run = started(ask(gate=True, look_again=0.05))
    first.stop()
    run.refresh_from_db()
    assert run.leased_by is None
    assert run.due_at is not None
    second.start()
    ScriptedEngine.gate.set()
    try:
        wait(run, "completed")
    finally:
        second.stop()
    assert ScriptedEngine.starts[f"{run.public_id}:1"] == 1, "it was looked at, not started again"


def test_a_dead_drivers_run_is_taken_up_when_its_lease_has_lapsed() -> None:
    run = ask(answer="x = 1")
    lapsed = timezone.now() - timedelta(seconds=1)
    Run.objects.filter(pk=run.pk).update(leased_by="dead", lease_expires_at=lapsed, due_at=None)
    driver = Driver()
    driver.start()
    try:
        run = wait(run, "completed")
    finally:
        driver.stop()
    assert run.claims == 1


def test_a_driver_that_stood_still_for_longer_than_its_lease_goes_on_with_its_runs(
    driver: Driver,
) -> None:
    run = started(ask(gate=True, look_again=0.05))
    lapsed = timezone.now() - timedelta(seconds=1)
    Run.objects.filter(pk=run.pk).update(lease_expires_at=lapsed)
    wait_until(run, lambda: run.lease_expires_at != lapsed)
    ScriptedEngine.gate.set()
    run = wait(run, "completed")
    assert run.claims == 1
    assert ScriptedEngine.starts[f"{run.public_id}:1"] == 1


@pytest.mark.timeout(300)
def test_two_drivers_share_the_work_and_do_none_of_it_twice(settings: Settings) -> None:
    settings.DRIVER_LEASE_SECONDS = 60  # neither seems dead to the other because it was slow
    asked = [ask(seconds=0.1, look_again=0.02) for _ in range(30)]
    drivers = [Driver(), Driver()]
    for driver in drivers:
        driver.start()
    try:
        for run in asked:
            wait(run, "completed")
    finally:
        for driver in drivers:
            driver.stop()
    for run in asked:
        assert run.messages.filter(role="assistant").count() == 1
        assert ScriptedEngine.starts[f"{run.public_id}:1"] == 1


def test_a_run_lost_to_another_driver_is_left_alone(driver: Driver) -> None:
    run = started(ask(gate=True, look_again=0.05))
    far = timezone.now() + timedelta(hours=1)
    Run.objects.filter(pk=run.pk).update(leased_by="another", lease_expires_at=far)
    ScriptedEngine.gate.set()
    wait_for(lambda: driver.in_flight == 0)
    run.refresh_from_db()
    assert run.status == "in_progress"
    assert not run.messages.filter(role="assistant").exists()


def test_a_deleted_thread_is_let_go(driver: Driver) -> None:
    run = wait(ask(gate=True, look_again=0.05), "in_progress")
    run.thread.delete()
    ScriptedEngine.gate.set()
    wait_for(lambda: driver.in_flight == 0)
    wait(ask(), "completed")


def test_a_kind_without_an_engine_fails_with_its_name(driver: Driver) -> None:
    run = ask()
    run.connection.kind = "gone"
    run.connection.save()
    run = runs.ask(assistant=run.assistant, text="And now?")
    run = wait(run, "failed")
    assert run.last_error is not None
    assert "“gone”" in run.last_error["message"]


def test_a_full_disk_delays_an_answer_and_loses_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = ItemWriter.write
    failures = iter([OSError(errno.ENOSPC, "No space left on device"), DatabaseError("disk full")])

    def write(self: ItemWriter, item: Any) -> None:
        written(self, item)
        for failure in failures:
            raise failure

    monkeypatch.setattr(ItemWriter, "write", write)
    run = wait(ask(answer="x = 1", code="print(1)"), "completed")
    assert run.messages.filter(role="assistant").count() == 1
    assert run.steps.count() == 2
    assert next(failures, None) is None


def test_a_driver_says_that_it_lives_and_takes_its_word_back(driver: Driver) -> None:
    wait(ask(), "completed")
    alive = DriverHeartbeat.objects.filter(name=driver.name)
    wait_for(lambda: alive.alive(timezone.now()).exists())
    driver.stop()
    assert not DriverHeartbeat.objects.filter(name=driver.name).exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_five_hundred_runs_are_in_flight_at_once(driver: Driver) -> None:
    project = make_project()
    script = {"gate": True, "look_again": 0.5, "answer": "x = 1"}
    assistant = make_assistant(project=project, instructions=json.dumps(script))
    for _ in range(500):
        runs.request_run(thread=make_thread(project=project, question="x?"), assistant=assistant)
    under_way = RunAttempt.objects.filter(state__isnull=False, ended_at=None)
    wait_for(lambda: under_way.count() == 500, seconds=120)
    assert driver.in_flight == 500
    ScriptedEngine.gate.set()
    wait_for(lambda: Run.objects.filter(status="completed").count() == 500, seconds=120)


def test_a_row_somebody_else_has_locked_is_waited_for(driver: Driver) -> None:
    run = started(ask(gate=True, look_again=0.05))
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Run.objects.filter(pk=run.pk).update(metadata={"held": "yes"})
            locked.set()
            release.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(PATIENCE)
    ScriptedEngine.gate.set()
    time.sleep(0.5)
    release.set()
    holder.join()
    wait(run, "completed")
    assert RunStatus(run.status) is RunStatus.COMPLETED
