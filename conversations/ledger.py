"""The driver's side of the database: claim, begin, renew, let go. Plain functions, each one
transaction, called from the driver's threads beside its loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from assistant_manager.engines.base import ConnectionInfo, Sighting, Turn
from assistant_manager.engines.exceptions import EngineError, Rejected, Unknown
from assistant_manager.engines.gates import Standing
from assistant_manager.models import Connection
from assistant_manager.models.prepared import Prepared
from assistant_manager.secrets import SecretUnreadable
from conversations import bulk
from conversations.driver_names import is_gone
from conversations.models import DriverHeartbeat, Run, RunAttempt, RunEvent, RunStatus
from conversations.models.steps import StepStatus
from conversations.recording import close_open_items
from conversations.storable import storable
from conversations.turns import build_first_turns, build_sighting, build_turn

FORGOTTEN_AT_MOST = 2
"""Attempts of one run that an upstream may forget."""
LOST_AT_MOST = 2
"""Starts of one run whose fate nobody knows; each may have cost tokens upstream."""

KNOCKED_AT: Prepared[int] = Prepared(
    lambda driver: Run.objects.filter(leased_by=driver, due_at__isnull=False).values_list(
        "pk", flat=True
    )[:1]
)
"""Asked a hundred times a second, nearly always in vain."""

_CURRENT: Prepared[RunAttempt] = Prepared(
    lambda runs: RunAttempt.objects.filter(run__in=[runs], number=F("run__attempt"))
)

FREE = {"leased_by": None, "lease_expires_at": None}


@dataclass(slots=True)
class Held:
    """A run that its driver still holds, and its current attempt."""

    run: Run
    attempt: RunAttempt


@dataclass(slots=True)
class Begun:
    """An attempt and what to hand the engine: a Turn to start it, a Sighting to look at it."""

    attempt: RunAttempt
    work: Turn | Sighting


def kinds_in_use() -> list[str]:
    """The kinds of engine that models lead to."""
    kinds = Connection.objects.exclude(models=None).values_list("kind", flat=True)
    return sorted(set(kinds))


def begin_all(runs: Sequence[Run], *, driver: str) -> list[Begun | Exception | None]:
    """`begin` for each of these claimed runs. Those that are asked for the first time begin in one
    transaction, and those that another driver has left under way are read together: that is nearly
    all. What any of them would raise is returned in its place."""
    begun: dict[int, Begun | Exception | None] = {}
    infos: dict[int, ConnectionInfo] = {}
    fresh: list[Run] = []
    under_way: list[Run] = []
    for run in runs:
        is_fresh = run.state is RunStatus.QUEUED and not run.attempt
        if not is_fresh and run.state is not RunStatus.IN_PROGRESS:
            continue
        try:
            if run.connection_id not in infos:
                infos[run.connection_id] = run.connection.info()
            (fresh if is_fresh else under_way).append(run)
        except (EngineError, SecretUnreadable) as error:
            if is_fresh:
                begun[run.pk] = error
    if fresh:
        begun |= _begin_fresh(fresh, infos, driver)
    if under_way:
        begun |= _sightings(under_way, infos, driver)
    for run in runs:
        if run.pk not in begun:
            try:
                begun[run.pk] = begin(run, driver=driver)
            except (EngineError, SecretUnreadable) as error:
                begun[run.pk] = error
    return [begun[run.pk] for run in runs]


def _sightings(
    runs: Sequence[Run], connections: Mapping[int, ConnectionInfo], driver: str
) -> dict[int, Begun]:
    """Of those of `runs` that `driver` holds and that only have to be looked at."""
    by_key = {run.pk: run for run in runs if not run.connection.engine.works_here}
    known = RunAttempt.objects.filter(
        run__in=by_key, run__leased_by=driver, number=F("run__attempt"), state__isnull=False
    )
    found = ((by_key[attempt.run_id], attempt) for attempt in known)
    return {
        run.pk: Begun(attempt, build_sighting(run, attempt, connections[run.connection_id]))
        for run, attempt in found
        if run.attempt == attempt.number
    }


def _begin_fresh(
    runs: Sequence[Run], connections: Mapping[int, ConnectionInfo], driver: str
) -> dict[int, Begun | None]:
    now = timezone.now()
    with transaction.atomic():
        held = Run.objects.begin(runs, driver=driver, now=now)
        begun = [run for run in runs if run.pk in held]
        RunEvent.objects.append_to(
            begun, [("thread.run.in_progress", {"status": RunStatus.IN_PROGRESS.wire})]
        )
        attempts = [RunAttempt(run=run, number=1, sent_at=now) for run in begun]
        bulk.add_all(attempts)
        for attempt in attempts:
            attempt.has_no_items = True
        turns = build_first_turns(begun, attempts, connections)
    for run in begun:
        run.status, run.attempt, run.started_at = RunStatus.IN_PROGRESS, 1, now
    works = {
        run.pk: Begun(attempt, turn)
        for run, attempt, turn in zip(begun, attempts, turns, strict=True)
    }
    return {run.pk: works.get(run.pk) for run in runs}


def held(runs: Sequence[int], *, driver: str) -> list[Held | None]:
    """These runs, by their keys, as far as `driver` still holds them."""
    rows = {run.pk: run for run in Run.objects.held(runs, driver)}
    attempts = {attempt.run_id: attempt for attempt in _CURRENT.all(runs=[*rows])} if rows else {}
    return [Held(rows[key], attempts[key]) if key in attempts else None for key in runs]


def begin(run: Run, *, driver: str) -> Begun | None:
    """Set the current attempt of a claimed run going, or take up the one that is going.

    None when there is nothing to do for an engine: the run was lost to another driver, or is
    waiting for somebody. Raises Unknown when a start was made whose fate nobody knows and which
    must not be repeated.
    """
    if not run.is_driven:
        let_go(run, driver=driver, due_at=run.expires_at)
        return None
    with transaction.atomic():
        if run.state is RunStatus.QUEUED:
            number = run.attempt + 1
            began: dict[str, Any] = {
                "attempt": number,
                "started_at": timezone.now(),
                "waiting_for": "",
            }
            if not run.move(RunStatus.IN_PROGRESS, driver=driver, **began):
                return None
            attempt = RunAttempt.objects.create(run=run, number=number, sent_at=timezone.now())
            return Begun(attempt, build_turn(run, attempt))
        if not Run.objects.filter(pk=run.pk, leased_by=driver).exists():
            return None
        attempt = RunAttempt.objects.get(run=run, number=run.attempt)
        engine = run.connection.engine
        if attempt.state is not None:
            build = build_turn if engine.works_here else build_sighting
            return Begun(attempt, build(run, attempt))
        if attempt.sent_at is not None and not engine.start_is_repeatable:
            raise Unknown("A worker stopped before it heard whether the upstream had taken this.")
        return Begun(attempt, build_turn(run, attempt))


def send(attempt: RunAttempt, *, driver: str) -> bool:
    """Note, before it happens, that a start is made: from here on it may have been taken. False
    when it is not `driver`'s to make: the run was lost, or the attempt has been found upstream."""
    attempt.sent_at = timezone.now()
    unanswered = _unanswered(attempt.run_id, attempt.number, driver)
    return bool(unanswered.update(sent_at=attempt.sent_at))


