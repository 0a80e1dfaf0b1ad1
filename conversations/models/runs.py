"""Runs: what was asked of which assistant, how it stands, and who looks after it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from assistant_manager.models import ApiKey, Assistant, Connection, Project, ReleasePolicy
from assistant_manager.models.base import ProjectQuerySet, auto, public_id
from assistant_manager.models.prepared import Prepared
from conversations import bulk
from conversations.models import lanes
from conversations.models.events import RunEvent
from conversations.models.lanes import Wanted
from conversations.models.status import ACTIVE, ALLOWED_FROM, DRIVEN, STAMP, TERMINAL, RunStatus
from conversations.models.threads import Message, Thread

ENDED_AT_ONCE = 200
"""How many runs whose time is up are taken at once; each costs some milliseconds."""


class RunQuerySet(ProjectQuerySet):
    def active(self) -> Self:
        return self.filter(status__in=ACTIVE)

    def overdue(self, now: datetime) -> Self:
        """Past `expires_at` and not ended."""
        return self.active().filter(expires_at__lte=now)

    def due(self, now: datetime) -> Self:
        """Nobody's, and to be looked at by now."""
        return self.filter(leased_by=None, due_at__lte=now).order_by("due_at")

    def lapsed(self, now: datetime) -> Self:
        """Left by a driver that has not renewed its lease."""
        return self.filter(lease_expires_at__lte=now).order_by("lease_expires_at")

    def holders(self) -> list[str]:
        """The drivers that hold rows: one look at an index for each, however many rows it holds."""
        leases = self.order_by("leased_by").values_list("leased_by", flat=True)
        names = [""]
        while name := leases.filter(leased_by__gt=names[-1]).first():
            names.append(name)
        return names[1:]

    def lapse(self, drivers: Collection[str], now: datetime) -> int:
        """End the leases of `drivers`; returns how many rows that were, without those that
        somebody else is just changing."""
        held = self.filter(leased_by__in=drivers, lease_expires_at__gt=now)
        with transaction.atomic():
            free = held.select_for_update(skip_locked=True).values("pk")
            return held.filter(pk__in=free).update(lease_expires_at=now)

    def bring_forward(self, now: datetime) -> int:
        """Make due what a driver can work on at once: `due_at` lies ahead only where a clock was
        wrong and has since been set back. Returns how many rows that were."""
        return self.filter(status__in=DRIVEN, leased_by=None, due_at__gt=now).update(due_at=now)

    def claim(
        self,
        *,
        driver: str,
        now: datetime,
        limit: int,
        wanted: Wanted = lambda lane: True,
    ) -> list[Run]:
        """Lease up to `limit` rows that are lapsed or due to `driver` and return them; of those
        that are due, in turn from the lanes that are `wanted`: a long one keeps nobody waiting.

        Its own that lapsed while it stood still are not begun anew: it has only to renew them."""
        business = lanes.business(now)
        if not (business.lapsed or business.due):
            return []
        with transaction.atomic():
            keys = []
            if business.lapsed:
                left = self.lapsed(now).exclude(leased_by=driver)
                left._stand_in_line_again()
                keys = left._lock(limit)
            keys += lanes.in_turn(now, limit - len(keys), wanted)
            return self._lease(keys, driver, now)

    def claim_overdue(self, *, driver: str, now: datetime) -> list[Run]:
        """Lease rows whose time is up and that nobody holds, or a dead driver, to `driver`."""
        business = lanes.business(now)
        if not (business.lapsed or business.overdue):
            return []
        with transaction.atomic():
            keys = self.filter(leased_by=None)._overdue(now)._lock(ENDED_AT_ONCE)
            keys += self.lapsed(now)._overdue(now)._lock(ENDED_AT_ONCE - len(keys))
            return self._lease(keys, driver, now)

    def _overdue(self, now: datetime) -> Self:
        return self.filter(expires_at__lte=now).order_by("expires_at")

    def _stand_in_line_again(self) -> None:
        """What a dead driver had not begun is nobody's, in the place it had."""
        self.filter(status=RunStatus.QUEUED).order_by().update(
            due_at=F("created_at"), leased_by=None, lease_expires_at=None
        )

    def _lease(self, keys: Sequence[int], driver: str, now: datetime) -> list[Run]:
        if not keys:
            return []
        until = now + timedelta(seconds=settings.DRIVER_LEASE_SECONDS)
        lanes.lease(keys, driver=driver, until=until, now=now)
        return self.held(keys, driver)

    def held(self, keys: Sequence[int], driver: str) -> list[Run]:
        """Of these, the rows that `driver` holds, with their connections."""
        # Not by `leased_by`: a planner would rather read all that the driver holds.
        return [run for run in _WITH_CONNECTION.all(keys=keys) if run.leased_by == driver]

    def _lock(self, limit: int) -> list[int]:
        """The keys of the first rows, locked where the database can, without those of others."""
        rows = self.values_list("pk", flat=True)
        if transaction.get_connection().features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True)
        return list(rows[:limit])

    def begin(self, runs: Sequence[Run], *, driver: str, now: datetime) -> set[int]:
        """Move those of these queued runs that `driver` still holds to their first attempt; returns
        their keys."""
        keys = tuple(run.pk for run in runs)
        held = {"id": keys, "leased_by": driver, "attempt": 0, "status": RunStatus.QUEUED}
        fields = moved(RunStatus.IN_PROGRESS, {"attempt": 1, "started_at": now, "waiting_for": ""})
        return {key for (key,) in bulk.change_and_tell(Run, held, ("id",), **fields)}

    def move(self, to: RunStatus, **fields: Any) -> int:
        """Move each row that may legally become `to`; return how many did (0: it had moved on)."""
        fields = moved(to, fields)
        return self.filter(status__in=ALLOWED_FROM[to]).update(**fields)


