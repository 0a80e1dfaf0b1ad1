"""What `Idempotency-Key` remembers: a creation that was asked for once and may be sent again."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from assistant_manager.models.projects import Project

REMEMBERED_FOR = timedelta(hours=24)


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    def forgotten(self, now: datetime) -> IdempotencyKeyQuerySet:
        return self.filter(created_at__lt=now - REMEMBERED_FOR)


class IdempotencyKey(models.Model):
    """Written in the same transaction as the object it guards, so that there is never one
    without the other. `fingerprint` is a digest of method, path and body."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    response = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "key"], name="one_use_of_an_idempotency_key")
        ]

    def __str__(self) -> str:
        return self.key
