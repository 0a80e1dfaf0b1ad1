"""The ways in which a worker learns that an answer is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Way:
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the connection."""


PACE = 2.0
"""Seconds between two looks where nobody listens."""
LISTENING = Way("listening", {"listen": True})
POLLING = Way("polling", {"poll_seconds": PACE, "listen": False})
WAYS = (LISTENING, POLLING)
