"""One Progress onto the rows. Recording the same Progress twice changes nothing.

Everything here runs in a transaction that has first updated the run's row: that update is the
fence against a driver whose lease lapsed, and the lock under which events are numbered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, close_old_connections, transaction
from django.utils import timezone

from assistant_manager.engines.base import Progress
from assistant_manager.models import File, FileCopy
from conversations import bulk
from conversations.items import Events, ItemWriter, end_step
from conversations.models import Review, ReviewStatus, Run, RunAttempt, RunEvent, RunStatus
from conversations.models.status import ALLOWED_FROM
from conversations.models.steps import StepStatus
from conversations.models.threads import MessageStatus
from conversations.storable import indexable, storable

STEP_END: dict[RunStatus, StepStatus] = {
    RunStatus.COMPLETED: StepStatus.COMPLETED,
    RunStatus.INCOMPLETE: StepStatus.COMPLETED,
    RunStatus.FAILED: StepStatus.FAILED,
    RunStatus.CANCELLED: StepStatus.CANCELLED,
    RunStatus.EXPIRED: StepStatus.EXPIRED,
}
"""How a step still open ends with its run (protocol reference 4.2)."""

MESSAGE_END: dict[RunStatus, str] = {
    RunStatus.INCOMPLETE: "max_tokens",
    RunStatus.FAILED: "run_failed",
    RunStatus.CANCELLED: "run_cancelled",
    RunStatus.EXPIRED: "run_expired",
}
"""The reason on a message still open; without one it is complete."""


def record(run: Run, attempt: RunAttempt, progress: Progress, *, driver: str) -> bool:
    """Write what is known of `attempt`; False when `driver` no longer holds the run.

    A final outcome commits together with its answer, usage and closing event. A run that is
    being cancelled keeps its status: the driver ends it once the upstream was told.
    """
    progress = storable(progress)
    with transaction.atomic():
        lease_end = timezone.now() + timedelta(seconds=settings.DRIVER_LEASE_SECONDS)
        held = {"id": run.pk, "leased_by": driver, "attempt": attempt.number}
        if not bulk.change(Run, held, lease_expires_at=lease_end, waiting_for=""):
            return False
        _take_over(attempt, progress)
        bulk.update([attempt], ATTEMPT)
        if progress.uploads:
            _record_uploads(run, progress.uploads)
        events: Events = []
        books = None
        if progress.items:
            writer = ItemWriter(run, attempt)
            writer.write_all(
                progress.items, progress.usage if progress.outcome != "working" else None
            )
            events = writer.events
            if attempt.number == 1 and not writer.has_open_items:
                books = _spent_by([attempt])
        if not _follow(run, progress, events, books):
            RunEvent.objects.append_all(run, events)
    return True


Record = tuple[Run, RunAttempt, Progress]


def record_each(records: Sequence[Record], *, driver: str) -> list[bool | Exception]:
    """`record` for each, every one a transaction of its own; what it raises is returned in its
    place. While the database is away, those that follow are not tried."""
    results: list[bool | Exception] = []
    for run, attempt, progress in records:
        try:
            results.append(record(run, attempt, progress, driver=driver))
        except Exception as error:
            close_old_connections()
            missing = len(records) - len(results) if isinstance(error, OperationalError) else 1
            results += [error] * missing
            if len(results) == len(records):
                break
    return results


def record_starts(starts: Sequence[tuple[RunAttempt, Progress]], *, driver: str) -> list[bool]:
    """What `record` does, for attempts that have only just begun upstream and have no items yet:
    all of them in one transaction."""
    keys = tuple({attempt.run_id for attempt, _ in starts})
    with transaction.atomic():
        numbers = dict(
            bulk.change_and_tell(
                Run,
                {"id": keys, "leased_by": driver},
                ("id", "attempt"),
                lease_expires_at=timezone.now() + timedelta(seconds=settings.DRIVER_LEASE_SECONDS),
                waiting_for="",
            )
        )
        held = [numbers.get(attempt.run_id) == attempt.number for attempt, _ in starts]
        begun = [start for start, is_held in zip(starts, held, strict=True) if is_held]
        for attempt, progress in begun:
            _take_over(attempt, storable(progress))
        bulk.update([attempt for attempt, _ in begun], ATTEMPT)
    return held


def is_bare_start(progress: Progress) -> bool:
    """Whether `record_starts` has room for all it says."""
    return progress.outcome == "working" and not progress.items and not progress.uploads


ATTEMPT = (
    *("state", "upstream_id", "sent_at", "started_at", "ended_at"),
    *("prompt_tokens", "completion_tokens"),
)
"""What Progress changes about an attempt."""


def _take_over(attempt: RunAttempt, progress: Progress) -> None:
    """Put what is known onto the instance, unsaved."""
    now = timezone.now()
    attempt.state = dict(progress.state)
    attempt.upstream_id = indexable(progress.upstream_id) or attempt.upstream_id
    attempt.sent_at = None
    attempt.started_at = attempt.started_at or now
    if progress.outcome != "working":
        attempt.ended_at = attempt.ended_at or now
    if progress.usage is not None:
        attempt.prompt_tokens = progress.usage.prompt_tokens
        attempt.completion_tokens = progress.usage.completion_tokens


def _record_uploads(run: Run, uploads: Mapping[str, str]) -> None:
    """Remember the copies of our files that the connection has; a later one replaces the earlier.
    The files are locked, in one order for all: who deletes one meanwhile must not undo an answer."""
    named = File.objects.filter(project_id=run.project_id, public_id__in=uploads).order_by("pk")
    files = named.select_for_update(no_key=True)
    FileCopy.objects.bulk_create(
        [
            FileCopy(
                file=file, connection_id=run.connection_id, upstream_id=uploads[file.public_id]
            )
            for file in files
        ],
        update_conflicts=True,
        unique_fields=["file", "connection"],
        update_fields=["upstream_id"],
    )


def _follow(run: Run, progress: Progress, events: Events, books: Books | None) -> bool:
    """Move the run to where its attempt now stands, leaving `events` with the move; False when it
    stays where it is. `books` as in `end`."""
    free: dict[str, Any] = {"leased_by": None, "lease_expires_at": None}
    match progress.outcome:
        case "working":
            return False
        case "requires_action":
            return run.move(RunStatus.REQUIRES_ACTION, events=events, due_at=run.expires_at, **free)
        case "completed" | "incomplete":
            outcome = RunStatus(progress.outcome)
            reason = {"incomplete_reason": progress.incomplete_reason}
            if not run.holds_answers:
                return end(run, outcome, events=events, books=books, **reason)
            deadline = timezone.now() + timedelta(seconds=settings.REVIEW_LIFETIME_SECONDS)
            return run.move(
                RunStatus.HELD,
                events=events,
                outcome=outcome,
                wants_review=True,
                **reason,
                expires_at=deadline,
                due_at=deadline,
                **free,
            )
        case "failed":
            error = progress.error or "The engine gave no reason."
            return fail(run, error, code=progress.error_code, events=events)
        case "cancelled":
            return fail(run, "The run was cancelled at the upstream.", events=events)
        case "expired":
            return end(run, RunStatus.EXPIRED, events=events)


def fail(
    run: Run,
    message: str,
    *,
    code: str = "server_error",
    events: Events | None = None,
    driver: str | None = None,
) -> bool:
    """End the run as failed. `code` is the wire's `last_error.code`; `message` is for people."""
    error = {"code": code, "message": storable(message)}
    return end(run, RunStatus.FAILED, events=events, driver=driver, last_error=error)


