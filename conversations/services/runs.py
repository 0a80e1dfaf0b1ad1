"""What can be asked of runs: a question put, stopped, helped along, counted out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from assistant_manager.models import ApiKey, Assistant, Model, ReleasePolicy
from assistant_manager.models.connections import serving
from assistant_manager.models.prepared import Prepared
from conversations import bulk, recording
from conversations.exceptions import (
    NoOutputsWanted,
    NotCancellable,
    RunActive,
    UnknownModel,
    WrongOutputs,
)
from conversations.models import Message, Run, RunEvent, RunStatus, RunStep, Thread
from conversations.models.steps import StepStatus
from conversations.models.threads import Role
from conversations.nudges import nudge
from conversations.services.threads import NewMessage, create_thread, store_messages, text_content

COPIED = ("model", "tools", "temperature", "top_p", "response_format", "reasoning_effort")
"""Columns a run takes over from its assistant unless the request says otherwise."""

_STANDING: Prepared[Any] = Prepared(
    lambda thread, model: Model.objects.that_may_serve(model).annotate(
        active=Run.objects.active().filter(thread=thread).values("public_id")[:1],
        question=Message.objects.filter(thread=thread, role=Role.USER)
        .order_by("-pk")
        .values("pk")[:1],
    )
)
"""Models that may serve, each with the active run of a thread and its last question beside it: two
things to know, in one look."""


@transaction.atomic
def request_run(
    *,
    thread: Thread,
    assistant: Assistant,
    asked_by: User | None = None,
    api_key: ApiKey | None = None,
    instructions: str | None = None,
    additional_instructions: str | None = None,
    additional_messages: Iterable[NewMessage] = (),
    **overrides: Any,
) -> Run:
    """Queue an answer to `thread`; `overrides` are columns of Run.

    Raises RunActive while another run is active, UnknownModel when no connection serves the
    model's name; then nothing is stored, the additional messages included.
    """
    locked = Thread.objects.lock(thread)
    fields = {name: getattr(assistant, name) for name in COPIED} | overrides
    model: Any = serving(fields["model"], _STANDING.all(thread=locked.pk, model=fields["model"]))
    if model is None:
        raise UnknownModel(fields["model"])
    if model.active is not None:
        raise RunActive(locked.public_id, model.active)
    question = model.question
    for message in store_messages(locked, additional_messages):
        question = message.pk if message.role == Role.USER else question
    said = [assistant.instructions if instructions is None else instructions]
    now = timezone.now()
    run = Run(
        project_id=locked.project_id,
        thread=locked,
        assistant=assistant,
        question_id=question,
        asked_by=asked_by,
        api_key=api_key,
        instructions="\n\n".join(text for text in [*said, additional_instructions] if text),
        tool_resources=_merged(
            fields.pop("tool_resources", assistant.tool_resources), locked.tool_resources
        ),
        release_policy=assistant.release_policy,
        wants_review=_drawn(assistant),
        connection_id=model.connection_id,
        upstream_model=model.upstream_name or fields["model"],
        # Of one moment: programs subtract these from each other.
        created_at=now,
        due_at=now,
        expires_at=now + timedelta(seconds=settings.RUN_LIFETIME_SECONDS),
        **fields,
    )
    bulk.add(run)
    RunEvent.objects.append_first(
        run, ["thread.run.created", "thread.run.queued"], {"status": "queued"}
    )
    return run


def _drawn(assistant: Assistant) -> bool:
    if assistant.release_policy != ReleasePolicy.SAMPLE:
        return False
    return random.random() * 100 < assistant.sample_percent  # noqa: S311 - a sample, not a secret


def _merged(assistant: dict[str, Any], thread: dict[str, Any]) -> dict[str, Any]:
    """The run sees the files and stores of both, the assistant's first."""
    merged: dict[str, Any] = {}
    for tool in {**assistant, **thread}:
        ours, theirs = assistant.get(tool) or {}, thread.get(tool) or {}
        merged[tool] = {
            key: list(dict.fromkeys([*ours.get(key, []), *theirs.get(key, [])]))
            for key in {**ours, **theirs}
        }
    return merged


@transaction.atomic
def ask(
    *,
    assistant: Assistant,
    text: str,
    by: User | None = None,
    thread: Thread | None = None,
) -> Run:
    """Put a question as a person does: a message, in a new thread unless one is named, and a
    run. Raises RunActive while the thread is busy, UnknownModel as `request_run` does."""
    question: NewMessage = {"role": "user", "content": text_content(text)}
    if thread is None:
        thread = create_thread(project=assistant.project)
    return request_run(
        thread=thread, assistant=assistant, asked_by=by, additional_messages=[question]
    )


@transaction.atomic
def change_run(*, run: Run, metadata: dict[str, str]) -> Run:
    """Only metadata may change, in any state."""
    bulk.change(Run, {"id": run.pk}, metadata=metadata)
    run.metadata = metadata
    return run


@transaction.atomic
def cancel_run(*, run: Run) -> Run:
    """Ask for the run to stop; a driver tells the upstream and ends it. Raises NotCancellable."""
    if not run.move(RunStatus.CANCELLING, due_at=timezone.now()):
        run.refresh_from_db()
        raise NotCancellable(run.state.wire)
    nudge()
    return run


def pending_calls(run: Run) -> list[dict[str, Any]]:
    """The function calls a run in `requires_action` waits for, in the wire's shape."""
    steps = run.steps.filter(for_client=True, status=StepStatus.IN_PROGRESS).order_by("pk")
    return [call for step in steps for call in step.calls if call["type"] == "function"]


@transaction.atomic
def submit_tool_outputs(*, run: Run, outputs: Mapping[str, str]) -> Run:
    """Answer all pending calls at once; `outputs` is by call id. The run is queued again.

    Raises NoOutputsWanted or WrongOutputs; then nothing is stored.
    """
    locked = Run.objects.select_for_update().get(pk=run.pk)
    if locked.state is not RunStatus.REQUIRES_ACTION:
        raise NoOutputsWanted(locked.state.wire)
    expected = [call["id"] for call in pending_calls(locked)]
    if set(expected) != set(outputs):
        raise WrongOutputs(expected, list(outputs))
    events = []
    for step in locked.steps.select_for_update().filter(
        for_client=True, status=StepStatus.IN_PROGRESS
    ):
        events.append(_complete(step, outputs))
    locked.move(RunStatus.QUEUED, events=events, due_at=timezone.now())
    nudge()
    return locked


def _complete(step: RunStep, outputs: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    calls = [
        {**call, "function": {**call["function"], "output": outputs[call["id"]]}}
        if call["type"] == "function"
        else call
        for call in step.calls
    ]
    step.details = {**step.details, "tool_calls": calls}
    step.status, step.completed_at = StepStatus.COMPLETED, timezone.now()
    step.save()
    return "thread.run.step.completed", {"step": step.public_id}


def end_if_overdue(run: Run) -> Run:
    """What a driver would have done at `expires_at`, done on reading, should none be alive."""
    if run.expires_at is None or run.expires_at > timezone.now() or run.is_ended:
        return run
    if run.state is RunStatus.CANCELLING:
        recording.end(run, RunStatus.CANCELLED)
    else:
        recording.expire(run)
    run.refresh_from_db()
    return run


def answer_of(run: Run) -> Message | None:
    """The last thing the assistant said in this run, held or not; None before it said anything."""
    return run.messages.filter(role=Role.ASSISTANT).order_by("-pk").first()
