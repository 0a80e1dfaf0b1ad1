"""What the status of an upstream run means for the attempt."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from random import uniform
from typing import Any

from assistant_manager.engines.base import Outcome, Usage
from assistant_manager.engines.gates import LONGEST_WAIT
from assistant_manager.engines.troubles import token_count

Row = dict[str, Any]

ENDS: dict[str, Outcome] = {
    "requires_action": "requires_action",
    "completed": "completed",
    "incomplete": "incomplete",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}
"""Every other status, known or not, means that it still works."""
ENDED = ("completed", "failed", "cancelled", "expired", "incomplete")
REASONS = {"max_completion_tokens", "max_prompt_tokens", "content_filter"}
CODES = {"server_error", "rate_limit_exceeded", "invalid_prompt"}
SLOWER = ((20.0, 1.0), (60.0, 3.0))
"""Up to an age in seconds, how many times the pace of polling a look may wait."""
SLOWEST = 5.0
QUOTA_SECONDS = 10.0
"""How long to wait for quota where the upstream does not say."""
_WAIT = re.compile(r"try again in (\d+(?:\.\d+)?) ?s", re.IGNORECASE)


def usage_of(run: Row, told: Mapping[str, int]) -> Usage | None:
    """Tokens but for those `told` by an earlier attempt; None while the upstream does not say."""
    spent = run.get("usage")
    if not spent:
        return None
    prompt = token_count(spent.get("prompt_tokens")) - told.get("prompt_tokens", 0)
    completion = token_count(spent.get("completion_tokens")) - told.get("completion_tokens", 0)
    return Usage(max(prompt, 0), max(completion, 0))


def tokens_of(run: Row) -> dict[str, int]:
    """Tokens of the run so far, as a later attempt wants to know them; empty where nobody says."""
    spent = run.get("usage") or {}
    names = ("prompt_tokens", "completion_tokens")
    return {name: token_count(spent[name]) for name in names if name in spent}


def ending(run: Row, scrubbed: Callable[[str], str]) -> dict[str, Any]:
    """What a Progress says of how the run ended, and why; `scrubbed` takes our keys out of a text."""
    outcome = ENDS[run["status"]]
    if outcome == "failed":
        error = run.get("last_error") or {}
        code = error.get("code")
        return {
            "outcome": outcome,
            "error_code": code if code in CODES else "server_error",
            "error": scrubbed(error.get("message") or "") or None,
        }
    if outcome == "incomplete":
        reason = (run.get("incomplete_details") or {}).get("reason")
        if reason not in REASONS:
            return {"outcome": "failed", "error": f"The answer was cut off upstream ({reason})."}
        return {"outcome": outcome, "incomplete_reason": reason}
    return {"outcome": outcome}


def quota_wait(run: Row) -> float | None:
    """Seconds until the upstream has quota for another run; None where it did not fail for want
    of it. Azure takes every run and fails those that a 429 would have kept away."""
    error = run.get("last_error") or {}
    if run["status"] != "failed" or error.get("code") != "rate_limit_exceeded":
        return None
    told = _WAIT.search(error.get("message") or "")
    return min(float(told[1]), LONGEST_WAIT) if told else QUOTA_SECONDS


def pace(run: Row, seconds: float) -> float:
    """When to look again, in seconds: at first every `seconds`, less often as the run grows old."""
    age = time.time() - (run.get("created_at") or 0)
    times = next((times for limit, times in SLOWER if age < limit), SLOWEST)
    return seconds * times * uniform(0.8, 1.2)  # noqa: S311 - keeps looks apart, no secret
