"""Ctrl-C, `kill` and a closed terminal, as a plain value to look at."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self


class Stopping:
    """Counts how often we were asked to stop, from `with` on. Looked at, not waited for: a
    handler that sets an Event may deadlock with the very wait it interrupts."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in self.SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
