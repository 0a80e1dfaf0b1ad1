"""The statuses of a run, and which may become which.

The names are the wire's but for `held`: an answer that waits for a person, which the wire shows
as `in_progress`.
"""

from __future__ import annotations

from django.db import models


class RunStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    IN_PROGRESS = "in_progress", "In progress"
    REQUIRES_ACTION = "requires_action", "Requires action"
    HELD = "held", "Held for review"
    CANCELLING = "cancelling", "Cancelling"
    CANCELLED = "cancelled", "Cancelled"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    EXPIRED = "expired", "Expired"
    INCOMPLETE = "incomplete", "Incomplete"

    @property
    def wire(self) -> str:
        """What programs see."""
        return "in_progress" if self is RunStatus.HELD else str(self.value)


_S = RunStatus

ALLOWED_FROM: dict[RunStatus, tuple[RunStatus, ...]] = {
    _S.QUEUED: (_S.REQUIRES_ACTION,),
    _S.IN_PROGRESS: (_S.QUEUED, _S.HELD),
    _S.REQUIRES_ACTION: (_S.IN_PROGRESS,),
    _S.HELD: (_S.IN_PROGRESS,),
    _S.CANCELLING: (_S.QUEUED, _S.IN_PROGRESS, _S.REQUIRES_ACTION, _S.HELD),
    _S.CANCELLED: (_S.CANCELLING,),
    _S.COMPLETED: (_S.IN_PROGRESS, _S.HELD),
    _S.INCOMPLETE: (_S.IN_PROGRESS, _S.HELD),
    _S.FAILED: (_S.QUEUED, _S.IN_PROGRESS, _S.REQUIRES_ACTION, _S.HELD),
    _S.EXPIRED: (_S.QUEUED, _S.IN_PROGRESS, _S.REQUIRES_ACTION, _S.HELD),
}

ACTIVE = (_S.QUEUED, _S.IN_PROGRESS, _S.REQUIRES_ACTION, _S.HELD, _S.CANCELLING)
"""The thread is locked."""
DRIVEN = (_S.QUEUED, _S.IN_PROGRESS, _S.CANCELLING)
"""A driver has something to do about it."""
TERMINAL = (_S.CANCELLED, _S.COMPLETED, _S.FAILED, _S.EXPIRED, _S.INCOMPLETE)

STAMP: dict[RunStatus, str] = {
    _S.COMPLETED: "completed_at",
    _S.FAILED: "failed_at",
    _S.CANCELLED: "cancelled_at",
}
"""The column set on that move only. Expired and incomplete runs have none at the vendor."""
