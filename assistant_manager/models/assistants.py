"""Assistants: stored instructions, a model name, tools and a release policy."""

from __future__ import annotations

from typing import Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from simple_history.models import HistoricalRecords

from assistant_manager.models.base import ProjectQuerySet, auto, public_id
from assistant_manager.models.projects import Project


class ReleasePolicy(models.TextChoices):
    IMMEDIATELY = "immediately", "Immediately"
    SAMPLE = "sample", "Immediately, and a sample is reviewed"
    AFTER_REVIEW = "after_review", "Only after a person has approved"


class AssistantQuerySet(ProjectQuerySet):
    def live(self) -> Self:
        """Not retired: what lists show and new runs may name."""
        return self.filter(retired_at=None)


class Assistant(models.Model):
    """Retired rather than erased: runs and reviews keep pointing at what was asked."""

    public_id = public_id("asst_")
    project = models.ForeignKey(Project, models.CASCADE, related_name="assistants")
    name = models.CharField(max_length=256, null=True, blank=True)
    description = models.CharField(max_length=512, null=True, blank=True)
    instructions = models.TextField(max_length=256_000, null=True, blank=True)
    model = models.CharField(max_length=256)
    tools = models.JSONField(default=list, blank=True)
    tool_resources = models.JSONField(default=dict, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    temperature = models.FloatField(
        null=True,
        blank=True,
        default=1.0,
        validators=[MinValueValidator(0.0), MaxValueValidator(2.0)],
    )
    top_p = models.FloatField(
        null=True,
        blank=True,
        default=1.0,
        validators=[MinValueValidator(0.0), MaxValueValidator(1.0)],
    )
    response_format = models.JSONField(default=auto, blank=True)
    reasoning_effort = models.CharField(max_length=16, null=True, blank=True)
    release_policy = models.CharField(
        max_length=16, choices=ReleasePolicy.choices, default=ReleasePolicy.IMMEDIATELY
    )
    sample_percent = models.PositiveSmallIntegerField(
        default=10,
        validators=[MaxValueValidator(100)],
        help_text="Share of answers queued for review under the sample policy.",
    )
    retired_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AssistantQuerySet.as_manager()
    history = HistoricalRecords(excluded_fields=["created_at"])

    class Meta:
        indexes = [models.Index(fields=["project", "id"], name="assistant_project")]

    def __str__(self) -> str:
        return self.name or self.public_id
