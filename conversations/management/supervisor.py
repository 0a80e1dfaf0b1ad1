"""Keeps a few processes running: starts them, restarts those that die, stops them all.

Knows nothing of what they are. Each child leads its own session, so that Ctrl-C in a terminal
reaches the supervisor alone, and is told to stop by the end of its standard input (`child.py`).
The standard library is all it imports, so that watching costs little memory (`keeper.py`).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from conversations.management.child import GRACE_SECONDS

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds before a dead child is started again: doubled each time, up to this."""
STEADY_AFTER = 60.0
"""A child that has lived this many seconds is forgiven its earlier deaths."""
LOG_LIMIT = 5_000_000
"""Bytes of a log beyond which the next start begins a new one and keeps the old as `.1`."""


class Adopted:
    """A child that the program started which this process was before: as much of Popen as it takes."""

    def __init__(self, pid: int, stdin: int) -> None:
        os.set_inheritable(stdin, False)
        self.pid = pid
        self.stdin = os.fdopen(stdin, "wb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the system was told to forget how children end
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = math.inf) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return code


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
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._folder = folder
        self._process: subprocess.Popen[bytes] | Adopted | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE
        self._again_at: float | None = None

    @classmethod
    def adopted(cls, told: Mapping[str, Any]) -> Self:
        """The child that `handed_over` described, in the program this process has become."""
        child = cls(
            told["name"],
            told["arguments"],
            folder=Path(told["folder"]),
            log=Path(told["log"]),
            environment=told["environment"],
        )
        child._started, child._pause = told["started"], told["pause"]
        child._again_at = told["again_at"]
        if told["pid"] is not None:
            child._process = Adopted(told["pid"], told["stdin"])
        return child

    def handed_over(self) -> dict[str, Any]:
        """All there is to know, as JSON can carry it. Keeps the child's standard input open for
        the program that this process is about to become."""
        stdin = None
        if self._process is not None and self._process.stdin is not None:
            stdin = self._process.stdin.fileno()
            os.set_inheritable(stdin, True)
        return {
            "name": self.name,
            "arguments": self._arguments,
            "folder": str(self._folder),
            "log": str(self.log),
            "environment": self._environment,
            "started": self._started,
            "pause": self._pause,
            "again_at": self._again_at,
            "pid": self.pid,
            "stdin": stdin,
        }

    @property
    def pid(self) -> int | None:
        """None while it is not running."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        self._started, self._again_at = time.monotonic(), None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "conversations.management.child", *self._arguments],
                cwd=self._folder,
                env=os.environ | self._environment,
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

    def _bury(self, process: subprocess.Popen[bytes] | Adopted) -> None:
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
