"""Celery's other door: the sweep that tidies what nobody else has, and the small jobs."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from assistant_manager.models import File, IdempotencyKey, SignInLink
from conversations import adoption
from conversations.models import DriverHeartbeat, Review, Run, WebhookDelivery


@shared_task
def adopt(delivery: int) -> None:
    """Find out whose the upstream's object is that a webhook speaks of."""
    waiting = WebhookDelivery.objects.left_over().select_related("connection")
    if (found := waiting.filter(pk=delivery).first()) is not None:
        adoption.adopt(found)


@shared_task
def sweep() -> None:
    """Bookkeeping that may be late and may be repeated. Runs are hardly its business: drivers find
    overdue and abandoned rows themselves."""
    now = timezone.now()
    Run.objects.bring_forward(now)
    Review.objects.open_missing()
    IdempotencyKey.objects.forgotten(now).delete()
    SignInLink.objects.filter(expires_at__lt=now).delete()
    DriverHeartbeat.objects.filter(seen_at__lt=now - timedelta(hours=1)).delete()
    WebhookDelivery.objects.forgotten(now).delete()
    for pk in WebhookDelivery.objects.left_over(now).values_list("pk", flat=True)[:100]:
        adopt.delay(pk)
    for file in File.objects.filter(expires_at__lt=now).order_by("pk")[:500]:
        file.delete()