def expire(run: Run, *, error: dict[str, str] | None = None) -> bool:
    """End a run whose time is up. The row decides: it may have been given more time since this
    instance was read, as an answer is that waits for a person. `error` is what it waited for, as
    `last_error`; None where nothing kept it waiting."""
    with transaction.atomic():
        locked = Run.objects.overdue(timezone.now()).select_for_update().filter(pk=run.pk)
        if not locked.values_list("pk").exists():
            return False
        return end(run, RunStatus.EXPIRED, last_error=storable(error))


def end(
    run: Run,
    to: RunStatus,
    *,
    events: Events | None = None,
    driver: str | None = None,
    books: Books | None = None,
    **fields: Any,
) -> bool:
    """End a run that may become `to`: what is still open closes with it. `events` are left before
    those of the end; with `driver` it is refused to a driver that has lost its lease. `books` are
    the tokens of all its attempts, from who holds its row and knows that nothing is open. False:
    it had moved on, and nothing was changed."""
    with transaction.atomic(savepoint=False):
        answered = to in (RunStatus.COMPLETED, RunStatus.INCOMPLETE)
        if not answered:
            fields["wants_review"] = False
        closing: Events = []
        if books is None:
            if not _lock(run, to, driver):
                return False
            closing = close_open_items(
                run, STEP_END[to], MESSAGE_END.get(to), fields.get("last_error")
            )
            books = _spent_by(RunAttempt.objects.filter(run=run))
        moved = run.move(
            to,
            events=[*(events or ()), *closing],
            driver=driver,
            **_tokens(books, answered),
            waiting_for="",
            **fields,
        )
        if moved and run.holds_answers and not answered:
            Review.objects.filter(run=run).move(ReviewStatus.WITHDRAWN)
    return moved


def _lock(run: Run, to: RunStatus, driver: str | None) -> bool:
    """Whether the run may move to `to`; nobody else can move it from here on."""
    rows = Run.objects.filter(pk=run.pk, status__in=ALLOWED_FROM[to])
    if driver is not None:
        rows = rows.filter(leased_by=driver)
    return rows.select_for_update().values_list("pk").exists()


Books = Sequence[tuple[int | None, int | None]]
"""Prompt and completion tokens of each attempt; None where its upstream did not count."""


def _spent_by(attempts: Iterable[RunAttempt]) -> Books:
    return [(attempt.prompt_tokens, attempt.completion_tokens) for attempt in attempts]


def _tokens(books: Books, answered: bool) -> dict[str, int | None]:
    """Those of all attempts; None for an answer whose upstream does not count."""
    unknown = None if answered and books else 0
    spent = {}
    for kind, counts in zip(("prompt", "completion"), zip(*books, strict=True), strict=False):
        known = [count for count in counts if count is not None]
        spent[f"{kind}_tokens"] = sum(known) if known else unknown
    return spent or {"prompt_tokens": unknown, "completion_tokens": unknown}


def close_open_items(
    run: Run, step_status: StepStatus, reason: str | None, error: dict[str, str] | None = None
) -> Events:
    """Close the steps and messages that are still in progress; return their events."""
    now = timezone.now()
    events: Events = []
    for message in run.messages.filter(status=MessageStatus.IN_PROGRESS):
        if reason:
            message.status, message.incomplete_at = MessageStatus.INCOMPLETE, now
            message.incomplete_reason = reason
        else:
            message.status, message.completed_at = MessageStatus.COMPLETED, now
        message.save(update_fields=["status", "incomplete_at", "incomplete_reason", "completed_at"])
        events.append((f"thread.message.{message.status}", {"message": message.public_id}))
    for step in run.steps.filter(status=StepStatus.IN_PROGRESS):
        step.last_error = error if step_status == StepStatus.FAILED else None
        events.append(end_step(step, step_status))
        step.save()
    return events
