"""From the stored question to the stored answer, with the real worker, engine and sandbox."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from conversations.models import Run
from conversations.services import runs
from tests.benchmarks.table import percentile
from tests.factories import make_assistant
from tests.processes import WORKER, running

TITLE = "Embedded engine: question to answer"
COLUMNS = ("questions", "answered", "p50", "p95", "answers/s")
WITH_PAUSES = 20
PAUSE = 1.5
ONE_BY_ONE = 60
AT_ONCE = 60


def measure(log: Path) -> Iterator[Sequence[str]]:
    assistant = make_assistant()
    with running(WORKER, log):
        for _ in range(5):  # the worker starts, the sandbox proves itself, the first kernel warms
            _wait([runs.ask(assistant=assistant, text="Solve 2x = 4")], seconds=60)
        began = time.monotonic()
        asked = []
        for number in range(WITH_PAUSES):
            time.sleep(PAUSE)
            asked.append(runs.ask(assistant=assistant, text=f"Solve 7x + {number} = 14"))
            _wait(asked[-1:], seconds=60)
        yield _row(f"{WITH_PAUSES}, {PAUSE} s apart", asked, time.monotonic() - began)
        began = time.monotonic()
        asked = []
        for number in range(ONE_BY_ONE):
            asked.append(runs.ask(assistant=assistant, text=f"Solve 3x + {number} = 14"))
            _wait(asked[-1:], seconds=60)
        yield _row(f"{ONE_BY_ONE}, one after another", asked, time.monotonic() - began)
        began = time.monotonic()
        asked = [
            runs.ask(assistant=assistant, text=f"Solve 5x + {number} = 14")
            for number in range(AT_ONCE)
        ]
        _wait(asked, seconds=120)
        yield _row(f"{AT_ONCE}, at once", asked, time.monotonic() - began)


def _wait(asked: Sequence[Run], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    keys = [run.pk for run in asked]
    while Run.objects.active().filter(pk__in=keys).exists():
        if time.monotonic() > deadline:
            raise SystemExit("The worker does not answer; its log says why.")
        time.sleep(0.005)


def _row(name: str, asked: Sequence[Run], seconds: float) -> Sequence[str]:
    for run in asked:
        run.refresh_from_db()
    took = [(run.ended_at - run.created_at).total_seconds() * 1000 for run in asked if run.ended_at]
    answered = sum(run.status == "completed" for run in asked)
    return (
        name,
        str(answered),
        f"{percentile(took, 50):.0f} ms",
        f"{percentile(took, 95):.0f} ms",
        f"{len(asked) / seconds:.1f}",
    )
