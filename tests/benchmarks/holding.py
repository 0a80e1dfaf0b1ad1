"""Figures 3 and 5: ten thousand runs in flight in one worker, none of which ends meanwhile.

CPU is that of the whole worker process over the window, Celery's own included; memory is what each
run in flight adds: the worker's memory now less that before, when it had answered a few and was
idle. Pages that processes share count in part. What the kernel keeps for sockets is not in it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.certificates import certificate_in
from tests.benchmarks.questions import Questions, make_asker
from tests.benchmarks.table import reached
from tests.benchmarks.upstream import Upstream, running_upstream
from tests.benchmarks.watching import Ends, wait, watched_worker
from tests.benchmarks.ways import LISTENING, PACE, POLLING, Way

TITLE = "Figures 3 and 5: runs in flight in one worker"
COLUMNS = (
    *("worker", "in flight", "taken up in", "looks/s", "CPU of a core", "goal"),
    *("memory of the worker", "goal", "memory a run", "goal"),
)
POLLED, HELD, HELD_TLS = 10_000, 9_000, 2_000
WINDOW = 12.0
ARRIVALS = 250.0
"""Questions a second until all are there."""
WARM_UP = 50
TAKEN_UP_WITHIN = 150.0


def measure(log: Path, scale: float) -> Iterator[Sequence[str]]:
    with running_upstream() as upstream:
        yield _hold(POLLING, int(POLLED * scale), upstream, log)
        yield _hold(LISTENING, int(HELD * scale), upstream, log)
    with running_upstream(certificate_in(log.parent)) as upstream:
        yield _hold(LISTENING, int(HELD_TLS * scale), upstream, log)
    yield ("*limit: bare aiohttp, no database*", "10,000", "", "3,310", "36%")
    yield ("*prototype*", "10,000", "", "3,290", "43%", "", "93 MiB", "", "2.3 KiB, 38 over TLS")


def _hold(way: Way, count: int, upstream: Upstream, log: Path) -> Sequence[str]:
    few = Questions(make_asker(upstream.url, seconds=0.5, **way.options))
    questions = Questions(make_asker(upstream.url, seconds=3600.0, **way.options))
    over_tls = {"SSL_CERT_FILE": str(upstream.certificate)} if upstream.certificate else {}
    with watched_worker(log, **over_tls) as worker:
        with Ends(few.asked) as ends:
            few.ask_many(WARM_UP)
            if not ends.wait_for(WARM_UP, 60):
                raise SystemExit("The worker does not answer; its log says why.")
        time.sleep(3)
        before = worker.memory()
        upstream.mark()
        began = time.monotonic()
        asking = questions.ask_steadily(ARRIVALS, count / ARRIVALS)
        under_way = questions.runs.filter(attempts__state__isnull=False)
        with contextlib.suppress(SystemExit):  # the row tells how far it came
            wait(lambda: under_way.count() == count, TAKEN_UP_WITHIN)
        asking.join()
        taken_up = time.monotonic() - began
        time.sleep(5)
        looks = upstream.stats()["looks"]
        with worker.measured() as usage:
            time.sleep(WINDOW)
        looks = upstream.stats()["looks"] - looks
        memory = worker.memory()
        in_flight = under_way.filter(status="in_progress").count()
        questions.abandon()  # or the worker would hand ten thousand over
    each = (memory - before) * 1024 / max(1, in_flight)
    polled = way is POLLING
    keeps_up = looks / usage.seconds >= 0.9 * POLLED / PACE
    limit = 4 if polled else 8 if upstream.certificate is None else 50
    name = way.name + (" over TLS" if upstream.certificate else "")
    return (
        *(name, f"{in_flight:,}", f"{taken_up:.0f} s", f"{looks / usage.seconds:,.0f}"),
        f"{usage.of_a_core:.0%}",
        reached(keeps_up and usage.of_a_core <= 0.5, f"≤ 50% for {POLLED / PACE:,.0f} looks/s")
        if polled
        else "",
        f"{memory:.0f} MiB",
        reached(memory <= 150, "≤ 150 MiB") if upstream.certificate is None else "",
        f"{each:.1f} KiB",
        reached(each <= limit, f"≤ {limit} KiB"),
    )