def not_taken(run: Run, number: int, *, driver: str) -> None:
    """The upstream has refused the start of that attempt, or never got it: it may be made again."""
    _unanswered(run.pk, number, driver).update(sent_at=None)


def _unanswered(run: int, number: int, driver: str) -> QuerySet[RunAttempt]:
    """The attempt, while it is `driver`'s and has no answer."""
    held = Run.objects.filter(pk=run, leased_by=driver, attempt=number)
    return RunAttempt.objects.filter(run__in=held, number=number, state__isnull=True)


def adoption_seconds(run: Run) -> float:
    """How long a webhook may still tell whose the lost start was; 0 where none is expected."""
    if not run.connection.webhook_secret:
        return 0.0
    sent_at = run.attempts.filter(number=run.attempt).values_list("sent_at", flat=True).first()
    if sent_at is None:
        return 0.0
    return max(0.0, settings.ADOPTION_SECONDS - (timezone.now() - sent_at).total_seconds())


def reload(run: Run) -> Run:
    """The row as it is now; the instance as it was where the row is gone."""
    return Run.objects.select_related("connection").filter(pk=run.pk).first() or run


def current_sighting(run: Run) -> Sighting | None:
    """For telling the upstream to stop; None when nothing was started there."""
    attempt = RunAttempt.objects.filter(run=run, number=run.attempt).first()
    if attempt is None or attempt.state is None:
        return None
    return build_sighting(run, attempt)


