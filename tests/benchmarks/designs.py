"""Figure 4: what an answer costs the worker, beside the two designs that hold a task for each run.

All with the same upstream, which needs 20 s, and in one run, so that the ratio means something on
any machine. The questions come at once; the designs with a task a run get as many as they can hold
at once. CPU is that of the worker with all its processes, idle share included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.questions import Questions, make_asker
from tests.benchmarks.reference_app import app
from tests.benchmarks.table import percentile, reached
from tests.benchmarks.upstream import Upstream, running_upstream
from tests.benchmarks.watching import Ends, Watched, added_seconds, wait, watched_worker
from tests.benchmarks.ways import WAYS
from tests.processes import running

TITLE = "Figure 4: CPU an answer, 20 s upstream, all questions at once"
COLUMNS = (
    *("design", "questions", "answered", "added p50", "added p95"),
    *("CPU an answer", "goal", "times what the naive one costs", "goal"),
)
UPSTREAM_SECONDS = (19.0, 21.0)
OURS, RESCHEDULING, SLOTS = 1000, 200, 16
LIMITS = {"listening": 1.0, "polling": 2.0}
"""ms of CPU an answer."""


@dataclass(frozen=True)
class Outcome:
    questions: int
    added: list[float]
    cpu: float

    @property
    def each(self) -> float:
        """ms of CPU."""
        return self.cpu / max(1, len(self.added)) * 1000

    def row(self, name: str) -> list[str]:
        p50, p95 = percentile(self.added, 50), percentile(self.added, 95)
        return [
            *(name, f"{self.questions:,}", f"{len(self.added):,}", f"{p50:.2f} s", f"{p95:.2f} s"),
            f"{self.each:.2f} ms",
        ]


def measure(log: Path, scale: float) -> Iterator[Sequence[str]]:
    with running_upstream() as upstream:
        naive = _reference("answer", SLOTS, SLOTS, upstream, log)
        yield [*naive.row(f"a task a run, {SLOTS} processes"), "", "1"]
        other = _reference("start", int(RESCHEDULING * scale), 4, upstream, log)
        yield [*other.row("a task a poll, 4 processes"), "", f"{other.each / naive.each:.1f}"]
        for way in WAYS:
            ours = _ours(dict(way.options), int(OURS * scale), upstream, log)
            ratio, limit = naive.each / ours.each, LIMITS[way.name]
            yield [
                *ours.row(f"our worker, {way.name}"),
                reached(ours.each <= limit, f"≤ {limit:g} ms"),
                f"1/{ratio:.0f}",
                reached(ratio >= 25, "≤ 1/25"),
            ]


def _ours(options: dict[str, object], count: int, upstream: Upstream, log: Path) -> Outcome:
    warm_up = Questions(make_asker(upstream.url, seconds=0.5, **options))
    questions = Questions(make_asker(upstream.url, seconds=UPSTREAM_SECONDS, **options))
    with watched_worker(log) as worker:
        _outcome(warm_up, worker, 2 * SLOTS)
        return _outcome(questions, worker, count)


def _reference(task: str, count: int, processes: int, upstream: Upstream, log: Path) -> Outcome:
    warm_up = Questions(make_asker(upstream.url, seconds=0.5))
    questions = Questions(make_asker(upstream.url, seconds=UPSTREAM_SECONDS))
    with _reference_worker(processes, log) as worker:
        _outcome(warm_up, worker, 2 * SLOTS, f"reference.{task}")
        return _outcome(questions, worker, count, f"reference.{task}")


def _outcome(questions: Questions, worker: Watched, count: int, task: str = "") -> Outcome:
    with Ends(questions.asked) as ends, worker.measured() as usage:
        questions.ask_many(count, at_once=50)
        if task:
            for run in questions.asked:
                app.send_task(task, (run,))
        ends.wait_for(count, 90)
    added = added_seconds(questions.asked, ends.seen)
    questions.abandon()
    return Outcome(count, added, usage.cpu)


@contextmanager
def _reference_worker(processes: int, log: Path) -> Iterator[Watched]:
    words = ("celery", "--quiet", "-A", "tests.benchmarks.reference_app", "worker")
    words += ("--pool", "prefork", "--concurrency", str(processes), "--loglevel", "WARNING")
    words += ("--without-gossip", "--without-mingle", "--without-heartbeat")
    with running(words, log) as process:
        worker = Watched(process.pid)
        wait(lambda: len(worker.processes()) > processes, 60)
        yield worker
