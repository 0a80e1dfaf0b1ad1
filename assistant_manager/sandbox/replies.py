"""What a kernel says back, which model-written code may have forged: checked, never trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from assistant_manager.sandbox.pipes import clean

# A value and a traceback, each kept to 64 Ki characters of at most 12 bytes in JSON (\ud83d\ude00).
LONGEST = 2 * 1024 * 1024


class Forged(ValueError):
    """A line that our side of the kernel would not have written."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`failed` is set by a kernel that could not lock itself down, `memory` by lack of it."""

    cell: int | None
    outcome: Literal["ok", "error"]
    value: str | None
    error: str
    memory: bool
    failed: str | None


def parse(line: bytes) -> Reply:
    """Read one line. Raises Forged for whatever is not a reply."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise Forged from None
    if not isinstance(message, dict):
        raise Forged
    cell = message.get("cell")
    if not (cell is None or type(cell) is int):
        raise Forged
    return Reply(
        cell=cell,
        outcome="error" if message.get("outcome") == "error" else "ok",
        value=_text(message, "value"),
        error=_text(message, "error") or "",
        memory=message.get("memory") is True,
        failed=_text(message, "failed"),
    )


def _text(message: dict[str, object], name: str) -> str | None:
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Forged
    return clean(value)


class Lines:
    """Splits a stream into lines, none longer than LONGEST."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes. Raises Forged when one gets too long."""
        self._rest += data
        lines: list[bytes] = []
        if b"\n" in data:  # looked for in the new part only, or small pieces would cost much
            *complete, self._rest = self._rest.split(b"\n")
            lines = [bytes(line) for line in complete]
        if len(self._rest) > LONGEST:
            raise Forged
        return lines
