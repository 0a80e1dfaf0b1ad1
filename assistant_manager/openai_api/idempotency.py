"""`Idempotency-Key`: a creation that is sent again makes nothing new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from django.db import transaction
from django.utils import timezone

from assistant_manager.models import IdempotencyKey, Project
from assistant_manager.openai_api.errors import Wire, WireError

HEADER = "Idempotency-Key"
MAX_LENGTH = 255


def fingerprint(parts: Iterable[bytes]) -> str:
    """A digest that tells two requests apart; each part's length is in it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


@transaction.atomic
def once(
    *, project: Project, key: str, fingerprint: str, create: Callable[[], Wire]
) -> tuple[Wire, bool]:
    """What `create` answers, and whether that was remembered from an earlier request.

    The key's row and what `create` makes commit together. Of two concurrent requests the second
    waits at the unique constraint and then finds the first one's answer; a refusal leaves no
    trace, so that the same key may try again. Raises WireError for a key already used otherwise.
    """
    if len(key) > MAX_LENGTH:
        raise WireError(f"The {HEADER} header is longer than {MAX_LENGTH} characters.")
    IdempotencyKey.objects.filter(project=project, key=key).forgotten(timezone.now()).delete()
    row, is_new = IdempotencyKey.objects.get_or_create(
        project=project, key=key, defaults={"fingerprint": fingerprint}
    )
    if is_new:
        row.response = create()
        row.save(update_fields=["response"])
        return row.response, False
    if row.fingerprint != fingerprint:
        # Not 409, which SDKs retry by themselves.
        raise WireError(
            f"The {HEADER} '{key}' was used before for a different request. Send the same request "
            "again, or use a new key."
        )
    return row.response or {}, True
