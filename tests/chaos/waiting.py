"""Waiting for what workers do, in processes whose log says why when it never comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

LOOK_EVERY = 0.05


def wait_for(holds: Callable[[], bool], seconds: float, log: Path) -> float:
    """Seconds until it did."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() < begun + seconds, log.read_text()[-3000:]
        time.sleep(LOOK_EVERY)
    return time.monotonic() - begun
