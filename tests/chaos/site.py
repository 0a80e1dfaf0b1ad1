"""Two workers, an upstream, a broker and a database that can each be disturbed."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

from django.conf import settings
from django.db import connection

from conversations.models import DriverHeartbeat
from tests.chaos.disturbances import WORKERS, Disturbance, Kind
from tests.chaos.relay import Relay
from tests.processes import start_worker

Worker: TypeAlias = "subprocess.Popen[bytes]"

LEASE = 1.5
ADOPTION = 10.0
STOPS_WITHIN = 120
"""Seconds; five at most are meant, on a quiet machine."""
LIFETIME = 3600
"""Seconds of a run: however slow the machine, no run is to expire here."""


def unavailable() -> set[Kind]:
    """What cannot go wrong with this database and this broker."""
    missing: set[Kind] = set()
    if connection.vendor != "postgresql":
        missing.add("cut_database")
    if not settings.REDIS_URL:
        missing.add("cut_broker")
    return missing


class Site:
    def __init__(self, log: Path, upstream: Relay, webhooks: Relay, broker: Relay | None) -> None:
        self.log = log
        self._upstream, self._webhooks, self._broker = upstream, webhooks, broker
        self._workers = [self._start() for _ in range(WORKERS)]
        self._later: list[tuple[float, Relay]] = []
        self._frozen: list[threading.Timer] = []

    def disturb(self, event: Disturbance) -> None:
        """Do it, but for cancelling a run, which clients do."""
        worker = self._workers[event.worker]
        match event.kind:
            case "kill":
                self._end(worker, signal.SIGKILL)
                self._workers[event.worker] = self._start()
            case "stop":
                worker.send_signal(signal.SIGTERM)
                self._workers[event.worker] = self._start()
                self._end(worker, signal.SIGTERM)
            case "freeze":
                self._freeze(worker, LEASE + event.seconds)
            case "cut_upstream":
                self._upstream.cut()
            case "upstream_away":
                self._send_away(self._upstream, event.seconds)
            case "webhooks_away":
                self._send_away(self._webhooks, event.seconds)
            case "cut_broker":
                assert self._broker is not None
                self._broker.cut()
            case "cut_database":
                cut_sessions()

    def is_ready(self, event: Disturbance) -> bool:
        """Whether the worker it is about is at work: to kill one that is being started proves
        little."""
        worker = self._workers[event.worker]
        return DriverHeartbeat.objects.filter(name__contains=f":{worker.pid}:").exists()

    def mend(self) -> None:
        """Bring back what has been away for as long as it was to be."""
        now = time.monotonic()
        for at, line in self._later:
            if at <= now:
                line.come_back()
        self._later = [entry for entry in self._later if entry[0] > now]
        for worker in self._workers:
            assert worker.poll() is None, f"a worker ended by itself: {worker.returncode}"

    @property
    def is_whole(self) -> bool:
        return not self._later and not any(timer.is_alive() for timer in self._frozen)

    def stop(self) -> None:
        """Tell all workers to stop; they must."""
        for _, line in self._later:
            line.come_back()
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            self._end(worker, signal.SIGTERM)

    def kill(self) -> None:
        """Leave nothing behind."""
        for timer in self._frozen:
            timer.cancel()
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    def _start(self) -> Worker:
        through = {"REDIS_URL": self._broker.url} if self._broker is not None else {}
        times = {
            "DRIVER_LEASE_SECONDS": str(LEASE),
            "ADOPTION_SECONDS": str(ADOPTION),
            "RUN_LIFETIME_SECONDS": str(LIFETIME),
        }
        return start_worker(self.log, **times, **through)

    def _end(self, worker: Worker, how: signal.Signals) -> None:
        worker.send_signal(signal.SIGCONT)
        worker.send_signal(how)
        worker.wait(timeout=STOPS_WITHIN)

    def _freeze(self, worker: Worker, seconds: float) -> None:
        """For so long, whatever happens here: frozen within a transaction it may hold the file of
        the database, for which this very process then waits."""
        worker.send_signal(signal.SIGSTOP)
        timer = threading.Timer(seconds, worker.send_signal, (signal.SIGCONT,))
        timer.daemon = True
        timer.start()
        self._frozen.append(timer)

    def _send_away(self, line: Relay, seconds: float) -> None:
        line.leave()
        self._later.append((time.monotonic() + seconds, line))


def cut_sessions() -> None:
    """End every session of this database but our own, as a failing server would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@contextmanager
def site(log: Path, upstream: Relay, webhooks: Relay) -> Iterator[Site]:
    with ExitStack() as lines:
        broker = lines.enter_context(Relay(settings.REDIS_URL)) if settings.REDIS_URL else None
        running = Site(log, upstream, webhooks, broker)
        try:
            yield running
        finally:
            running.kill()
