"""What can be asked of threads and messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from django.db import transaction
from django.utils import timezone

from assistant_manager.ids import make_id
from assistant_manager.models import Project
from conversations import bulk
from conversations.exceptions import ThreadBusy
from conversations.models import Message, Thread


class NewMessage(TypedDict, total=False):
    """A message as stored: `content` holds parts, never a bare string."""

    role: str
    content: list[dict[str, Any]]
    attachments: list[dict[str, Any]]
    metadata: dict[str, str]


def text_content(text: str) -> list[dict[str, Any]]:
    """The stored form of a plain text."""
    return [{"type": "text", "text": {"value": text, "annotations": []}}]


@transaction.atomic
def create_thread(
    *,
    project: Project,
    messages: Iterable[NewMessage] = (),
    metadata: dict[str, str] | None = None,
    tool_resources: dict[str, Any] | None = None,
) -> Thread:
    thread = Thread(project=project, metadata=metadata or {}, tool_resources=tool_resources or {})
    bulk.add(thread)
    store_messages(thread, messages)
    return thread


@transaction.atomic
def change_thread(*, thread: Thread, **fields: Any) -> Thread:
    """Replace `metadata` or `tool_resources`, whichever is named."""
    locked = Thread.objects.lock(thread)
    for name, value in fields.items():
        setattr(locked, name, value)
    locked.save(update_fields=list(fields))
    return locked


@transaction.atomic
def delete_thread(*, thread: Thread) -> None:
    """Delete the thread with its messages, runs and reviews. A driver at work on one of its
    runs finds no row to record on and lets go.

    Locked first, thread before runs as everywhere, so that nothing is written into what is being
    deleted; not against foreign keys, since a driver's last answer needs the thread's.
    """
    list(Thread.objects.select_for_update(no_key=True).filter(pk=thread.pk))
    list(thread.runs.select_for_update().order_by("pk").values_list("pk"))
    Thread.objects.filter(pk=thread.pk).delete()


@transaction.atomic
def add_message(*, thread: Thread, message: NewMessage) -> Message:
    """Append to the thread. Raises ThreadBusy while a run is active."""
    locked = Thread.objects.lock(thread)
    active = locked.active_run()
    if active is not None:
        raise ThreadBusy(locked.public_id, active.public_id)
    return store_messages(locked, [message])[0]


def store_messages(thread: Thread, messages: Iterable[NewMessage]) -> list[Message]:
    """Append without asking whether the thread is busy; the caller holds its lock."""
    now = timezone.now()
    rows = [
        Message(
            public_id=make_id("msg_"),
            thread=thread,
            role=message["role"],
            content=message["content"],
            attachments=message.get("attachments", []),
            metadata=message.get("metadata", {}),
            created_at=now,
            released_at=now,
        )
        for message in messages
    ]
    for row in rows:
        bulk.add(row)
    _attach(thread, [entry for row in rows for entry in row.attachments])
    return rows


def _attach(thread: Thread, attachments: list[dict[str, Any]]) -> None:
    """An attachment for the code interpreter joins the thread's own files."""
    wanted = [
        entry["file_id"]
        for entry in attachments
        if any(tool.get("type") == "code_interpreter" for tool in entry.get("tools") or [])
    ]
    if not wanted:
        return
    resource = dict(thread.tool_resources.get("code_interpreter") or {})
    resource["file_ids"] = list(dict.fromkeys([*resource.get("file_ids", []), *wanted]))
    thread.tool_resources = {**thread.tool_resources, "code_interpreter": resource}
    thread.save(update_fields=["tool_resources"])


@transaction.atomic
def change_message(*, message: Message, metadata: dict[str, str]) -> Message:
    """Only metadata may change, in any state."""
    Message.objects.filter(pk=message.pk).update(metadata=metadata)
    message.metadata = metadata
    return message


@transaction.atomic
def delete_message(*, message: Message) -> None:
    Message.objects.filter(pk=message.pk).delete()
