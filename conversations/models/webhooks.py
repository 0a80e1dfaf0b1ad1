"""Webhooks that upstreams have sent us, each once."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from assistant_manager.models import Connection

KEPT_FOR = timedelta(days=7)
"""Vendors repeat a delivery for up to three days."""
AT_ONCE = timedelta(seconds=60)
"""How long a delivery is left to the task that was sent off with it."""
WORTHWHILE = timedelta(days=1)


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def left_over(self, now: datetime | None = None) -> WebhookDeliveryQuerySet:
        """Nobody has acted on them; with `now`, although there was time for it."""
        rows = self.filter(handled_at=None)
        if now is None:
            return rows
        return rows.filter(received_at__lt=now - AT_ONCE, received_at__gt=now - WORTHWHILE)

    def forgotten(self, now: datetime) -> WebhookDeliveryQuerySet:
        return self.filter(received_at__lt=now - KEPT_FOR)


class WebhookDelivery(models.Model):
    """Kept so that a repeated delivery does nothing. `webhook_id` is the sender's; `upstream_id`
    is what the event is about. `handled_at` None: nobody has acted on it yet."""

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="+")
    webhook_id = models.CharField(max_length=200)
    type = models.CharField(max_length=100)
    upstream_id = models.TextField(blank=True)
    received_at = models.DateTimeField(default=timezone.now, db_index=True)
    handled_at = models.DateTimeField(null=True)

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "webhook_id"], name="a_webhook_is_taken_once"
            )
        ]

    def __str__(self) -> str:
        return self.webhook_id
