"""The items of a Progress as steps and messages: written once, extended, never rewritten.

Used inside the transaction of `recording.record`, whose lock makes it the only writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.files.base import ContentFile
from django.utils import timezone

from assistant_manager.engines.base import (
    GeneratedFile,
    Item,
    MessageItem,
    ToolCall,
    ToolCallsItem,
    Usage,
)
from assistant_manager.models import File
from assistant_manager.services import keep_file
from conversations import bulk
from conversations.models import Message, Run, RunAttempt, RunStep
from conversations.models.steps import StepStatus, StepType
from conversations.models.threads import MessageStatus, Role

WRITTEN = ("content", "status", "completed_at")
"""What later Progress changes about a message."""

Events = list[tuple[str, dict[str, Any]]]


class ItemWriter:
    """Writes the items of one attempt; `events` collects what there is to tell.

    What is new is gathered and stored together by `write_all`.
    """

    def __init__(self, run: Run, attempt: RunAttempt) -> None:
        self.run = run
        self.attempt = attempt.number
        self.now = timezone.now()
        self.events: Events = []
        self._kept: list[File] = []
        known = [] if attempt.has_no_items else run.steps.filter(attempt=attempt.number)
        self._steps = {step.item: step for step in known}
        attempt.has_no_items = False
        self._new_messages: list[Message] = []

    @property
    def has_open_items(self) -> bool:
        return any(step.status == StepStatus.IN_PROGRESS for step in self._steps.values())

    def write_all(self, items: Iterable[Item], usage: Usage | None = None) -> None:
        """Write them, with the tokens of the attempt where it has ended; or take back what no
        rollback takes back: the bytes of their pictures. On a full disk the same is tried again
        and again, and would fill what is left."""
        try:
            for item in items:
                self.write(item)
            if usage is not None:
                self._book(usage)
            bulk.insert(self._new_messages)
            bulk.insert([step for step in self._steps.values() if step._state.adding])
        except BaseException:
            for file in self._kept:
                file.content.storage.delete(str(file.content.name))
            raise

    def write(self, item: Item) -> None:
        if isinstance(item, ToolCallsItem):
            self._write_tool_calls(item)
        else:
            self._write_message(item)

    def _book(self, usage: Usage) -> None:
        """Programs read tokens from steps too; engines know them by attempt. The last step carries
        them all, so that the steps of a run add up to its usage."""
        steps = list(self._steps.values())
        for step in steps:
            step.prompt_tokens = step.completion_tokens = 0
        for last in steps[-1:]:
            last.prompt_tokens = usage.prompt_tokens
            last.completion_tokens = usage.completion_tokens
        bulk.update(
            [step for step in steps if not step._state.adding],
            ("prompt_tokens", "completion_tokens"),
        )

    @property
    def _released_at(self) -> Any:
        return None if self.run.holds_answers else self.now

    # --- steps --------------------------------------------------------------------------

    def _write_tool_calls(self, item: ToolCallsItem) -> None:
        step = self._steps.get(item.key)
        if step is None:
            for_client = any(call.type == "function" for call in item.calls)
            step = self._new_step(item.key, StepType.TOOL_CALLS, for_client)
            step.details = {"type": "tool_calls", "tool_calls": []}
        elif step.status != StepStatus.IN_PROGRESS:
            return
        known = {call["id"]: call for call in step.calls}
        calls = [self._wire_call(call, known.get(call.id)) for call in item.calls]
        if calls == step.calls and not item.done:
            return
        if calls != step.calls:
            step.details = {**step.details, "tool_calls": calls}
            step.notes = {call.id: dict(call.notes) for call in item.calls if call.notes}
            self._tell("thread.run.step.delta", step=step.public_id, details=step.details)
        if item.done and item.error:
            step.last_error = {"code": "server_error", "message": item.error}
        if item.done:
            self._end_step(step, StepStatus.FAILED if item.error else StepStatus.COMPLETED)
        self._save(step)

    def _new_step(self, key: str, type: StepType, for_client: bool = False) -> RunStep:
        step = RunStep(
            run=self.run,
            attempt=self.attempt,
            item=key,
            type=type,
            for_client=for_client,
            released_at=self._released_at,
        )
        self._steps[key] = step
        self._tell("thread.run.step.created", step=step.public_id)
        self._tell("thread.run.step.in_progress", step=step.public_id)
        return step

    def _save(self, step: RunStep) -> None:
        """Those that are new are stored with all others."""
        if not step._state.adding:
            step.save()

    def _end_step(self, step: RunStep, status: StepStatus) -> None:
        self.events.append(end_step(step, status))

    def _wire_call(self, call: ToolCall, known: dict[str, Any] | None) -> dict[str, Any]:
        """The call in the wire's shape. Outputs once stored stay: their pictures have file ids."""
        match call.type:
            case "function":
                body: dict[str, Any] = {
                    "name": call.name,
                    "arguments": call.arguments,
                    "output": call.output,
                }
            case "code_interpreter":
                outputs = known["code_interpreter"]["outputs"] if known else []
                if not outputs and call.logs is not None:
                    logs = [{"type": "logs", "logs": call.logs}] if call.logs else []
                    images = [
                        {"type": "image", "image": {"file_id": self._keep(image)}}
                        for image in call.images
                    ]
                    outputs = [*logs, *images]
                body = {"input": call.input, "outputs": outputs}
            case "file_search":
                body = {"results": [dict(result) for result in call.results]}
        return {"id": call.id, "type": call.type, call.type: body}

    # --- messages -----------------------------------------------------------------------

    def _write_message(self, item: MessageItem) -> None:
        step = self._steps.get(item.key)
        if step is None:
            message, step = self._new_message(item.key)
        elif step.status != StepStatus.IN_PROGRESS:
            return
        else:
            stored = self._stored_message(item.key)
            if stored is None:
                if item.done:
                    self._end_step(step, StepStatus.COMPLETED)
                    self._save(step)
                return
            message = stored
        before = message.text
        if item.text != before or (item.done and (item.images or item.annotations)):
            message.content = self._content(message, item)
            added = item.text.removeprefix(before)
            if added and item.text.startswith(before):
                self._tell("thread.message.delta", message=message.public_id, text=added)
        elif not item.done and not message._state.adding:
            return
        if item.done:
            message.status, message.completed_at = MessageStatus.COMPLETED, self.now
            self._tell("thread.message.completed", message=message.public_id)
            self._end_step(step, StepStatus.COMPLETED)
        if message._state.adding:
            self._new_messages.append(message)
        else:
            # Metadata is the client's, who may be setting it just now.
            message.save(update_fields=WRITTEN)
        self._save(step)

    def _stored_message(self, key: str) -> Message | None:
        """Locked, as the client may delete it at any time; None once that has happened."""
        messages = Message.objects.filter(run=self.run, attempt=self.attempt, item=key)
        return messages.select_for_update().first()

    def _new_message(self, key: str) -> tuple[Message, RunStep]:
        message = Message(
            thread_id=self.run.thread_id,
            run=self.run,
            assistant_id=self.run.assistant_id,
            attempt=self.attempt,
            item=key,
            role=Role.ASSISTANT,
            status=MessageStatus.IN_PROGRESS,
            released_at=self._released_at,
        )
        step = self._new_step(key, StepType.MESSAGE_CREATION)
        step.details = {
            "type": "message_creation",
            "message_creation": {"message_id": message.public_id},
        }
        self._tell("thread.message.created", message=message.public_id)
        self._tell("thread.message.in_progress", message=message.public_id)
        return message, step

    def _content(self, message: Message, item: MessageItem) -> list[dict[str, Any]]:
        """Pictures first, then the text, as the vendor orders them. Annotations come with the last
        of it: only then are the files kept that they speak of, once."""
        images = [part for part in message.content if part["type"] == "image_file"]
        if not images:
            images = [
                {
                    "type": "image_file",
                    "image_file": {"file_id": self._keep(image), "detail": "auto"},
                }
                for image in item.images
            ]
        annotations: list[dict[str, Any]] = []
        if item.done:
            ids = {name: self._keep(file) for name, file in item.files.items()}
            annotations = [_with_our_file(annotation, ids) for annotation in item.annotations]
        text = {"type": "text", "text": {"value": item.text, "annotations": annotations}}
        return [*images, text]

    # --- both ---------------------------------------------------------------------------

    def _keep(self, generated: GeneratedFile) -> str:
        file = keep_file(
            project=self.run.project,
            upload=ContentFile(generated.content),
            filename=generated.name,
            purpose="assistants_output",
        )
        self._kept.append(file)
        return str(file.public_id)

    def _tell(self, event: str, **data: Any) -> None:
        self.events.append((event, data))


def _with_our_file(annotation: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """The annotation with the id under which we keep the file it speaks of."""
    kind = annotation["type"]
    body = annotation.get(kind)
    if not isinstance(body, Mapping) or body.get("file_id") not in ids:
        return dict(annotation)
    return {**annotation, kind: {**body, "file_id": ids[body["file_id"]]}}


def end_step(step: RunStep, status: StepStatus) -> tuple[str, dict[str, Any]]:
    """Set the step's last status and its moment, unsaved; returns the event to leave."""
    step.status = status
    setattr(step, f"{status}_at", timezone.now())
    return f"thread.run.step.{status}", {"step": step.public_id}
