"""Figure 2, and 4 as far as it is ours: questions that arrive steadily, about 4,000 in flight.

"Added" is what comes on top of the upstream's own time: from the commit of the question until the
upstream has it, and from the upstream's end until the answer is committed. Both commits are those
of other processes, seen from outside. Where the worker cannot take the full rate, it is given
four fifths of what it took in a burst just before, and the row says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.questions import Questions, make_asker
from tests.benchmarks.table import percentile, reached
from tests.benchmarks.upstream import Upstream, running_upstream
from tests.benchmarks.watching import Ends, Watched, added_seconds, watched_worker
from tests.benchmarks.ways import WAYS, Way

TITLE = "Figure 2: added latency, questions arriving steadily, 20 s upstream"
COLUMNS = (
    *("worker", "questions/s", "in flight", "answered", "added p50", "added p95", "goal"),
    *("CPU an answer", "goal"),
)
RATE = 200.0
SECONDS = 40.0
UPSTREAM_SECONDS = (19.0, 21.0)
"""Spread, or they would all be done just as somebody looks."""
BURST = 600
GOALS = {"listening": (0.020, 0.050, 1.0), "polling": (1.1, 2.2, 2.0)}
"""Seconds added at p50 and p95, ms of CPU an answer."""


def measure(log: Path, scale: float) -> Iterator[Sequence[str]]:
    with running_upstream() as upstream:
        for way in WAYS:
            yield _steady(way, upstream, log, scale)
    yield ("*limit: one commit; prototype*", "200", "4,000", "", "0.010 / 1.0 s", "0.020 / 1.9 s")


def _steady(way: Way, upstream: Upstream, log: Path, scale: float) -> Sequence[str]:
    questions = Questions(make_asker(upstream.url, seconds=UPSTREAM_SECONDS, **way.options))
    with watched_worker(log) as worker:
        rate = min(RATE * scale, 0.8 * _burst(way, upstream, worker, int(BURST * scale)))
        with Ends(questions.asked) as ends, worker.measured() as usage:
            asking = questions.ask_steadily(rate, SECONDS)
            time.sleep(UPSTREAM_SECONDS[1])
            in_flight = questions.runs.filter(status="in_progress").count()
            asking.join()
            count = len(questions.asked)
            ends.wait_for(count, 120)
    added = added_seconds(questions.asked, ends.seen)
    questions.abandon()
    p50, p95 = percentile(added, 50), percentile(added, 95)
    goal_50, goal_95, goal_cpu = GOALS[way.name]
    cpu = usage.cpu / max(1, len(added)) * 1000
    return (
        *(way.name, f"{rate:.0f}", f"{in_flight:,}", f"{len(added):,} of {count:,}"),
        *(f"{p50:.3f} s", f"{p95:.3f} s"),
        reached(
            p50 <= goal_50 and p95 <= goal_95 and rate >= RATE,
            f"{goal_50:g} / {goal_95:g} s at {RATE:.0f}/s",
        ),
        f"{cpu:.2f} ms",
        reached(cpu <= goal_cpu, f"≤ {goal_cpu:g} ms"),
    )


def _burst(way: Way, upstream: Upstream, worker: Watched, count: int) -> float:
    """Answers a second of a burst; it also has everything loaded that the first runs load."""
    questions = Questions(make_asker(upstream.url, seconds=1.0, **way.options))
    with Ends(questions.asked) as ends:
        began = time.time()
        questions.ask_many(count)
        if not ends.wait_for(count, 120):
            raise SystemExit("The worker does not keep up; its log says why.")
        return count / (max(ends.seen.values()) - began - 1.0)
