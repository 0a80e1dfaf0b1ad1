"""Reviews: the verdict staff give on a run's answer, what was decided and what was changed."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from assistant_manager.models.base import ProjectQuerySet
from conversations.models.runs import Run
from conversations.models.status import RunStatus
from conversations.models.threads import Message


class ReviewStatus(models.TextChoices):
    WAITING = "waiting", "Waiting"
    ASKED_AGAIN = "asked_again", "Asked again"
    APPROVED = "approved", "Approved"
    EDITED = "edited", "Approved with changes"
    REJECTED = "rejected", "Rejected"
    WITHDRAWN = "withdrawn", "Withdrawn"


ALLOWED_FROM: dict[ReviewStatus, tuple[ReviewStatus, ...]] = {
    ReviewStatus.WAITING: (ReviewStatus.ASKED_AGAIN,),
    ReviewStatus.ASKED_AGAIN: (ReviewStatus.WAITING,),
    ReviewStatus.APPROVED: (ReviewStatus.WAITING,),
    ReviewStatus.EDITED: (ReviewStatus.WAITING,),
    ReviewStatus.REJECTED: (ReviewStatus.WAITING,),
    ReviewStatus.WITHDRAWN: (ReviewStatus.WAITING, ReviewStatus.ASKED_AGAIN),
}


class ReviewQuerySet(ProjectQuerySet):
    PROJECT_PATH = "run__project"

    def waiting(self) -> Any:
        """What a person should look at next, oldest first."""
        return self.filter(status=ReviewStatus.WAITING).order_by("pk")

    def open_missing(self, limit: int = 500) -> int:
        """Queue what should be reviewed and is not yet: held answers, and the drawn sample.

        Bookkeeping after the fact, safe to repeat; returns how many were queued.
        """
        judged = (RunStatus.HELD, RunStatus.COMPLETED, RunStatus.INCOMPLETE)
        with transaction.atomic():
            # The run before its review, as those lock them who decide or end it.
            missing = Run.objects.filter(wants_review=True, status__in=judged).order_by("pk")
            missing = missing.select_for_update(no_key=True)
            runs = list(missing.values_list("pk", flat=True)[:limit])
            self.bulk_create((Review(run_id=run) for run in runs), ignore_conflicts=True)
            self.filter(run__in=runs, status=ReviewStatus.ASKED_AGAIN).move(ReviewStatus.WAITING)
            Run.objects.filter(pk__in=runs).update(wants_review=False)
        return len(runs)

    def move(self, to: ReviewStatus, **fields: Any) -> int:
        """Move each review that may become `to`; 0 means somebody else was first."""
        return self.filter(status__in=ALLOWED_FROM[to]).update(status=to, **fields)


class Review(models.Model):
    """One per run, at most. `reviewer` and `decided_at` are those of the last decision."""

    run = models.OneToOneField(Run, models.CASCADE, related_name="review")
    status = models.CharField(
        max_length=16, choices=ReviewStatus.choices, default=ReviewStatus.WAITING
    )
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    reason = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True)

    objects = ReviewQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["status", "id"], name="review_status")]

    def __str__(self) -> str:
        return f"review of {self.run_id}"


class ReviewDecision(models.Model):
    """Who decided what and when; never changed, so that the story stays whole."""

    review = models.ForeignKey(Review, models.CASCADE, related_name="decisions")
    status = models.CharField(max_length=16, choices=ReviewStatus.choices)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    reason = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.get_status_display()} by {self.by}"


class AnswerRevision(models.Model):
    """A text an answer had. Number 0 is what the engine wrote (`author` None) and is never lost."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    content = models.JSONField()
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["message", "number"], name="revisions_are_numbered")
        ]

    def __str__(self) -> str:
        return f"revision {self.number}"
