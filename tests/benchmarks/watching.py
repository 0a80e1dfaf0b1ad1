"""The ends of runs, seen from outside as soon as they are committed, and processes at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.db import connection
from django.db.models import Max

from conversations.models import DriverHeartbeat, Run, RunAttempt, RunEvent
from tests.benchmarks.upstream import done_at, made_at
from tests.processes import WORKER, running

INTERVAL = 0.003
"""Seconds between two looks for new ends: how late one may be noticed."""
ENDS = {f"thread.run.{name}" for name in ("completed", "failed", "expired", "incomplete")}
STRAGGLERS = 500
"""Events that may become visible after one with a higher key."""


class Ends:
    """When each of the runs in `asked` was seen to have ended, by its key, while the block runs."""

    def __init__(self, asked: Container[int]) -> None:
        self._asked = asked
        self.seen: dict[int, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watching")

    def __enter__(self) -> Ends:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def wait_for(self, count: int, seconds: float) -> bool:
        """Whether that many have ended before the time is up."""
        deadline = time.monotonic() + seconds
        while len(self.seen) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return len(self.seen) >= count

    def _watch(self) -> None:
        last = RunEvent.objects.aggregate(last=Max("pk"))["last"] or 0
        first, version = last, None
        while not self._stopping.wait(INTERVAL):
            if connection.vendor == "sqlite":
                with connection.cursor() as cursor:
                    cursor.execute("PRAGMA data_version")
                    before, version = version, cursor.fetchone()
                if version == before:
                    continue
            since = max(first, last - (STRAGGLERS if connection.vendor != "sqlite" else 0))
            events = list(
                RunEvent.objects.filter(pk__gt=since)
                .order_by("pk")
                .values_list("pk", "run_id", "type")
            )
            now = time.time()
            for _, run, type in events:
                if type in ENDS and run in self._asked:
                    self.seen.setdefault(run, now)
            last = events[-1][0] if events else last
        connection.close()


def added_seconds(asked: dict[int, float], seen: dict[int, float]) -> list[float]:
    """What came on top of the upstream's own time, for each run that has ended: from its commit
    until the upstream had it, and from the upstream's end until ours was committed."""
    started = RunAttempt.objects.filter(run__in=Run.objects.filter(pk__gte=min(asked)))
    ids = dict(started.exclude(upstream_id="").values_list("run_id", "upstream_id"))
    return [
        (made_at(id) - asked[run]) + (seen[run] - done_at(id))
        for run, id in ids.items()
        if run in seen and run in asked
    ]


@dataclass(slots=True)
class Usage:
    """What a process and its children have taken in a while."""

    cpu: float = 0.0
    seconds: float = 0.0

    @property
    def of_a_core(self) -> float:
        return self.cpu / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Watched:
    """A process with its children."""

    pid: int

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())

    def memory(self) -> float:
        """MiB; where the system can tell, pages shared with others count in part."""
        return sum(memory_of(process) for process in self.processes())

    def descriptors(self) -> int:
        return sum(process.num_fds() for process in self.processes())

    @contextmanager
    def measured(self) -> Iterator[Usage]:
        usage, before, since = Usage(), self.cpu(), time.monotonic()
        yield usage
        usage.cpu, usage.seconds = self.cpu() - before, time.monotonic() - since


def memory_of(process: psutil.Process) -> float:
    """MiB."""
    full: Any = process.memory_full_info()
    return float(getattr(full, "pss", 0) or full.rss) / 2**20


@contextmanager
def watched_worker(log: Path, **environment: str) -> Iterator[Watched]:
    """A worker with room for all, once its driver is at work."""
    DriverHeartbeat.objects.all().delete()
    with running(WORKER, log, **{"DRIVER_CAPACITY": "12000", **environment}) as process:
        wait(lambda: DriverHeartbeat.objects.exists(), 60)
        yield Watched(process.pid)


def wait(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("The worker does not keep up; its log says why.")
        time.sleep(0.1)
