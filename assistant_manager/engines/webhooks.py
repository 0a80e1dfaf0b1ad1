"""Events that upstreams send us: are they really theirs, and what are they about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import OpenAI

LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Event:
    """`webhook_id` is the same in every delivery of one event. `upstream_id` is what the event is
    about, "" where it does not say."""

    webhook_id: str
    type: str
    upstream_id: str


def verify(body: bytes, headers: Mapping[str, str], secret: str) -> Event:
    """The event in `body`, which was signed with `secret` within the last five minutes.

    Raises ValueError for anything else; the SDK adds a TypeError for signatures beyond ASCII.
    """
    _sdk().webhooks.verify_signature(body, dict(headers), secret=secret)
    webhook_id = {name.lower(): value for name, value in headers.items()}["webhook-id"]
    if len(webhook_id) > LONGEST_ID:
        raise ValueError("The webhook-id is too long.")
    event = json.loads(body)
    if not isinstance(event, dict):
        raise ValueError("The event is not an object.")
    about = event.get("data")
    upstream_id = about.get("id") if isinstance(about, dict) else None
    return Event(webhook_id, str(event.get("type")), str(upstream_id or ""))


@cache
def _sdk() -> OpenAI:
    """One for all secrets: it sends nothing."""
    from openai import OpenAI

    return OpenAI(api_key="never-sent")
