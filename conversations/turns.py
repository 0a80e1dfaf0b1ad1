"""Rows into the plain values an engine takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from assistant_manager.engines.base import (
    ConnectionInfo,
    Item,
    MessageItem,
    Sighting,
    ToolCall,
    ToolCallsItem,
    Turn,
    TurnFile,
    TurnMessage,
    Usage,
)
from assistant_manager.models import File, FileCopy
from assistant_manager.models.prepared import Prepared
from conversations.models import Message, Run, RunAttempt, RunStep
from conversations.models.steps import StepStatus, StepType

MESSAGES_AT_MOST = 1000
"""The newest messages of a thread that one turn carries; engines trim further to their context."""
BLOCK = 100
"""How many messages a longer thread loses at once: the front that upstreams cache stays put."""


def build_turn(run: Run, attempt: RunAttempt) -> Turn:
    """The full input of one attempt, from our rows alone.

    Raises SecretUnreadable and Rejected as `Connection.info` does.
    """
    return _turn(run, attempt, _messages(run), run.connection.info())


def build_first_turns(
    runs: Sequence[Run],
    attempts: Sequence[RunAttempt],
    connections: Mapping[int, ConnectionInfo],
) -> list[Turn]:
    """`build_turn` for runs of threads of their own; their messages are read together as far as
    they are few. `connections` are by key."""
    threads = [run.thread_id for run in runs]
    by_thread: dict[int, list[tuple[int | None, TurnMessage]]] = {}
    room = MESSAGES_AT_MOST
    for thread, length in _LENGTHS.all(threads=threads) if threads else ():
        if length <= room:
            by_thread[thread] = []
            room -= length
    for thread, author, *message in _MESSAGES.all(threads=[*by_thread]) if by_thread else ():
        by_thread[thread].append((author, _turn_message(*message)))
    return [
        _turn(
            run,
            attempt,
            _shortened(run, by_thread[run.thread_id])
            if run.thread_id in by_thread
            else _messages(run),
            connections[run.connection_id],
        )
        for run, attempt in zip(runs, attempts, strict=True)
    ]


def _turn(
    run: Run, attempt: RunAttempt, messages: list[TurnMessage], connection: ConnectionInfo
) -> Turn:
    if run.expires_at is None:
        raise ValueError(f"{run} has ended")
    earlier = None
    if attempt.number > 1:
        earlier = run.attempts.filter(number__lt=attempt.number, ended_at__isnull=False)
    return Turn(
        run_id=run.public_id,
        attempt=attempt.number,
        attempt_key=attempt.key,
        model=run.upstream_model,
        instructions=run.instructions,
        messages=messages,
        connection=connection,
        deadline=run.expires_at,
        tools=run.tools,
        tool_resources=run.tool_resources,
        tool_choice=run.tool_choice,
        parallel_tool_calls=run.parallel_tool_calls,
        response_format=run.response_format,
        temperature=run.temperature,
        top_p=run.top_p,
        reasoning_effort=run.reasoning_effort,
        max_prompt_tokens=run.max_prompt_tokens,
        max_completion_tokens=run.max_completion_tokens,
        past=_past(run, earlier) if earlier is not None else (),
        past_states=_past_states(earlier) if earlier is not None else (),
        spent=_spent(run, before=attempt.number) if earlier is not None else Usage(),
        note=_note(run, attempt.number),
        files=_files(run, messages),
        recorded=_recorded(run, attempt) if attempt.state is not None else (),
        state=attempt.state or {},
    )


def build_sighting(
    run: Run, attempt: RunAttempt, connection: ConnectionInfo | None = None
) -> Sighting:
    """What is needed to look at an attempt again; cheap, no messages are read. A run that has
    ended has no time left."""
    return Sighting(
        run_id=run.public_id,
        attempt=attempt.number,
        attempt_key=attempt.key,
        state=attempt.state or {},
        connection=connection or run.connection.info(),
        deadline=run.expires_at or timezone.now(),
    )


def _messages(run: Run) -> list[TurnMessage]:
    """The released messages of the thread but this run's own, which are its past."""
    messages = Message.objects.filter(thread=run.thread_id).released().exclude(run_id=run.pk)
    limit = _last_messages(run)
    newest = list(
        messages.order_by("-pk").values_list(*_TOLD)[
            : min(limit or MESSAGES_AT_MOST, MESSAGES_AT_MOST)
        ]
    )
    if not limit and len(newest) == MESSAGES_AT_MOST:
        too_many = messages.count() - MESSAGES_AT_MOST
        newest = newest[: MESSAGES_AT_MOST - (-too_many % BLOCK)]
    return [_turn_message(*message) for message in reversed(newest)]