def moved(to: RunStatus, fields: dict[str, Any]) -> dict[str, Any]:
    """What a move to `to` writes: its own timestamp, and for an ended run no lease, no deadline."""
    now = timezone.now()
    fields = {**fields, "status": to}
    if to in STAMP:
        fields.setdefault(STAMP[to], now)
    if to in TERMINAL:
        fields.update(
            ended_at=now, expires_at=None, due_at=None, leased_by=None, lease_expires_at=None
        )
    return fields


def _deadline() -> datetime:
    return timezone.now() + timedelta(seconds=settings.RUN_LIFETIME_SECONDS)


class Run(models.Model):
    """A run and the snapshot of what was asked.

    `due_at` says when a driver should look at the row; on a leased row a set `due_at` is a
    knock at the door of the driver that holds it. `outcome` is the status a held run takes
    when its answer is released.
    """

    public_id = public_id("run_")
    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    thread = models.ForeignKey(Thread, models.CASCADE, related_name="runs")
    assistant = models.ForeignKey(Assistant, models.PROTECT, related_name="runs")
    question = models.ForeignKey(
        Message, models.SET_NULL, null=True, related_name="+", help_text="The last user message."
    )
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="+")

    status = models.CharField(
        max_length=16, choices=RunStatus.choices, default=RunStatus.QUEUED, editable=False
    )
    outcome = models.CharField(max_length=16, choices=RunStatus.choices, null=True, editable=False)
    last_error = models.JSONField(null=True, editable=False)
    incomplete_reason = models.CharField(max_length=32, null=True, editable=False)
    prompt_tokens = models.PositiveIntegerField(null=True, editable=False)
    completion_tokens = models.PositiveIntegerField(null=True, editable=False)
    metadata = models.JSONField(default=dict)

    # What was asked, copied so that later edits of the assistant change nothing here.
    model = models.CharField(max_length=256)
    instructions = models.TextField(blank=True)
    tools = models.JSONField(default=list)
    tool_resources = models.JSONField(default=dict)
    tool_choice = models.JSONField(default=auto)
    parallel_tool_calls = models.BooleanField(default=True)
    response_format = models.JSONField(default=auto)
    truncation_strategy = models.JSONField(null=True)
    temperature = models.FloatField(null=True)
    top_p = models.FloatField(null=True)
    reasoning_effort = models.CharField(max_length=16, null=True)
    max_prompt_tokens = models.PositiveIntegerField(null=True)
    max_completion_tokens = models.PositiveIntegerField(null=True)
    release_policy = models.CharField(
        max_length=16, choices=ReleasePolicy.choices, default=ReleasePolicy.IMMEDIATELY
    )
    wants_review = models.BooleanField(
        default=False, help_text="To be queued for review once it has an answer."
    )
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="+")
    upstream_model = models.CharField(max_length=256)

    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True, default=_deadline)
    completed_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    # Who looks after it, and when.
    attempt = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True, default=timezone.now)
    leased_by = models.CharField(max_length=100, null=True)
    lease_expires_at = models.DateTimeField(null=True)
    claims = models.PositiveIntegerField(
        default=0, help_text="How often a driver took it up; more than once after a crash."
    )
    waiting_for = models.CharField(
        max_length=200, blank=True, help_text="Why it has not started yet, in words."
    )

    objects = RunQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["thread", "id"], name="run_thread"),
            models.Index(fields=["project", "id"], name="run_project"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="run_due"),
            models.Index(
                fields=["connection", "project", "status", "due_at"],
                condition=Q(leased_by__isnull=True, due_at__isnull=False),
                name="run_lanes",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(leased_by__isnull=True, expires_at__isnull=False),
                name="run_overdue",
            ),
            models.Index(
                fields=["lease_expires_at"],
                condition=Q(lease_expires_at__isnull=False),
                name="run_lease",
            ),
            models.Index(
                fields=["leased_by", "due_at"],
                condition=Q(leased_by__isnull=False),
                name="run_leased_by",
            ),
            models.Index(fields=["id"], condition=Q(wants_review=True), name="run_wants_review"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["thread"],
                condition=Q(status__in=[str(status) for status in ACTIVE]),
                name="one_active_run_a_thread",
            ),
            models.CheckConstraint(
                condition=Q(leased_by=None, lease_expires_at=None)
                | Q(leased_by__isnull=False, lease_expires_at__isnull=False),
                name="a_lease_has_an_end",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=[str(status) for status in ACTIVE])
                | Q(due_at__isnull=False)
                | Q(leased_by__isnull=False),
                name="an_active_run_is_due_or_leased",
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def state(self) -> RunStatus:
        """`status` as the enumeration, whether loaded or just assigned."""
        return RunStatus(self.status)

    @property
    def is_ended(self) -> bool:
        return self.state in TERMINAL

    @property
    def is_driven(self) -> bool:
        return self.state in DRIVEN

    @property
    def wait(self) -> str:
        """Why the run does not move just now, in words; "" where it does. A pause of its connection
        says more than what the run was told as it began to wait."""
        if not self.is_driven or not (self.waiting_for or self.state is RunStatus.QUEUED):
            return ""
        return self.connection.pause or self.waiting_for

    @property
    def holds_answers(self) -> bool:
        """Whether what the engine writes stays hidden until a person releases it."""
        return self.release_policy == ReleasePolicy.AFTER_REVIEW

    def move(
        self,
        to: RunStatus,
        *,
        events: Sequence[tuple[str, dict[str, Any]]] = (),
        driver: str | None = None,
        **fields: Any,
    ) -> bool:
        """Move this row and leave the event, together; False means it had moved on.

        `events` are left just before the move's own. With `driver` the move is also refused
        to a driver that has lost its lease. This instance then holds the new values.
        """
        fields = moved(to, fields)
        held: dict[str, Any] = {"id": self.pk, "status": ALLOWED_FROM[to]}
        if driver is not None:
            held["leased_by"] = driver
        with transaction.atomic(savepoint=False):
            if not bulk.change(Run, held, **fields):
                return False
            for name, value in fields.items():
                setattr(self, name, value)
            RunEvent.objects.append_all(self, [*events, (f"thread.run.{to}", {"status": to.wire})])
        return True


_WITH_CONNECTION: Prepared[Run] = Prepared(
    lambda keys: Run.objects.filter(pk__in=[keys]).select_related("connection").order_by("pk")
)
