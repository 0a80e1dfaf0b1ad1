"""The verdict of staff: what it does to the run, the text and the wire; who comes first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from assistant_manager.engines.base import MessageItem, Progress, ToolCall, ToolCallsItem, Turn
from assistant_manager.models import Assistant, Project, ReleasePolicy
from conversations import ledger, recording
from conversations.exceptions import AlreadyDecided
from conversations.models import Message, Review, ReviewStatus, Run, RunStatus
from conversations.services import reviews, runs
from conversations.services.runs import answer_of
from conversations.turns import build_turn
from tests.conversations.test_runs import together
from tests.factories import make_assistant, make_run, make_staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(project: Project) -> User:
    return make_staff(project)


@pytest.fixture
def careful(project: Project) -> Assistant:
    return make_assistant(project=project, release_policy=ReleasePolicy.AFTER_REVIEW)


def answered(assistant: Assistant, text: str = "x = 2") -> Run:
    """A run whose engine has finished: held or completed, as the assistant's policy has it."""
    run = make_run(assistant=assistant)
    Run.objects.claim(driver="me", now=timezone.now(), limit=1)
    answer(run, text)
    return run


def answer(run: Run, text: str) -> None:
    begun = ledger.begin(run, driver="me")
    assert begun is not None
    cell = ToolCall(id="call_1", type="code_interpreter", input="print(2)", logs="2")
    items = (ToolCallsItem("code", (cell,), done=True), MessageItem("answer", text, done=True))
    recording.record(run, begun.attempt, Progress("completed", items=items), driver="me")
    Review.objects.open_missing()


def wire(run: Run) -> list[str]:
    """The assistant's messages that programs can read."""
    return [
        message.text
        for message in Message.objects.filter(thread=run.thread, role="assistant").released()
    ]


def test_approving_releases_the_answer(careful: Assistant, staff: User) -> None:
    run = answered(careful)
    assert wire(run) == []
    reviews.approve(review=run.review, by=staff)
    run.refresh_from_db()
    assert run.status == "completed"
    assert wire(run) == ["x = 2"]
    assert run.steps.released().count() == 2


def test_an_answer_cut_short_is_closed_before_it_is_asked_for_again(
    careful: Assistant, staff: User
) -> None:
    run = make_run(assistant=careful)
    Run.objects.claim(driver="me", now=timezone.now(), limit=1)
    begun = ledger.begin(run, driver="me")
    assert begun is not None
    short = Progress("incomplete", items=[MessageItem("answer", "x is")])
    recording.record(run, begun.attempt, short, driver="me")
    Review.objects.open_missing()
    reviews.ask_again(review=run.review, by=staff, note="All of it.")
    [message] = run.messages.all()
    assert (message.status, message.incomplete_reason) == ("incomplete", "max_tokens")
    assert not run.steps.filter(status="in_progress").exists()


def test_an_edit_releases_the_correction_and_keeps_the_original(
    careful: Assistant, staff: User
) -> None:
    run = answered(careful)
    reviews.edit(review=run.review, by=staff, text="x = 1")
    assert wire(run) == ["x = 1"]
    message = answer_of(run)
    assert message is not None
    first, second = message.revisions.all()
    assert first.content[0]["text"]["value"] == "x = 2"
    assert (first.author, second.author) == (None, staff)
    assert second.content[0]["text"]["value"] == "x = 1"


def test_later_turns_see_the_corrected_text(careful: Assistant, staff: User) -> None:
    run = answered(careful)
    reviews.edit(review=run.review, by=staff, text="x = 1")
    later = make_run(assistant=careful, thread=run.thread)
    attempt = later.attempts.create(number=1)
    assert [message.text for message in build_turn(later, attempt).messages][-1] == "x = 1"


def test_rejecting_fails_the_run_with_the_reason(careful: Assistant, staff: User) -> None:
    run = answered(careful)
    reviews.reject(review=run.review, by=staff, reason="The sign is wrong.")
    run.refresh_from_db()
    assert run.status == "failed"
    assert run.last_error == {
        "code": "server_error",
        "message": "A reviewer rejected the answer: The sign is wrong.",
    }
    assert wire(run) == []
    run.review.refresh_from_db()
    assert run.review.status == "rejected"


def test_asking_again_sends_the_note_and_hides_the_first_answer(
    careful: Assistant, staff: User
) -> None:
    run = answered(careful)
    reviews.ask_again(review=run.review, by=staff, note="Check the sign.")
    [run] = Run.objects.claim(driver="me", now=timezone.now(), limit=1)
    begun = ledger.begin(run, driver="me")
    assert begun is not None
    turn = begun.work
    assert turn.note == "Check the sign."
    assert [type(item).__name__ for item in turn.past] == ["ToolCallsItem", "MessageItem"]
    answer(run, "x = 1")
    run.review.refresh_from_db()
    assert run.review.status == "waiting"
    reviews.approve(review=run.review, by=staff)
    assert wire(run) == ["x = 1"]


def asked_again(careful: Assistant, staff: User) -> Run:
    run = answered(careful)
    reviews.ask_again(review=run.review, by=staff, note="Check the sign.")
    [run] = Run.objects.claim(driver="me", now=timezone.now(), limit=1)
    return run


def test_asking_again_gives_the_engine_minutes_not_days(careful: Assistant, staff: User) -> None:
    run = asked_again(careful, staff)
    assert run.expires_at is not None
    assert run.expires_at <= timezone.now() + timedelta(seconds=settings.RUN_LIFETIME_SECONDS)


