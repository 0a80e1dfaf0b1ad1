"""Ten thousand runs in flight, kept up for minutes: as some end, others begin. Nothing may grow.

Memory and file descriptors are those of the worker; the database's size is divided by the runs
stored so far. The last lines compare the last quarter with the second one, which tells something
from about ten minutes on: before, not all are under way in the second quarter. The
graph goes to the path given.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from django.db import connection

from tests.benchmarks.graph import Series, write_graph
from tests.benchmarks.questions import Questions, make_asker
from tests.benchmarks.table import percentile, reached
from tests.benchmarks.upstream import running_upstream
from tests.benchmarks.watching import Ends, Watched, added_seconds, watched_worker
from tests.benchmarks.ways import LISTENING

TITLE = "Soak: 10,000 runs in flight, kept up"
COLUMNS = ("minute", "in flight", "answered", "CPU of a core", "memory", "descriptors", "database")
IN_FLIGHT = 10_000
UPSTREAM_SECONDS = (60.0, 180.0)
RAMP = 90.0
"""Seconds until all are in flight."""
STEP = 5.0
"""Seconds between two samples."""
ROWS = 12
GROWTH = 0.05


@dataclass(frozen=True)
class Sample:
    minute: float
    in_flight: int
    answered: int
    cpu: float
    memory: float
    descriptors: int
    bytes: int
    bytes_a_run: float

    def row(self) -> Sequence[str]:
        return (
            *(f"{self.minute:.1f}", f"{self.in_flight:,}", f"{self.answered:,}"),
            *(f"{self.cpu:.0%}", f"{self.memory:.0f} MiB", f"{self.descriptors:,}"),
            f"{self.bytes_a_run / 1024:.1f} KiB a run",
        )


def measure(log: Path, scale: float, minutes: float, graph: Path) -> Iterator[Sequence[str]]:
    samples: list[Sample] = []
    way = LISTENING
    with running_upstream() as upstream:
        questions = Questions(make_asker(upstream.url, seconds=UPSTREAM_SECONDS, **way.options))
        with watched_worker(log) as worker, Ends(questions.asked) as ends:
            shown = 0
            for sample in _samples(questions, worker, ends, int(IN_FLIGHT * scale), minutes):
                samples.append(sample)
                if sample.minute >= shown * minutes / ROWS:
                    shown += 1
                    yield sample.row()
            added = added_seconds(questions.asked, ends.seen)
            questions.abandon()
    yield from _verdicts(samples)
    late = f"{percentile(added, 50):.2f} s, {percentile(added, 95):.2f} s"
    yield (f"added p50, p95 ({way.name}): {late}",)
    _draw(samples, graph)


def _samples(
    questions: Questions, worker: Watched, ends: Ends, count: int, minutes: float
) -> Iterator[Sample]:
    began = last = time.monotonic()
    cpu, empty = worker.cpu(), _database_size()
    while (now := time.monotonic() - began) < minutes * 60:
        wanted = min(count, int(count * now / RAMP))
        missing = wanted - (len(questions.asked) - len(ends.seen))
        for _ in range(min(missing, 50)):
            questions.ask()
        if time.monotonic() - last >= STEP:
            seconds, last = time.monotonic() - last, time.monotonic()
            before, cpu = cpu, worker.cpu()
            yield Sample(
                minute=now / 60,
                in_flight=len(questions.asked) - len(ends.seen),
                answered=len(ends.seen),
                cpu=(cpu - before) / seconds,
                memory=worker.memory(),
                descriptors=worker.descriptors(),
                bytes=(size := _database_size()),
                bytes_a_run=(size - empty) / max(1, len(questions.asked)),
            )
        time.sleep(0.02)


def _database_size() -> int:
    """In bytes, the log of what is not in it yet included."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
    name = str(connection.settings_dict["NAME"])
    files = [Path(name + end) for end in ("", "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


def _verdicts(samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    judged: dict[str, Callable[[Sequence[Sample]], float]] = {
        "memory": lambda part: statistics.mean(sample.memory for sample in part),
        "descriptors": lambda part: statistics.mean(sample.descriptors for sample in part),
        "what the database grows by an answer": _bytes_an_answer,
    }
    for name, value in judged.items():
        growth = value(late) / value(early) - 1
        yield (f"{name}: {growth:+.1%}", reached(growth <= GROWTH, f"≤ {GROWTH:.0%}"))


def _bytes_an_answer(part: Sequence[Sample]) -> float:
    answers = part[-1].answered - part[0].answered
    return (part[-1].bytes - part[0].bytes) / max(1, answers)


def _draw(samples: Sequence[Sample], file: Path) -> None:
    minutes = [sample.minute for sample in samples]
    shown: dict[str, tuple[str, Callable[[Sample], float]]] = {
        "in_flight": ("Runs in flight", lambda sample: sample.in_flight),
        "memory": ("Memory of the worker, MiB", lambda sample: sample.memory),
        "descriptors": ("File descriptors", lambda sample: sample.descriptors),
        "bytes_a_run": ("Database, KiB a run", lambda sample: sample.bytes_a_run / 1024),
    }
    assert set(shown) <= {field.name for field in fields(Sample)}
    series = [Series(title, [read(one) for one in samples]) for title, read in shown.values()]
    write_graph(file, "minutes", minutes, series)
    print(f"\nThe graph is in {file}", flush=True)
