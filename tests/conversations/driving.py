"""Asking the scripted engine, and waiting for what a driver makes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from assistant_manager.models import ReleasePolicy
from conversations.models import Run, RunAttempt
from conversations.services import runs
from tests.factories import make_assistant

PATIENCE = 60
"""Seconds. What is awaited here takes a fraction of one, but a busy machine may stand still for ten."""


def ask(policy: str = ReleasePolicy.IMMEDIATELY, **script: Any) -> Run:
    assistant = make_assistant(instructions=json.dumps(script), release_policy=policy)
    return runs.ask(assistant=assistant, text="What is x?")


def wait(run: Run, *statuses: str, seconds: float = PATIENCE) -> Run:
    return wait_until(run, lambda: run.status in statuses, seconds)


def wait_until(run: Run, holds: Callable[[], bool], seconds: float = PATIENCE) -> Run:
    """The run as it is once `holds()`: read again, since the driver may have written between the
    reading and the question."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run.refresh_from_db()
        if holds():
            run.refresh_from_db()
            return run
        time.sleep(0.01)
    pytest.fail(f"{run} is {run.status} after {seconds} s: {run.last_error}")


def started(run: Run) -> Run:
    """Wait until the engine's first answer about `run` is recorded."""
    return wait_until(run, RunAttempt.objects.filter(run=run, state__isnull=False).exists)


def wait_for(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
