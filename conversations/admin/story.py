"""What happened in a run, in the order it happened, in the shape a page shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.urls import reverse

from assistant_manager.ids import has_prefix
from assistant_manager.models.files import AZURE_ID_PREFIX
from conversations.models import Message, Run, RunAttempt, RunStep
from conversations.models.steps import StepStatus, StepType

MOST_STEPS = 200
MOST_CHARACTERS = 20_000
"""Of one output on one page. The API has all of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call. `output` is what came out of it, `error` its standard error, `limit` the
    limit it hit, in a sentence; `seconds` None while it runs."""

    type: str
    name: str = ""
    code: str = ""
    output: str = ""
    error: str = ""
    limit: str = ""
    seconds: float | None = None
    pictures: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the thread: text in Markdown, pictures as addresses in the admin."""

    role: str
    text: str
    pictures: Sequence[str]
    is_open: bool
    created_at: Any
    run_id: int | None


@dataclass(frozen=True, slots=True)
class Chapter:
    """Either calls, or something said, or the note with which a reviewer asked again."""

    calls: Sequence[Call] = ()
    said: Said | None = None
    note: str = ""
    is_running: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    chapters: list[Chapter] = field(default_factory=list)
    is_cut: bool = False


def tell(run: Run) -> Story:
    """Held steps and messages included: only staff read this."""
    steps = list(run.steps.order_by("pk")[: MOST_STEPS + 1])
    messages = {message.public_id: message for message in run.messages.all()}
    notes = dict(RunAttempt.objects.filter(run=run).exclude(note="").values_list("number", "note"))
    chapters: list[Chapter] = []
    for step in steps[:MOST_STEPS]:
        for number in [number for number in sorted(notes) if number <= step.attempt]:
            chapters.append(Chapter(note=notes.pop(number)))
        chapters.append(_chapter(step, messages))
    chapters += [Chapter(note=note) for _, note in sorted(notes.items())]
    return Story(chapters, is_cut=len(steps) > MOST_STEPS)


def _chapter(step: RunStep, messages: dict[str, Message]) -> Chapter:
    is_running = step.status == StepStatus.IN_PROGRESS
    error = (step.last_error or {}).get("message", "")
    if step.type == StepType.TOOL_CALLS:
        calls = [_call(call, step.notes.get(call["id"], {})) for call in step.calls]
        return Chapter(calls=calls, is_running=is_running, error=error)
    message = messages.get(step.details["message_creation"]["message_id"])
    return Chapter(said=said(message) if message else None, is_running=is_running, error=error)


def _call(call: dict[str, Any], notes: dict[str, Any]) -> Call:
    body = call[call["type"]]
    if call["type"] == "function":
        return Call(
            type="function",
            name=f"{body['name']}({body['arguments']})",
            output=_cut(body.get("output") or ""),
        )
    if call["type"] == "file_search":
        names = [result.get("file_name", "") for result in body.get("results", [])]
        return Call(type="file_search", output="\n".join(names))
    outputs = body.get("outputs", [])
    logs = "\n".join(output["logs"] for output in outputs if output["type"] == "logs")
    error = str(notes.get("stderr") or "")
    return Call(
        type="code_interpreter",
        code=_cut(body.get("input", "")),
        output=_cut(logs),
        # An engine may have put the standard error into the wire's log as well.
        error="" if error.strip() and error.strip() in logs else _cut(error),
        limit=str(notes.get("limit") or ""),
        seconds=notes.get("seconds"),
        pictures=_pictures(
            output["image"]["file_id"] for output in outputs if output["type"] == "image"
        ),
    )


def said(message: Message) -> Said:
    return Said(
        role=message.role,
        text=message.text,
        pictures=_pictures(
            part["image_file"]["file_id"]
            for part in message.content
            if part["type"] == "image_file"
        ),
        is_open=message.status == "in_progress",
        created_at=message.created_at,
        run_id=message.run_id,
    )


def _pictures(file_ids: Iterable[str]) -> list[str]:
    """Addresses in the admin. A program may have sent anything as an id; that is left out."""
    return [
        reverse("admin:assistant_manager_file_picture", args=[file_id])
        for file_id in file_ids
        if has_prefix(file_id, "file-", AZURE_ID_PREFIX)
    ]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "\n… cut here"
