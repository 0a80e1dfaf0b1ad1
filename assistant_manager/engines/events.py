"""Server-sent events, of which only those that matter are read: the text of a long answer comes in
hundreds of pieces."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any

from assistant_manager.engines import troubles

GARBLED = {"type": "garbled"}
"""Stands for an event that cannot be read."""


class Events:
    """The events of one stream. The data of each must be a JSON object."""

    def __init__(self, wanted: Container[str]) -> None:
        """`wanted` are the names of those that matter."""
        self._wanted = wanted
        self._rest: list[bytes] = []
        self._size = 0
        self._name = ""
        self._data: list[bytes] = []
        self._number: int | None = None
        self._skipped = b""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The data of the events that matter and are whole by now."""
        self._rest.append(chunk)
        self._size += len(chunk)
        if b"\n" not in chunk:  # of a line so long it is put together only once
            return [GARBLED] if self._size > troubles.LONGEST_REPLY else []
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest, self._size = [rest], len(rest)
        found = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:])
            elif line.startswith(b"event:"):
                self._name = line[6:].strip().decode(errors="replace")
            elif self._data and not line.strip():
                event = self._whole_event()
                if event is not None:
                    found.append(event)
        return found

    @property
    def number(self) -> int | None:
        """Of the event heard last, whether it matters or not; None where it has none."""
        if self._skipped:
            self._number, self._skipped = _number(_read(self._skipped)), b""
        return self._number

    def _whole_event(self) -> dict[str, Any] | None:
        data, name = b"\n".join(self._data), self._name
        self._name, self._data = "", []
        # Where the stream does not name its events, their data does.
        if name.startswith("response.") and name not in self._wanted:
            self._skipped = data
            return None
        if data.strip() == b"[DONE]":
            return None
        event = _read(data)
        if event is not GARBLED:
            self._number, self._skipped = _number(event), b""
        return event if event is GARBLED or event.get("type") in self._wanted else None


def _number(event: dict[str, Any]) -> int | None:
    number = event.get("sequence_number")
    return number if isinstance(number, int) else None


def _read(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return GARBLED
    return value if isinstance(value, dict) else GARBLED