def _shortened(run: Run, messages: Sequence[tuple[int | None, TurnMessage]]) -> list[TurnMessage]:
    """What `_messages` finds in a short thread, of which all messages are here, each with the run
    that wrote it."""
    others = [message for author, message in messages if author != run.pk]
    return others[-(_last_messages(run) or 0) :]


_TOLD = ("role", "content", "attachments")
_LENGTHS: Prepared[tuple[int, int]] = Prepared(
    lambda threads: (
        Message.objects.filter(thread__in=[threads])
        .order_by()
        .values_list("thread")
        .annotate(Count("pk"))
    )
)
_MESSAGES: Prepared[Any] = Prepared(
    lambda threads: (
        Message.objects.filter(thread__in=[threads])
        .released()
        .order_by("pk")
        .values_list("thread", "run", *_TOLD)
    )
)


def _turn_message(role: str, content: list[Any], attachments: list[Any]) -> TurnMessage:
    by = cast(Literal["user", "assistant"], role)
    return TurnMessage(role=by, content=content, attachments=attachments)


def _last_messages(run: Run) -> int | None:
    limit: int | None = (run.truncation_strategy or {}).get("last_messages")
    return limit


def _note(run: Run, attempt: int) -> str | None:
    """What a reviewer asked for last; it holds for every attempt since."""
    if attempt == 1:
        return None
    notes = run.attempts.filter(number__lte=attempt).exclude(note="").order_by("-number")
    return notes.values_list("note", flat=True).first()


def _past(run: Run, earlier: QuerySet[RunAttempt]) -> list[Item]:
    """What earlier attempts came to, but for those that the upstream has forgotten half-way."""
    return list(_items(run, run.steps.filter(attempt__in=earlier.values("number"))))


def _past_states(earlier: QuerySet[RunAttempt]) -> list[dict[str, Any]]:
    return [state or {} for state in earlier.order_by("number").values_list("state", flat=True)]


def _spent(run: Run, *, before: int) -> Usage:
    """By the attempts before this one, which counts its own when it is taken up again."""
    spent = run.attempts.filter(number__lt=before).aggregate(
        prompt=Sum("prompt_tokens"), completion=Sum("completion_tokens")
    )
    return Usage(spent["prompt"] or 0, spent["completion"] or 0)


def _recorded(run: Run, attempt: RunAttempt) -> list[Item]:
    """What of this attempt is done and stays so."""
    done = run.steps.filter(attempt=attempt.number).exclude(status=StepStatus.IN_PROGRESS)
    return list(_items(run, done))


def _files(run: Run, messages: Iterable[TurnMessage]) -> dict[str, TurnFile]:
    """The files that messages and tools name, with the copies the connection has."""
    named = set(_named_files(run, messages))
    if not named:
        return {}
    files = File.objects.live().filter(project_id=run.project_id, public_id__in=named)
    copies = dict(
        FileCopy.objects.filter(connection_id=run.connection_id, file__in=files).values_list(
            "file_id", "upstream_id"
        )
    )
    return {
        file.public_id: TurnFile(
            id=file.public_id,
            filename=file.filename,
            size=file.bytes,
            read=file.read,
            upstream_id=copies.get(file.pk),
        )
        for file in files
    }


def _named_files(run: Run, messages: Iterable[TurnMessage]) -> Iterator[str]:
    yield from (run.tool_resources.get("code_interpreter") or {}).get("file_ids") or ()
    for message in messages:
        yield from (attachment["file_id"] for attachment in message.attachments)
        for part in message.content:
            if part["type"] == "image_file":
                yield part["image_file"]["file_id"]


def _items(run: Run, steps: QuerySet[RunStep]) -> Iterator[Item]:
    messages = {message.public_id: message for message in run.messages.all()}
    return (_item(step, messages) for step in steps.order_by("pk"))


def _item(step: RunStep, messages: dict[str, Message]) -> Item:
    if step.type == StepType.MESSAGE_CREATION:
        message = messages.get(step.details["message_creation"]["message_id"])
        return MessageItem(key=step.item, text=message.text if message else "", done=True)
    return ToolCallsItem(key=step.item, calls=[_call(call) for call in step.calls], done=True)


def _call(call: dict[str, Any]) -> ToolCall:
    body = call[call["type"]]
    match call["type"]:
        case "function":
            return ToolCall(
                id=call["id"],
                type="function",
                name=body["name"],
                arguments=body["arguments"],
                output=body["output"],
            )
        case "code_interpreter":
            logs = [entry["logs"] for entry in body["outputs"] if entry["type"] == "logs"]
            return ToolCall(
                id=call["id"], type="code_interpreter", input=body["input"], logs="".join(logs)
            )
        case _:
            return ToolCall(id=call["id"], type="file_search", results=body.get("results", ()))
