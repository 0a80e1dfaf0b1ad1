"""What went wrong at the upstream, and what can be done about it.

Whatever carries a request, the SDK or not, says it in the same few words: Refused, Unreached, Cut,
Unreadable. The table of Responses and Chat Completions errors is the vendor's "Error codes" page.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from assistant_manager.engines.exceptions import EngineError, Rejected, Unavailable, Unknown
from assistant_manager.engines.gates import LONGEST_WAIT

if TYPE_CHECKING:
    from assistant_manager.engines.clients import Client

logger = logging.getLogger(__name__)

BILLING = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
}
"""Codes of a 429 that no waiting cures."""
LOST = {408, 500, 502, 504}
"""Statuses after which a creation may have been taken or not."""
REFUSED_INPUT = {400, 413, 422}
KEY_STATUSES = {401, 403}
"""Refusals that say nothing of how the upstream is."""
NOT_AN_ANSWER = "sent a reply that is not what was asked for"
LONGEST_QUOTE = 500  # characters of an upstream's own message
LONGEST_REPLY = 256 * 2**20
"""Bytes; code may have written a file as large as our own may."""


class Refused(Exception):
    """The upstream answered with an HTTP status of 300 or more. `error` is what it says about it:
    `message`, `code`, `type`, `param`, each of them optional."""

    def __init__(self, status: int, headers: Mapping[str, str], error: Mapping[str, Any]) -> None:
        super().__init__(status)
        self.status, self.headers, self.error = status, headers, error

    def said(self, name: str) -> str:
        """A field of the error as text; "" where it is missing."""
        return str(self.error.get(name) or "")


class Unreached(Exception):
    """No connection came about: nothing was sent."""


class Cut(Exception):
    """There was a connection, and no whole reply."""


class Unreadable(Exception):
    """A reply that is not what was asked for."""


_UNREADABLE = json.JSONDecodeError | UnicodeDecodeError | RecursionError


@contextmanager
def reading(client: Client) -> Iterator[None]:
    """For what an upstream has sent: where that lacks what it must have, or has it in another
    shape, Rejected is raised. Nothing of ours is to be done in here."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        logger.exception("An answer of “%s” cannot be read", client.info.name)
        raise Rejected(f"“{client.info.name}” sent an answer that cannot be read.") from error


def token_count(said: Any) -> int:
    """A number of tokens as an upstream has said it; 0 for anything that is none."""
    return said if isinstance(said, int) and 0 <= said < 2**31 else 0


def too_long(name: str, most: int) -> Rejected:
    return Rejected(f"“{name}” sent a reply of more than {most // 2**20} MiB.")


def translated(error: Exception, client: Client, *, creates: bool) -> EngineError | None:
    """The EngineError that says what can be done about `error`; None for a mistake of ours."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, Refused):
        return _from_status(error, client, creates=creates)
    if isinstance(error, Unreached):
        if creates:
            client.gate.failed()
        return Unavailable(f"“{client.info.name}” cannot be reached.")
    if isinstance(error, Cut):
        return lost(client, "gave no answer, or one that was cut off", creates=creates)
    if isinstance(error, Unreadable | _UNREADABLE):
        return lost(client, NOT_AN_ANSWER, creates=creates)
    return None


def _from_status(refused: Refused, client: Client, *, creates: bool) -> EngineError:
    name, status = client.info.name, refused.status
    said = _said(refused, client)
    if status == 429:
        return _from_limit(refused, client, said, creates=creates)
    if status == 503:
        if creates:
            client.gate.failed()
        return Unavailable(f"“{name}” is overloaded.", retry_after=retry_after(refused.headers))
    if status in LOST or status >= 500:
        return lost(client, f"had an error (HTTP {status})", creates=creates)
    if creates and status not in KEY_STATUSES:
        client.gate.succeeded()
    if status == 409:
        return Unavailable(f"“{name}” is busy with another request of ours.")
    about = {"reason": _reason(refused), "parameter": refused.said("param")}
    if status < 400:
        place = client.scrubbed(refused.headers.get("location", ""))[:LONGEST_QUOTE]
        return Rejected(f"“{name}” points to another address (HTTP {status}): {place}", **about)
    if status in REFUSED_INPUT:
        return Rejected(f"“{name}” refused the request: {said}", code="invalid_prompt", **about)
    if status == 401:
        return Rejected(f"“{name}” does not accept the keys of its connection: {said}")
    return Rejected(f"“{name}” refused the request (HTTP {status}): {said}", **about)


def _from_limit(refused: Refused, client: Client, said: str, *, creates: bool) -> EngineError:
    if {refused.said("code"), refused.said("type")} & BILLING:
        client.gate.out_of_credit()
        return Rejected(
            f"“{client.info.name}” has no credit left, or a spending limit was reached: {said}",
            code="rate_limit_exceeded",
        )
    seconds = retry_after(refused.headers)
    if creates:
        client.gate.succeeded()
    client.gate.wait_for_quota(seconds or 1.0)
    reason = client.gate.standing.pause_reason
    return Unavailable(reason, retry_after=seconds, code="rate_limit_exceeded")


def lost(client: Client, what: str, *, creates: bool) -> EngineError:
    """A request whose reply says nothing: a start may have been taken or not."""
    text = f"“{client.info.name}” {what}."
    if not creates:
        return Unavailable(text)
    client.gate.failed()
    return Unknown(text)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the upstream asks us to wait, an hour at most: `retry-after-ms`, else `Retry-After`
    in seconds or as a date; None where it says nothing that can be read."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            seconds = _seconds_or_date(headers.get("retry-after", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT)


def _seconds_or_date(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return (parsedate_to_datetime(value) - timezone.now()).total_seconds()


def _reason(refused: Refused) -> str:
    """The upstream's code; its type where it only repeats the status there, as llama.cpp does."""
    code = refused.said("code")
    return refused.said("type") if not code or code.isdigit() else code


def _said(refused: Refused, client: Client) -> str:
    """The upstream's own words, short and without our keys."""
    message = refused.error.get("message")
    text = message if isinstance(message, str) and message else f"HTTP {refused.status}"
    return client.scrubbed(text)[:LONGEST_QUOTE]
