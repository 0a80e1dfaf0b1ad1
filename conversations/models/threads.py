"""Threads and their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models
from django.utils import timezone

from assistant_manager.models import Assistant, Project
from assistant_manager.models.base import ProjectQuerySet, public_id
from assistant_manager.models.prepared import Prepared

if TYPE_CHECKING:
    from conversations.models.runs import Run


class ThreadQuerySet(ProjectQuerySet):
    def lock(self, thread: Thread) -> Thread:
        """The thread as it stands now, locked: what is added to it meanwhile waits. Raises
        DoesNotExist."""
        locked = _LOCKED.first(thread=thread.pk)
        if locked is None:
            raise Thread.DoesNotExist
        return locked


class Thread(models.Model):
    public_id = public_id("thread_")
    project = models.ForeignKey(Project, models.CASCADE, related_name="threads")
    metadata = models.JSONField(default=dict, blank=True)
    tool_resources = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ThreadQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["project", "id"], name="thread_project")]

    def __str__(self) -> str:
        return self.public_id

    def active_run(self) -> Run | None:
        """The run that locks this thread, if any; there is never a second."""
        return _ACTIVE_RUN.first(thread=self.pk)


_LOCKED = Prepared(lambda thread: Thread.objects.select_for_update().filter(pk=thread))
_ACTIVE_RUN: Prepared[Run] = Prepared(lambda thread: Thread(pk=thread).runs.active())


class MessageStatus(models.TextChoices):
    IN_PROGRESS = "in_progress", "In progress"
    COMPLETED = "completed", "Completed"
    INCOMPLETE = "incomplete", "Incomplete"


class Role(models.TextChoices):
    USER = "user", "User"
    ASSISTANT = "assistant", "Assistant"


class MessageQuerySet(ProjectQuerySet):
    PROJECT_PATH = "thread__project"

    def released(self) -> Self:
        """What the wire shows, and what later turns of the thread see."""
        return self.exclude(released_at=None)


class Message(models.Model):
    """`content` and `attachments` keep the wire's shape. `released_at` None: a held answer, which
    only staff see. `attempt` and `item` say which part of a run's Progress this is, so that
    recording it twice changes nothing; both are None on messages nobody generated."""

    public_id = public_id("msg_")
    thread = models.ForeignKey(Thread, models.CASCADE, related_name="messages")
    run = models.ForeignKey(
        "conversations.Run", models.SET_NULL, null=True, blank=True, related_name="messages"
    )
    assistant = models.ForeignKey(
        Assistant, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    attempt = models.PositiveIntegerField(null=True)
    item = models.CharField(max_length=100, null=True)
    role = models.CharField(max_length=16, choices=Role.choices)
    content = models.JSONField(default=list)
    attachments = models.JSONField(default=list)
    metadata = models.JSONField(default=dict)
    status = models.CharField(
        max_length=16, choices=MessageStatus.choices, default=MessageStatus.COMPLETED
    )
    incomplete_reason = models.CharField(max_length=32, null=True)
    created_at = models.DateTimeField(default=timezone.now)
    completed_at = models.DateTimeField(null=True)
    incomplete_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["thread", "id"], name="message_thread")]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "attempt", "item"], name="an_item_is_one_message"
            )
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def text(self) -> str:
        """The text parts joined by blank lines."""
        return "\n\n".join(part["text"]["value"] for part in self.content if part["type"] == "text")
