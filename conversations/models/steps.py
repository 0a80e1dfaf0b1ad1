"""Steps, what a run did on the way; attempts, each time an engine was set to work on it."""

from __future__ import annotations

import uuid
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from assistant_manager.models.base import ProjectQuerySet, public_id
from conversations.models.runs import Run


class StepStatus(models.TextChoices):
    IN_PROGRESS = "in_progress", "In progress"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Expired"


class StepType(models.TextChoices):
    TOOL_CALLS = "tool_calls", "Tool calls"
    MESSAGE_CREATION = "message_creation", "Message"


class RunStepQuerySet(ProjectQuerySet):
    PROJECT_PATH = "run__project"

    def released(self) -> Self:
        """What the wire shows: all steps but those of a held answer. Calls of the
        client's own functions are always shown, since the client must act on them."""
        return self.filter(Q(released_at__isnull=False) | Q(for_client=True))


class RunStep(models.Model):
    """`details` is the wire's `step_details`. `attempt` and `item` say which part of the run's
    Progress this is. `notes` holds what the wire has no field for: by call id, the standard
    error, the limit hit and the seconds taken of a code cell."""

    public_id = public_id("step_")
    run = models.ForeignKey(Run, models.CASCADE, related_name="steps")
    attempt = models.PositiveIntegerField()
    item = models.CharField(max_length=100)
    type = models.CharField(max_length=16, choices=StepType.choices)
    status = models.CharField(
        max_length=16, choices=StepStatus.choices, default=StepStatus.IN_PROGRESS
    )
    details = models.JSONField(default=dict)
    notes = models.JSONField(default=dict)
    for_client = models.BooleanField(default=False)
    last_error = models.JSONField(null=True)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    completed_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    expired_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)

    objects = RunStepQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "item"], name="an_item_is_one_step")
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The wire-shaped tool calls; empty for a message step."""
        calls: list[dict[str, Any]] = self.details.get("tool_calls", [])
        return calls


def _attempt_key() -> str:
    return uuid.uuid4().hex


class RunAttempt(models.Model):
    """Written before an engine is set to work, so that a crash leaves a trace of what may have
    been sent. `state` is the engine's own; None until the start was answered. `upstream_id` is
    what the upstream calls it, as `storable.indexable` has it. `sent_at` is set while a start is
    under way and stays set when nobody knows its fate; `lost_at` says when the attempt was given
    up for that. Tokens are None where the upstream did not tell."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    key = models.CharField(max_length=32, unique=True, default=_attempt_key)
    note = models.TextField(blank=True, help_text="What a reviewer asked to be done differently.")
    state = models.JSONField(null=True)
    upstream_id = models.TextField(blank=True)
    sent_at = models.DateTimeField(null=True)
    lost_at = models.DateTimeField(null=True)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    has_no_items = False
    """Set on the instance by who has just made the row: nothing can be recorded of it yet."""

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["run", "number"], name="attempts_are_numbered")
        ]
        indexes = [
            models.Index(
                fields=["upstream_id"], condition=~Q(upstream_id=""), name="attempt_upstream"
            )
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}"
