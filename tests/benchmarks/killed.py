"""A worker killed with -9 while it looks after a thousand runs: what is lost, and for how long
nothing moves.

"All moving" is when the upstream has been asked about each of the runs again, or each stream is
open again. Counted from the moment the new worker's driver is up, and, where another worker takes
over, from the kill. A worker on the same machine sees that the one that held the leases is gone: the
next one as it starts, one that runs already at its next look for neighbours.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.db.models import Count, Q

from conversations.driver import NEIGHBOURS_EVERY
from conversations.models import DriverHeartbeat, RunStatus
from tests.benchmarks.questions import Questions, make_asker
from tests.benchmarks.table import reached
from tests.benchmarks.upstream import Upstream, running_upstream
from tests.benchmarks.watching import Ends, Watched, wait, watched_worker
from tests.benchmarks.ways import LISTENING, WAYS, Way

TITLE = "Figure 7: a worker killed with -9 at 1,000 runs in flight"
COLUMNS = (
    *("worker", "what goes on", "in flight", "lost", "stored twice", "asked twice upstream"),
    *("goal", "worker up after", "all moving after", "of a processor", "goal"),
)
COUNT = 1000
UPSTREAM_SECONDS = 30.0


def measure(log: Path, scale: float) -> Iterator[Sequence[str]]:
    with running_upstream() as upstream:
        for way in WAYS:
            yield _restart(way, int(COUNT * scale), upstream, log)
        yield _elsewhere(LISTENING, int(COUNT * scale), upstream, log)
    yield ("*Redis redelivery alone*", "by default", "", "", "", "", "", "", "1 h")


def _restart(way: Way, count: int, upstream: Upstream, log: Path) -> Sequence[str]:
    questions = Questions(make_asker(upstream.url, seconds=UPSTREAM_SECONDS, **way.options))
    with Ends(questions.asked) as ends:
        with watched_worker(log) as worker:
            before = _take_up(questions, count, upstream)
            _kill(worker)
        killed = time.monotonic()
        with watched_worker(log) as worker:
            up = time.monotonic()
            with worker.measured() as usage:
                wait(lambda: upstream.stats()["asked_about"] >= count, 60)
            moving = time.monotonic() - up
            ends.wait_for(count, UPSTREAM_SECONDS + 60)
    return (
        *(way.name, "restarted at once", f"{count:,}"),
        *_books(questions, count, upstream.stats()["creates"] - before),
        f"{up - killed:.1f} s",
        f"{moving:.1f} s",
        f"{usage.cpu:.1f} s",
        reached(moving <= 2, "≤ 2 s"),
    )


def _elsewhere(way: Way, count: int, upstream: Upstream, log: Path) -> Sequence[str]:
    questions = Questions(make_asker(upstream.url, seconds=UPSTREAM_SECONDS, **way.options))
    with Ends(questions.asked) as ends, watched_worker(log) as first:
        driver = DriverHeartbeat.objects.get().name
        before = _take_up(questions, count, upstream)
        with watched_worker(log):
            _kill(first)
            killed = time.monotonic()
            wait(lambda: not questions.runs.filter(leased_by=driver).exists(), 60)
            wait(lambda: upstream.stats()["asked_about"] >= count, 60)
            moving = time.monotonic() - killed
            ends.wait_for(count, UPSTREAM_SECONDS + 60)
    return (
        *(way.name, "another worker runs", f"{count:,}"),
        *_books(questions, count, upstream.stats()["creates"] - before),
        "",
        f"{moving:.1f} s",
        "",
        reached(
            moving <= NEIGHBOURS_EVERY + 2, f"≤ {NEIGHBOURS_EVERY:g} s to the next look, and 2 s"
        ),
    )


def _take_up(questions: Questions, count: int, upstream: Upstream) -> int:
    """Have them all under way; returns how many responses the upstream had made before."""
    before = upstream.stats()["creates"]
    questions.ask_many(count)
    under_way = questions.runs.filter(attempts__state__isnull=False)
    wait(lambda: under_way.count() == count, 60)
    upstream.mark()
    return before


def _kill(worker: Watched) -> None:
    os.killpg(worker.pid, signal.SIGKILL)


def _books(questions: Questions, count: int, creates: int) -> Sequence[str]:
    answered = questions.runs.filter(status=RunStatus.COMPLETED)
    answers = answered.annotate(
        answers=Count("messages", filter=Q(messages__role="assistant"), distinct=True)
    )
    lost = count - answers.filter(answers__gte=1).count()
    twice = answers.filter(answers__gt=1).count()
    again = creates - count
    questions.abandon()
    verdict = reached(lost == twice == 0, "0 and 0")
    return (f"{lost}", f"{twice}", f"{again}", verdict)