def start_over(run: Run, *, driver: str, lost: bool) -> bool:
    """Give up the current attempt for a new one: the upstream has forgotten it, or, with `lost`,
    nobody knows whether it was taken. What it left open ends as failed. False when the run is no
    longer ours.

    Raises Rejected once too many were forgotten or lost. A lost one that a webhook has found in the
    meantime is not given up.
    """
    with transaction.atomic():
        held = {"leased_by": driver, "attempt": run.attempt, "status": RunStatus.IN_PROGRESS}
        ours = Run.objects.filter(pk=run.pk, **held)
        if not ours.select_for_update().values_list("pk").exists():
            return False
        attempt = run.attempts.get(number=run.attempt)
        if lost and attempt.state is not None:
            return True
        if lost:
            attempt.lost_at = timezone.now()
            attempt.save(update_fields=["lost_at"])
            if run.attempts.filter(lost_at__isnull=False).count() > LOST_AT_MOST:
                raise Rejected("The upstream's replies were lost again and again.")
        elif run.attempts.filter(ended_at=None, lost_at=None).count() > FORGOTTEN_AT_MOST:
            raise Rejected("The upstream forgot this run again and again.")
        number = run.attempt + 1
        ours.update(attempt=number)
        closing = close_open_items(run, StepStatus.FAILED, "run_failed")
        RunEvent.objects.append_all(run, closing)
        RunAttempt.objects.create(run=run, number=number)
    run.attempt = number
    return True


def note_waits(waits: Sequence[tuple[Run, str]], *, driver: str) -> list[None]:
    """Say in words why each of these runs does not move."""
    by_reason: dict[str, list[int]] = {}
    for run, reason in waits:
        by_reason.setdefault(storable(reason)[:200], []).append(run.pk)
    for reason, keys in by_reason.items():
        Run.objects.filter(pk__in=keys, leased_by=driver).update(waiting_for=reason)
    return [None] * len(waits)


def note_standing(connection: int, standing: Standing) -> None:
    """Put what the gate knows on the row, for people and other processes."""
    Connection.objects.filter(pk=connection).update(
        paused_until=standing.paused_until,
        pause_reason=storable(standing.pause_reason)[:200],
        key_in_use=standing.key_in_use,
        key_note=storable(standing.key_note)[:200],
    )


def connections(keys: Iterable[int]) -> list[Connection]:
    """How these connections stand by their rows now, and their limits."""
    return list(Connection.objects.filter(pk__in=keys).defer("key_1", "key_2", "webhook_secret"))


def renew(*, driver: str, orphans: set[int], in_flight: int) -> set[int]:
    """Renew every lease of `driver` and its heartbeat; returns the keys of the rows it holds.

    `orphans` are rows leased in our name that nobody here looks after (a claim whose answer
    was lost): they go back to the table instead.
    """
    now = timezone.now()
    lease_end = now + timedelta(seconds=settings.DRIVER_LEASE_SECONDS)
    ours = Run.objects.filter(leased_by=driver)
    if orphans:
        ours.filter(pk__in=orphans).update(due_at=now, **FREE)
    ours.update(lease_expires_at=lease_end)
    heartbeat(driver=driver, in_flight=in_flight, now=now)
    return set(ours.values_list("pk", flat=True))


def heartbeat(*, driver: str, in_flight: int, now: datetime) -> None:
    DriverHeartbeat.objects.update_or_create(
        name=driver,
        defaults={"seen_at": now, "in_flight": in_flight},
        create_defaults={"seen_at": now, "in_flight": in_flight, "started_at": now},
    )


def bury(*, buried: set[str]) -> set[str]:
    """End the leases of drivers whose process is gone for certain; returns those drivers' names.

    One that shows a sign of life after it was `buried` is left alone: it lives on elsewhere, in a
    copy of this machine as it was.
    """
    living = set(DriverHeartbeat.objects.values_list("name", flat=True))
    names = living.union(Run.objects.holders()) - (buried & living)
    gone = {name for name in names if is_gone(name)}
    if gone:
        Run.objects.lapse(gone, timezone.now())
        DriverHeartbeat.objects.filter(name__in=gone).delete()
    return gone


def knocks(*, driver: str) -> list[Run]:
    """Rows of ours that somebody has made due: their status changed under us.

    Any `due_at` counts, whatever the hour at which the clock of the knocking machine set it.
    """
    if not KNOCKED_AT.all(driver=driver):
        return []
    with transaction.atomic():
        ours = Run.objects.filter(leased_by=driver, due_at__isnull=False)
        free = ours.select_for_update(of=("self",), skip_locked=True)
        runs = list(free.select_related("connection"))
        if runs:
            Run.objects.filter(pk__in=[run.pk for run in runs], leased_by=driver).update(
                due_at=None
            )
    return runs


def let_go(run: Run, *, driver: str, due_at: datetime | None) -> None:
    """Give one row back to the table, unless it has moved on since it was read."""
    Run.objects.filter(pk=run.pk, leased_by=driver, status=run.status).update(due_at=due_at, **FREE)


def hand_over(*, driver: str) -> None:
    """Give every lease back, due at once, so that another driver goes on without waiting."""
    Run.objects.filter(leased_by=driver).update(due_at=timezone.now(), **FREE)
    DriverHeartbeat.objects.filter(name=driver).delete()
