"""A run, told line by line as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.utils import timezone

from conversations.models import DriverHeartbeat, Run, RunEvent, RunStatus, RunStep
from conversations.services.runs import end_if_overdue

LOOK_EVERY = 0.1
"""Seconds between two looks at the events."""


class NoWorker(Exception):
    """Nobody is there to take the run up; it stays as it is."""


def follow(run: Run) -> Iterator[str]:
    """Yield a line per move and per piece of code until the run has ended or waits for its
    client; `run` is fresh then. Raises NoWorker when no driver is alive to go on with it."""
    seen = 0
    shown: set[str] = set()
    while True:
        for event in RunEvent.objects.after(run, seen):
            seen = event.seq
            yield from _lines(event, shown)
        run.refresh_from_db()
        end_if_overdue(run)
        if run.is_ended or run.state is RunStatus.REQUIRES_ACTION:
            for event in RunEvent.objects.after(run, seen):
                yield from _lines(event, shown)
            return
        if run.is_driven and not DriverHeartbeat.objects.alive(timezone.now()).exists():
            raise NoWorker
        time.sleep(LOOK_EVERY)


def _lines(event: RunEvent, shown: set[str]) -> Iterator[str]:
    if event.type == "thread.run.held":
        yield "· held: the answer waits until a person has reviewed it (Ctrl-C to stop waiting)"
    elif "status" in event.data and event.type != "thread.run.created":
        yield f"· {event.data['status'].replace('_', ' ')}"
    elif event.type.startswith("thread.run.step."):
        step = RunStep.objects.filter(public_id=event.data["step"]).first()
        for call in step.calls if step else ():
            yield from _call_lines(call, shown)


def _call_lines(call: dict[str, Any], shown: set[str]) -> Iterator[str]:
    """The code once, then its output once it is there."""
    if call["type"] != "code_interpreter":
        return
    body = call["code_interpreter"]
    logs = [output["logs"] for output in body["outputs"] if output["type"] == "logs"]
    for title, text in (("runs Python:", body["input"]), ("it printed:", "\n".join(logs))):
        key = f"{call['id']} {title}"
        if text and key not in shown:
            shown.add(key)
            yield f"· {title}"
            yield from (f"    {line}" for line in text.splitlines())
