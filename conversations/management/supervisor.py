"""Keeps a few processes running: starts them, restarts those that die, stops them all.

Knows nothing of what they are. Each child leads its own session, so that Ctrl-C in a terminal
reaches the supervisor alone, and is told to stop by the end of its standard input (`child.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from conversations.management.child import GRACE_SECONDS

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds before a dead child is started again: doubled each time, up to this."""
STEADY_AFTER = 60.0
"""A child that has lived this many seconds is forgiven its earlier deaths."""
LOG_LIMIT = 5_000_000
"""Bytes of a log beyond which the next start begins a new one and keeps the old as `.1`."""


class Child:
    """A Python module running as a process, its output in `log`.

    `environment` is added to our own.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._command = [sys.executable, "-m", "conversations.management.child", *arguments]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE
        self._again_at: float | None = None

    @property
    def pid(self) -> int | None:
        """None while it is not running."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        self._started, self._again_at = time.monotonic(), None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def tend(self, now: float) -> str | None:
        """Notice a death and start again when it is time; returns what there is to say."""
        if self._process is None:
            if self._again_at is not None and now >= self._again_at:
                self.start()
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._bury(self._process)
        if now - self._started > STEADY_AFTER:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._again_at = now + pause
        return f"The {self.name} {_ending(code)}; starting it again in {pause:g} s."

    def ask_to_stop(self) -> None:
        self._again_at = None
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Wait for the end that was asked for; after `seconds` it is not optional."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(seconds, 0))
        self._bury(self._process)

    def last_words(self, lines: int = 15) -> str:
        """The end of the log, for a person."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        """Kill what is left of its session: a server's own workers may outlive it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        process.wait()
        self._process = None


class Supervisor:
    """Children started one by one, looked after together, all stopped at the end of `with`.

    `say` is handed each line worth a person's attention.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.children: list[Child] = []
        self._say = say

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, child: Child) -> None:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        if child.log.exists() and child.log.stat().st_size > LOG_LIMIT:
            child.log.replace(child.log.with_suffix(".log.1"))
        child.start()
        self.children.append(child)

    def tend(self) -> None:
        for child in self.children:
            news = child.tend(time.monotonic())
            if news:
                self._say(news)

    def stop(self) -> None:
        """Stop all children; returns within seconds, whatever they do."""
        for child in self.children:
            child.ask_to_stop()
        deadline = time.monotonic() + GRACE_SECONDS + 1
        for child in self.children:
            child.wait(deadline - time.monotonic())


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"stopped with exit code {code}"
