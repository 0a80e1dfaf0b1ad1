"""What a response's status means for the attempt, and how soon to look at it again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from assistant_manager.engines.base import ConnectionInfo, Json, Outcome, Usage
from assistant_manager.engines.responses.options import options_of
from assistant_manager.engines.troubles import token_count

RATE_LIMIT_CODES = {"rate_limit_exceeded", "insufficient_quota"}
PROMPT_CODES = {
    "invalid_prompt",
    "bio_policy",
    "misalignment_policy_violation",
    "content_filter",
    "context_length_exceeded",
}
PACE = ((20.0, 2.0), (120.0, 5.0))
"""Up to this age in seconds, that many seconds between two looks."""
SLOWEST_PACE = 15.0
PACE_WITH_WEBHOOKS = 30.0
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Ending:
    """The outcome of a response, in the words of Progress. Still `working`: it goes on."""

    outcome: Outcome
    error_code: str = "server_error"
    error: str | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether calls of functions in it are not to be offered."""
        return self.outcome != "completed"


def ending(response: Json) -> Ending:
    """A status that nobody has heard of yet counts as still at work: the deadline bounds it."""
    match response.get("status"):
        case "completed":
            return Ending("completed")
        case "incomplete":
            return _incomplete(response)
        case "failed":
            error = response.get("error") or {}
            message = error.get("message") or "The upstream failed and gave no reason."
            return Ending("failed", _code(error.get("code") or ""), message)
        case "cancelled":
            return Ending("cancelled")
        case _:
            return Ending("working")


def _incomplete(response: Json) -> Ending:
    reason = (response.get("incomplete_details") or {}).get("reason")
    if reason == "max_output_tokens":
        return Ending("incomplete")
    if reason == "content_filter":
        # A run cannot be incomplete for this reason on the wire.
        return Ending("failed", "invalid_prompt", "The upstream's content filter cut the answer.")
    return Ending("failed", error=f"The upstream left the answer incomplete: {reason}.")


def _code(upstream: str) -> str:
    """One of the wire's three codes for `last_error`."""
    if upstream in RATE_LIMIT_CODES:
        return "rate_limit_exceeded"
    if upstream in PROMPT_CODES or "image" in upstream:
        return "invalid_prompt"
    return "server_error"


def usage_of(response: Json) -> Usage | None:
    """None where the upstream does not say."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    return Usage(token_count(usage.get("input_tokens")), token_count(usage.get("output_tokens")))


def pace(connection: ConnectionInfo, age: float) -> float:
    """Seconds until the next look at a response `age` seconds old, ±20 %."""
    if fixed := options_of(connection).poll_seconds:
        return fixed
    seconds = next((pause for until, pause in PACE if age < until), SLOWEST_PACE)
    if connection.has_webhooks:
        seconds = PACE_WITH_WEBHOOKS
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
