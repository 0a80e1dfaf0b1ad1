"""What staff can decide about an answer. Each decision is one transaction: either the review,
the run and the text all change, or nothing does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from conversations import recording
from conversations.exceptions import AlreadyDecided
from conversations.models import (
    AnswerRevision,
    Message,
    Review,
    ReviewDecision,
    ReviewStatus,
    Run,
    RunAttempt,
    RunStatus,
)
from conversations.models.threads import Role
from conversations.nudges import nudge


@transaction.atomic
def open_review(*, run: Run) -> Review:
    """The review of an answered run, made if it was never queued. Raises AlreadyDecided for a run
    that has no answer to judge."""
    run = Run.objects.select_for_update(no_key=True).get(pk=run.pk)
    if run.state not in (RunStatus.HELD, RunStatus.COMPLETED, RunStatus.INCOMPLETE):
        raise AlreadyDecided
    review, _ = Review.objects.get_or_create(run=run)
    again = Review.objects.filter(pk=review.pk, status=ReviewStatus.ASKED_AGAIN)
    if run.state is RunStatus.HELD and again.move(ReviewStatus.WAITING):
        # The new answer is there; the driver, who queues it, is just not as fast as this person.
        review.refresh_from_db()
    return review


@transaction.atomic
def approve(*, review: Review, by: User) -> None:
    """Release the answer as it is. Raises AlreadyDecided."""
    run = _decide(review, ReviewStatus.APPROVED, by)
    _release(run)


@transaction.atomic
def edit(*, review: Review, by: User, text: str) -> None:
    """Release a corrected text; the original stays as revision 0. Raises AlreadyDecided.

    Annotations point into the old text and go with it; pictures stay.
    """
    run = _decide(review, ReviewStatus.EDITED, by)
    answer = run.messages.filter(role=Role.ASSISTANT).order_by("-pk").first()
    if answer is None:
        raise AlreadyDecided
    revise(message=answer, by=by, text=text)
    _release(run)


@transaction.atomic
def reject(*, review: Review, by: User, reason: str) -> None:
    """Refuse the answer. A held run fails with `reason`; a released one keeps its text and only
    carries the verdict. Raises AlreadyDecided."""
    run = _decide(review, ReviewStatus.REJECTED, by, reason)
    if run.holds_answers and not recording.fail(run, f"A reviewer rejected the answer: {reason}"):
        raise AlreadyDecided


@transaction.atomic
def ask_again(*, review: Review, by: User, note: str) -> None:
    """Send a held answer back to the engine with the reviewer's note, inside the same run. The
    engine has as long as for a new run, not the days that a person has.

    Raises AlreadyDecided, also for a run that is not held."""
    run = _decide(review, ReviewStatus.ASKED_AGAIN, by, note)
    outcome = RunStatus(run.outcome or RunStatus.COMPLETED)
    closing = recording.close_open_items(
        run, recording.STEP_END[outcome], recording.MESSAGE_END.get(outcome)
    )
    number = run.attempt + 1
    RunAttempt.objects.create(run=run, number=number, note=note)
    now = timezone.now()
    deadline = now + timedelta(seconds=settings.RUN_LIFETIME_SECONDS)
    fields: dict[str, Any] = {
        "attempt": number,
        "outcome": None,
        "due_at": now,
        "expires_at": deadline,
    }
    if not run.move(RunStatus.IN_PROGRESS, events=closing, **fields):
        raise AlreadyDecided
    nudge()


def revise(*, message: Message, by: User, text: str) -> None:
    """Replace the text of an answer, keeping every text it had."""
    if not message.revisions.exists():
        AnswerRevision.objects.create(message=message, number=0, content=message.content)
    number = (message.revisions.aggregate(last=Max("number"))["last"] or 0) + 1
    kept = [part for part in message.content if part["type"] != "text"]
    message.content = [*kept, {"type": "text", "text": {"value": text, "annotations": []}}]
    message.save(update_fields=["content"])
    AnswerRevision.objects.create(
        message=message, number=number, content=message.content, author=by
    )


def _decide(review: Review, to: ReviewStatus, by: User, reason: str = "") -> Run:
    """Take the decision before anyone else can; returns the run, its row locked."""
    run = Run.objects.select_for_update().get(pk=review.run_id)
    fields: dict[str, Any] = {"reviewer": by, "reason": reason, "decided_at": timezone.now()}
    if not Review.objects.filter(pk=review.pk).move(to, **fields):
        raise AlreadyDecided
    if run.holds_answers and run.state is not RunStatus.HELD:
        raise AlreadyDecided
    ReviewDecision.objects.create(review=review, status=to, by=by, reason=reason)
    review.refresh_from_db()
    return run


def _release(run: Run) -> None:
    """Show the answer on the wire and end the run, where it was held. What earlier attempts
    wrote, before a reviewer asked again, stays hidden."""
    if not run.holds_answers:
        return
    asked_again = run.attempts.exclude(note="").aggregate(last=Max("number"))["last"] or 1
    now = timezone.now()
    run.messages.filter(attempt__gte=asked_again).update(released_at=now)
    run.steps.filter(attempt__gte=asked_again).update(released_at=now)
    if not recording.end(run, RunStatus(run.outcome or RunStatus.COMPLETED)):
        raise AlreadyDecided
