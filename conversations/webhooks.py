"""The door for events of upstreams, one address a connection. Signed, or it is not opened."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from assistant_manager.engines.webhooks import verify
from assistant_manager.models import Connection
from assistant_manager.secrets import SecretUnreadable
from conversations.services.webhooks import take_event

logger = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024
"""Events are thin: they name an object, and it has to be fetched."""


@csrf_exempt
@require_POST
def webhook(request: HttpRequest, pk: int) -> HttpResponse:
    connection = Connection.objects.defer("key_1", "key_2").filter(pk=pk).first()
    secret = _secret(connection) if connection else ""
    if connection is None or not secret:
        return HttpResponse("No webhooks are expected here.\n", status=404)
    try:
        if int(request.headers.get("Content-Length") or 0) > MOST_BYTES:
            return HttpResponse("Too large.\n", status=413)
        event = verify(request.body, request.headers, secret)
    except (ValueError, TypeError) as error:
        logger.info("A webhook for “%s” was refused: %s", connection, type(error).__name__)
        return HttpResponse("The signature does not fit.\n", status=400)
    take_event(connection=connection, event=event)
    return HttpResponse("Thank you.\n")


def _secret(connection: Connection) -> str:
    try:
        return connection.webhook_secret.reveal()
    except SecretUnreadable as error:
        logger.warning("Webhooks for “%s” cannot be checked: %s", connection, error)
        return ""
