"""What must hold of the rows, whatever happened to those who wrote them.

`broken(runs)` holds between any two transactions; `unfinished(runs)` once nothing is under way any
more; `disagreements(upstream)` compares our books with those of the fake upstream. Each returns
sentences: none, and all is well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from django.db.models import QuerySet

from conversations.ledger import LOST_AT_MOST
from conversations.models import Message, Review, ReviewStatus, Run, RunAttempt, RunStatus, RunStep
from conversations.models.status import ALLOWED_FROM, STAMP, TERMINAL
from conversations.models.steps import StepStatus
from conversations.models.threads import MessageStatus, Role
from tests.fakes.upstream.running import Upstream

ANSWERED = (RunStatus.COMPLETED, RunStatus.INCOMPLETE)
MOVES = {f"thread.run.{status}": status for status in RunStatus}
PARTS = ("events", "attempts", "steps", "messages")


def broken(runs: QuerySet[Run]) -> list[str]:
    """The rules that these runs break, whatever they are doing just now."""
    found = []
    for run in runs.prefetch_related(*PARTS):
        review = Review.objects.filter(run=run).first() if run.holds_answers else None
        rules = (_row(run), _events(run), _attempts(run), _items(run), _held(run, review))
        found += [f"{run} ({run.status}): {said}" for rule in rules for said in rule]
    return found


def unfinished(runs: QuerySet[Run]) -> list[str]:
    """What of these runs has not come to its end."""
    return [f"{run} is still {run.status}: {run.waiting_for}" for run in runs.active()]


# --- the run's own row ------------------------------------------------------------------


def _row(run: Run) -> Iterator[str]:
    if run.is_ended:
        for name in ("due_at", "leased_by", "lease_expires_at", "expires_at"):
            if getattr(run, name) is not None:
                yield f"ended, but {name} is set"
        if run.ended_at is None:
            yield "ended, but nobody knows when"
        if run.waiting_for:
            yield f"ended, but waits for {run.waiting_for}"
        yield from _books(run)
    else:
        if run.ended_at is not None:
            yield "goes on, but has an end"
        if run.expires_at is None:
            yield "goes on for ever"
    for status, column in STAMP.items():
        if (getattr(run, column) is not None) != (run.state is status):
            yield f"{column} does not fit"
    if (run.last_error is not None) and run.state not in (RunStatus.FAILED, RunStatus.EXPIRED):
        yield "has an error, but did not fail"


def _books(run: Run) -> Iterator[str]:
    """The tokens of a run are those of its attempts, and of its steps."""
    for name in ("prompt_tokens", "completion_tokens"):
        known = [count for a in run.attempts.all() if (count := getattr(a, name)) is not None]
        unknown = None if run.state in ANSWERED and run.attempts.all() else 0
        if getattr(run, name) != (sum(known) if known else unknown):
            yield f"{name} is {getattr(run, name)}, its attempts' are {known}"
        for attempt in run.attempts.all():
            booked = [
                getattr(step, name) or 0
                for step in run.steps.all()
                if step.attempt == attempt.number
            ]
            if attempt.ended_at and booked and sum(booked) != (getattr(attempt, name) or 0):
                yield f"{name} of {attempt} do not add up to those of its steps"


# --- events -----------------------------------------------------------------------------


def _events(run: Run) -> Iterator[str]:
    events = list(run.events.all())
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield f"events with holes: {[event.seq for event in events]}"
    moves = [MOVES[event.type] for event in events if event.type in MOVES]
    if not moves or moves[0] is not RunStatus.QUEUED:
        yield "its events do not begin with the question"
        return
    for before, after in pairwise(moves):
        if before not in ALLOWED_FROM[after]:
            yield f"events say that it went from {before} to {after}"
    if moves[-1] is not run.state:
        yield f"events say that it is {moves[-1]}"
    if run.is_ended and events[-1].type not in MOVES:
        yield f"{events[-1].type} came after its end"


# --- attempts ---------------------------------------------------------------------------


def _attempts(run: Run) -> Iterator[str]:
    attempts = list(run.attempts.all())
    if [attempt.number for attempt in attempts] != list(range(1, run.attempt + 1)):
        yield f"attempts {[a.number for a in attempts]}, the current one being {run.attempt}"
    for attempt in attempts:
        yield from (f"{attempt} {said}" for said in _attempt(attempt))
    ended = sum(attempt.ended_at is not None for attempt in attempts)
    answers = sum(_is_told(run, status) for status in (RunStatus.REQUIRES_ACTION, RunStatus.HELD))
    ends_itself = run.is_ended and not run.holds_answers
    if run.state in ANSWERED and ended != answers + ends_itself:
        yield f"{ended} attempts have ended, {answers + ends_itself} have said something"
    # What a run says after its cancelling began is recorded, and moves it no more.
    may_be_over = run.is_ended or run.state is RunStatus.CANCELLING
    if ended > answers + may_be_over:
        yield f"{ended} attempts have ended, only {answers} have said something"
    if run.state in ANSWERED and attempts[-1].ended_at is None:
        yield "has an answer, but its last attempt has not ended"
    lost = sum(attempt.lost_at is not None for attempt in attempts)
    if lost > LOST_AT_MOST:
        yield f"{lost} starts were lost, and yet it was started again"


def _is_told(run: Run, status: RunStatus) -> int:
    return sum(event.type == f"thread.run.{status}" for event in run.events.all())


def _attempt(attempt: RunAttempt) -> Iterator[str]:
    if attempt.started_at and attempt.state is None:
        yield "has begun, but has no state"
    if attempt.ended_at and attempt.started_at is None:
        yield "has ended, but never began"
    if attempt.started_at and attempt.sent_at:
        yield "has begun, but its start is still under way"
    if attempt.lost_at and (attempt.state is not None or attempt.sent_at is None):
        yield "counts as lost, but was not"


# --- steps and messages -----------------------------------------------------------------


def _items(run: Run) -> Iterator[str]:
    steps, messages = list(run.steps.all()), list(run.messages.all())
    numbers = {attempt.number for attempt in run.attempts.all() if attempt.state is not None}
    for step in steps:
        is_open = step.status == StepStatus.IN_PROGRESS
        if step.attempt not in numbers:
            yield f"{step} is of attempt {step.attempt}, which never began"
        if is_open and (run.is_ended or step.attempt != run.attempt):
            yield f"{step} is open, but its attempt is over"
    for message in messages:
        if message.status == MessageStatus.IN_PROGRESS and run.is_ended:
            yield f"{message} is open, but its run is over"
    of_steps = {place for step in steps if (place := _message_of(step))}
    of_messages = {(message.attempt, message.item, message.public_id) for message in messages}
    if not of_messages <= of_steps:
        yield f"messages without a step: {of_messages - of_steps}"
    if run.state is RunStatus.REQUIRES_ACTION and not _pending(steps):
        yield "wants outputs, but no call waits for one"
    if run.is_ended and _pending(steps):
        yield "is over, but a call waits for its output"


def _message_of(step: RunStep) -> tuple[int, str, str] | None:
    said = step.details.get("message_creation")
    return (step.attempt, step.item, said["message_id"]) if said else None


def _pending(steps: list[RunStep]) -> list[RunStep]:
    return [step for step in steps if step.for_client and step.status == StepStatus.IN_PROGRESS]


def answers_of(run: Run) -> list[Message]:
    """What the wire shows as said by the assistant in this run."""
    said = [message for message in run.messages.all() if message.role == Role.ASSISTANT]
    return [message for message in said if message.released_at is not None]


# --- held answers -----------------------------------------------------------------------


def _held(run: Run, review: Review | None) -> Iterator[str]:
    if not run.holds_answers:
        return
    if answers_of(run) and run.state not in ANSWERED:
        yield "its answer was released, but nobody approved it"
    status = ReviewStatus(review.status) if review else None
    if status not in _fitting(run):
        yield f"its review is {status}"
    if run.state is RunStatus.HELD and run.outcome not in ANSWERED:
        yield f"holds an answer that would be {run.outcome}"


def _fitting(run: Run) -> tuple[ReviewStatus | None, ...]:
    """The reviews that a run with held answers may have."""
    match run.state:
        case RunStatus.HELD if run.wants_review:
            return (None, ReviewStatus.ASKED_AGAIN, ReviewStatus.WAITING)
        case RunStatus.HELD:
            return (ReviewStatus.WAITING,)
        case RunStatus.COMPLETED | RunStatus.INCOMPLETE:
            return (ReviewStatus.APPROVED, ReviewStatus.EDITED)
        case RunStatus.FAILED:
            return (None, ReviewStatus.REJECTED, ReviewStatus.WITHDRAWN)
        case RunStatus.CANCELLED | RunStatus.EXPIRED:
            return (None, ReviewStatus.WITHDRAWN)
        case RunStatus.CANCELLING:
            return (None, ReviewStatus.WAITING, ReviewStatus.ASKED_AGAIN)
        case _:
            return (None, ReviewStatus.ASKED_AGAIN)


# --- the upstream's books ---------------------------------------------------------------


def disagreements(upstream: Upstream, *, unheard: set[str] = frozenset()) -> list[str]:
    """Where our attempts at Responses APIs differ from what the fake was asked for, once nothing is
    under way. `unheard` are runs whose end the upstream was told in vain, as logs say."""
    attempts = RunAttempt.objects.filter(run__connection__kind="responses").select_related("run")
    known = {attempt.key: attempt for attempt in attempts}
    taken: dict[str, int] = upstream.counts()["creates_by_attempt"]
    found = [f"the upstream was asked by {key}, whom nobody knows" for key in taken - known.keys()]
    for key, attempt in known.items():
        expected = _creates(attempt)
        if taken.get(key, 0) not in expected:
            count = taken.get(key, 0)
            found.append(f"{attempt.run}, {attempt}: taken {count} times, not {expected}")
    for response in upstream.responses():
        attempt = known.get(response["attempt"])
        running = response["status"] in ("queued", "in_progress")
        if running and attempt and attempt.state is not None:
            run = attempt.run
            if run.state in TERMINAL and run.public_id not in unheard:
                found.append(f"{run} is {run.status}, but {response['id']} goes on upstream")
    return found


def _creates(attempt: RunAttempt) -> tuple[int, ...]:
    """How often its start may have been taken."""
    if (attempt.state or {}).get("id"):
        return (1,)
    return (0,) if attempt.sent_at is None else (0, 1)