def test_a_note_outlives_an_upstream_that_forgets(careful: Assistant, staff: User) -> None:
    run = asked_again(careful, staff)
    first = ledger.begin(run, driver="me")
    assert first is not None
    half = Progress("working", items=[MessageItem("answer", "half an")], state={"id": 1})
    recording.record(run, first.attempt, half, driver="me")
    assert ledger.start_over(run, driver="me", lost=False)
    second = ledger.begin(run, driver="me")
    assert second is not None
    assert isinstance(second.work, Turn)
    assert second.work.note == "Check the sign."
    said = [item.text for item in second.work.past if isinstance(item, MessageItem)]
    assert said == ["x = 2"], "what the upstream forgot is no past to build on"


def test_a_note_outlives_the_tool_calls_it_leads_to(careful: Assistant, staff: User) -> None:
    run = asked_again(careful, staff)
    first = ledger.begin(run, driver="me")
    assert first is not None
    call = ToolCall(id="call_2", type="function", name="f", arguments="{}")
    asks = Progress("requires_action", items=[ToolCallsItem("f", [call])])
    recording.record(run, first.attempt, asks, driver="me")
    runs.submit_tool_outputs(run=run, outputs={"call_2": "1"})
    [run] = Run.objects.claim(driver="me", now=timezone.now(), limit=1)
    second = ledger.begin(run, driver="me")
    assert second is not None
    assert isinstance(second.work, Turn)
    assert second.work.note == "Check the sign."


def test_each_decision_is_remembered(careful: Assistant, staff: User) -> None:
    run = answered(careful)
    reviews.ask_again(review=run.review, by=staff, note="Once more.")
    [run] = Run.objects.claim(driver="me", now=timezone.now(), limit=1)
    answer(run, "x = 1")
    reviews.approve(review=run.review, by=staff)
    decisions = run.review.decisions.values_list("status", "by", "reason")
    assert list(decisions) == [("asked_again", staff.pk, "Once more."), ("approved", staff.pk, "")]


def test_a_second_verdict_changes_nothing(careful: Assistant, staff: User) -> None:
    run = answered(careful)
    late = Review.objects.get(run=run)
    reviews.approve(review=run.review, by=staff)
    for decide in (
        lambda: reviews.approve(review=late, by=staff),
        lambda: reviews.edit(review=late, by=staff, text="x = 3"),
        lambda: reviews.reject(review=late, by=staff, reason="no"),
        lambda: reviews.ask_again(review=late, by=staff, note="no"),
    ):
        with pytest.raises(AlreadyDecided):
            decide()
    assert wire(run) == ["x = 2"]
    assert run.review.decisions.count() == 1


def test_a_verdict_on_a_cancelled_run_comes_too_late(careful: Assistant, staff: User) -> None:
    run = answered(careful)
    run.move(RunStatus.CANCELLING)
    with pytest.raises(AlreadyDecided):
        reviews.approve(review=run.review, by=staff)
    run.review.refresh_from_db()
    assert run.review.status == ReviewStatus.WAITING
    assert wire(run) == []


@pytest.mark.django_db(transaction=True)
def test_of_two_reviewers_at_once_one_decides() -> None:
    careful = make_assistant(release_policy=ReleasePolicy.AFTER_REVIEW)
    one, two = make_staff(careful.project), make_staff(careful.project)
    for _ in range(5):
        run = answered(careful)
        review = Review.objects.get(run=run)
        outcomes = together(
            lambda review=review: reviews.edit(review=review, by=one, text="x = 1"),
            lambda review=review: reviews.reject(review=review, by=two, reason="no"),
        )
        assert [type(outcome) for outcome in outcomes if outcome] == [AlreadyDecided]
        assert review.decisions.count() == 1
        run.refresh_from_db()
        assert wire(run) == (["x = 1"] if run.status == "completed" else [])


def test_a_released_answer_can_be_corrected_afterwards(assistant: Assistant, staff: User) -> None:
    run = answered(assistant)
    review = reviews.open_review(run=run)
    reviews.edit(review=review, by=staff, text="x = 1")
    run.refresh_from_db()
    assert run.status == "completed"
    assert wire(run) == ["x = 1"]


def test_a_released_answer_stays_when_it_is_rejected(assistant: Assistant, staff: User) -> None:
    run = answered(assistant)
    reviews.reject(review=reviews.open_review(run=run), by=staff, reason="Wrong.")
    run.refresh_from_db()
    assert run.status == "completed"
    assert wire(run) == ["x = 2"]


def test_a_run_without_an_answer_has_nothing_to_review() -> None:
    with pytest.raises(AlreadyDecided):
        reviews.open_review(run=make_run())


@pytest.mark.django_db(transaction=True)
def test_queueing_reviews_while_a_held_run_ends_is_no_deadlock() -> None:
    careful = make_assistant(release_policy=ReleasePolicy.AFTER_REVIEW)
    staff = make_staff(careful.project)
    for _ in range(10):
        run = asked_again(careful, staff)
        begun = ledger.begin(run, driver="me")
        assert begun is not None
        answer = Progress("completed", items=[MessageItem("answer", "x = 1", done=True)])
        recording.record(run, begun.attempt, answer, driver="me")
        outcomes = together(
            Review.objects.open_missing, lambda run=run: recording.fail(run, "over")
        )
        assert outcomes == [None, None]


def test_queueing_reviews_twice_queues_each_once(careful: Assistant) -> None:
    run = answered(careful)
    assert Review.objects.open_missing() == 0
    assert Review.objects.filter(run=run).count() == 1
