"""What a webhook changes: the next look comes sooner, and a start whose reply was lost is found again.

A webhook is never believed for its content. It names an upstream's object, and the run is looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from django.db import transaction
from django.utils import timezone

from assistant_manager.engines import engine_for
from assistant_manager.engines.base import ConnectionInfo, Engine, Found
from assistant_manager.engines.exceptions import EngineError, Unavailable
from assistant_manager.secrets import SecretUnreadable
from conversations.models import Run, RunAttempt, WebhookDelivery
from conversations.models.status import DRIVEN
from conversations.nudges import nudge
from conversations.storable import indexable, storable

logger = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds for one question to the upstream."""


def knock(delivery: WebhookDelivery) -> bool:
    """Have the run looked at now that the event is about. False: no attempt is known by that id."""
    with transaction.atomic():
        known = RunAttempt.objects.filter(
            upstream_id=indexable(delivery.upstream_id), run__connection=delivery.connection_id
        )
        runs = list(known.values_list("run", flat=True)[:2])
        if not runs:
            return False
        _make_due(*runs)
        _handled(delivery)
    return True


def adopt(delivery: WebhookDelivery) -> None:
    """Find out whose the upstream's object is, and let its attempt go on with it.

    What nobody waits for any more is removed upstream. An upstream that cannot be asked just now
    leaves the delivery for the next sweep.
    """
    if knock(delivery):
        return
    try:
        _settle(delivery)
    except (Unavailable, TimeoutError) as error:
        logger.warning("The webhook %s has to wait: %s", delivery, error or "no answer in time")
        return
    except (EngineError, SecretUnreadable) as error:
        logger.warning("The webhook %s came to nothing: %s", delivery, error)
    _handled(delivery)


def _settle(delivery: WebhookDelivery) -> None:
    info, upstream_id = delivery.connection.info(), delivery.upstream_id
    found = _ask(info, lambda engine: engine.find(info, upstream_id))
    if found is not None and _is_orphan(delivery, found):
        _ask(info, lambda engine: engine.discard(info, upstream_id))


def _ask(info: ConnectionInfo, question: Callable[[Engine], Awaitable[T]]) -> T:
    async def ask() -> T:
        engine = engine_for(info.kind)
        try:
            return await asyncio.wait_for(question(engine), PATIENCE)
        finally:
            await engine.close()

    return asyncio.run(ask())


def _is_orphan(delivery: WebhookDelivery, found: Found) -> bool:
    """Give `found` to its attempt where that still waits for it; True where it was given up.

    The row's lock is the fence: of two objects of one attempt, one is taken. Those of attempts
    that no row here knows belong to another installation that shares the vendor's account.
    """
    upstream_id = indexable(delivery.upstream_id)
    with transaction.atomic():
        key = RunAttempt.objects.filter(key=found.attempt_key, run__connection=delivery.connection)
        run_pk = key.values_list("run", flat=True).first()
        if run_pk is None:
            return False
        run = Run.objects.select_for_update().get(pk=run_pk)
        attempt = key.get()
        if attempt.upstream_id == upstream_id:
            _make_due(run.pk)
            return False
        if run.is_ended or run.attempt != attempt.number or attempt.state is not None:
            return True
        attempt.state = dict(storable(found.state))
        attempt.upstream_id = upstream_id
        attempt.save(update_fields=["state", "upstream_id"])
        _make_due(run.pk)
        return False


def _make_due(*runs: int) -> None:
    """On a leased row this is a knock at its driver's door."""
    now = timezone.now()
    if Run.objects.filter(pk__in=runs, status__in=DRIVEN).update(due_at=now):
        nudge()


def _handled(delivery: WebhookDelivery) -> None:
    WebhookDelivery.objects.filter(pk=delivery.pk).update(handled_at=timezone.now())
