"""The Celery worker's step that starts and stops the driver: `celery worker` is all it takes."""

from __future__ import annotations

import gc
import sys
from typing import Any

from celery import bootsteps
from celery.signals import worker_shutting_down

from conversations.driver import Driver

CYCLES_AFTER = 20_000
"""Objects made, less those that are gone, between two looks for cycles among the newest."""
SWITCH_INTERVAL = 0.0005
"""Seconds a thread may keep the interpreter while others want it."""


class DriverStep(bootsteps.StartStopStep):
    """Starts after the pool and stops before it, handing the driver's runs over.

    Celery takes seconds over a warm shutdown; the driver begins to hand over with the signal that
    asks for it.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self.driver: Driver | None = None

    def start(self, worker: Any) -> None:
        prepare_interpreter()
        self.driver = Driver()
        self.driver.start()
        worker_shutting_down.connect(self._begin_to_stop)

    def stop(self, worker: Any) -> None:
        if self.driver is not None:
            self.driver.stop()
            self.driver = None

    def terminate(self, worker: Any) -> None:
        self.stop(worker)

    def _begin_to_stop(self, **_: Any) -> None:
        if self.driver is not None:
            self.driver.begin_to_stop()


def prepare_interpreter() -> None:
    """Thousands of runs in flight are hundreds of thousands of objects, and hardly any in a cycle:
    to look through all of them again and again took two fifths of all time, and held everything up
    meanwhile. What was loaded before stays for good anyway.

    The thread that writes lets go of the interpreter at each statement; it must not wait for the
    event loop to give it back for longer than the statement took.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(CYCLES_AFTER, 20, 50)
    sys.setswitchinterval(SWITCH_INTERVAL)
