"""What is done about the events that upstreams send."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from assistant_manager.engines.webhooks import Event
from assistant_manager.models import Connection
from conversations import adoption
from conversations.models import WebhookDelivery
from conversations.storable import storable
from conversations.tasks import adopt

ENDINGS = ("response.completed", "response.failed", "response.cancelled", "response.incomplete")
"""The other events of a vendor's account are none of ours."""


@transaction.atomic
def take_event(*, connection: Connection, event: Event) -> None:
    """Write the event down, once, and have the run looked at that it is about."""
    event = storable(event)
    is_ours = event.type in ENDINGS and event.upstream_id
    delivery, is_new = WebhookDelivery.objects.get_or_create(
        connection=connection,
        webhook_id=event.webhook_id,
        defaults={
            "type": event.type[:100],
            "upstream_id": event.upstream_id,
            "handled_at": None if is_ours else timezone.now(),
        },
    )
    if is_new and is_ours and not adoption.knock(delivery):
        # A queue that cannot be reached is no reason to refuse: the sweep finds the row.
        transaction.on_commit(lambda: adopt.delay(delivery.pk), robust=True)
