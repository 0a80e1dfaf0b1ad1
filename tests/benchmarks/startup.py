"""Figure 8: from exec to ready, and what the embedded stack takes when nobody asks anything.

Web is ready with its first answer, the worker when its driver has claimed a question that was there
before it. Each is the median of five; on a machine that does other things as well, what it took of
a processor tells more. Idle is everything that
`manage.py quickstart` starts, itself included, over twenty seconds.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conversations.management.commands.quickstart import web, web_answers, worker
from conversations.management.ports import reserved_port
from conversations.management.supervisor import Child, Supervisor
from tests.benchmarks.questions import Questions, make_asker
from tests.benchmarks.table import reached
from tests.benchmarks.upstream import running_upstream
from tests.benchmarks.watching import Watched, memory_of

TITLE = "Figure 8: start-up and idle"
COLUMNS = ("what", "measured", "goal", "of it")
TIMES = 5
SETTLE, WINDOW = 10.0, 20.0


def measure(log: Path) -> Iterator[Sequence[str]]:
    yield _seconds("web ready after exec", [_web_ready() for _ in range(TIMES)], 0.8)
    yield _seconds("worker has claimed after exec", _worker_ready(), 1.0)
    yield from _idle(log)
    yield ("*prototypes: web, worker*", "0.4 s, 0.7 s")


@dataclass(frozen=True, order=True)
class Start:
    seconds: float
    cpu: float

    @classmethod
    def since(cls, began: float, child: Child) -> Start:
        assert child.pid is not None
        return cls(time.monotonic() - began, Watched(child.pid).cpu())


def _seconds(name: str, starts: Sequence[Start], most: float) -> Sequence[str]:
    median = statistics.median(start.seconds for start in starts)
    cpu = statistics.median(start.cpu for start in starts)
    every = ", ".join(f"{start.seconds:.2f}" for start in sorted(starts))
    goal = reached(median <= most, f"≤ {most:g} s")
    return (name, f"{median:.2f} s", goal, f"{every}; of a processor {cpu:.2f} s")


def _web_ready() -> Start:
    with reserved_port(8000) as port, Supervisor(print) as supervisor:
        began = time.monotonic()
        supervisor.start(web(port))
        _until(lambda: web_answers(port), supervisor.children[0])
        return Start.since(began, supervisor.children[0])


def _worker_ready() -> list[Start]:
    measured = []
    with running_upstream() as upstream:
        questions = Questions(make_asker(upstream.url, seconds=0.1))
        for _ in range(TIMES):
            questions.ask()
            with Supervisor(print) as supervisor:
                began = time.monotonic()
                supervisor.start(worker())
                _until(lambda: not questions.runs.filter(claims=0).exists(), supervisor.children[0])
                measured.append(Start.since(began, supervisor.children[0]))
    return measured


def _until(holds: Callable[[], bool], child: Child) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"The {child.name} does not start: {child.last_words()}")
        time.sleep(0.005)


def _idle(log: Path) -> Iterator[Sequence[str]]:
    with tempfile.TemporaryDirectory(prefix="assistant-manager-idle-") as folder:
        environment = {**os.environ, "DATA_DIR": folder}
        environment["TEST_DATABASE_NAME"] = f"{folder}/db.sqlite3"
        for name in ("DATABASE_URL", "REDIS_URL"):
            environment.pop(name, None)
        words = [sys.executable, "manage.py", "quickstart", "--port", "8000"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=output, text=True, env=environment
            )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ready in" in line:
                    break
            time.sleep(SETTLE)
            stack = Watched(process.pid)
            with stack.measured() as usage:
                time.sleep(WINDOW)
            parts = [(_name(one.cmdline()), memory_of(one)) for one in stack.processes()]
            memory = sum(size for _, size in parts)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    share = usage.of_a_core
    yield ("idle stack, CPU", f"{share:.1%} of a core", reached(share <= 0.02, "≤ 2%"))
    yield (
        *("idle stack, memory", f"{memory:.0f} MiB", reached(memory <= 250, "≤ 250 MiB")),
        ", ".join(f"{name} {size:.0f}" for name, size in parts),
    )


def _name(command: Sequence[str]) -> str:
    words = " ".join(command)
    known = ("quickstart", "config.worker", "granian", "sandbox", "multiprocessing")
    return next((name for name in known if name in words), command[0] if command else "?")
