"""A real quickstart as a process of its own, as a person would start it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg

ROOT = Path(__file__).resolve().parents[2]
MANAGE = [sys.executable, str(ROOT / "manage.py")]
PATIENCE = 60.0
"""Seconds for whatever is done in one or two: a busy machine stalls."""


class Site:
    """Reads what the quickstart printed, up to the line that says it is ready."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.environment = environment
        self.process = subprocess.Popen(
            [*MANAGE, "quickstart", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = ""
        try:
            self._read_until("Ready in")
        except BaseException:
            self.close()
            raise

    def _read_until(self, words: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.printed += line
            if words in line:
                return
        raise AssertionError(f"The quickstart ended before “{words}”:\n{self.printed}")

    def said(self, pattern: str) -> str:
        found = re.search(pattern, self.printed)
        assert found, self.printed
        return found.group(1)

    @property
    def url(self) -> str:
        parts = urlsplit(self.said(r"Open +(\S+)"))
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def key(self) -> str:
        return self.said(r"Key +(\S+)")

    @property
    def seconds_to_ready(self) -> float:
        return float(self.said(r"Ready in ([\d.]+) s"))

    def family(self) -> list[psutil.Process]:
        """Every process below the quickstart, sandboxes included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, module: str) -> psutil.Process:
        """The process that runs `module`, granian or config.worker."""
        for process in psutil.Process(self.process.pid).children():
            if module in process.cmdline():
                return process
        raise LookupError(module)

    def stop(self, with_signal: int = signal.SIGINT) -> int:
        self.process.send_signal(with_signal)
        rest, _ = self.process.communicate(timeout=PATIENCE)
        self.printed += rest
        return self.process.returncode

    def close(self) -> None:
        """Leave nothing, however the test ended."""
        try:
            if self.process.poll() is None:
                self.stop(signal.SIGTERM)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MANAGE, *arguments], env=environment, capture_output=True, text=True, timeout=240
    )


def eventually(true: Callable[[], bool], within: float = PATIENCE) -> bool:
    """Whether it became true within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return true()


def all_gone(processes: list[psutil.Process]) -> bool:
    """None of them runs any more; one that nobody has collected yet counts as gone."""
    return not any(_alive(process) for process in processes)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def fresh_environment(data: Path) -> Iterator[dict[str, str]]:
    """The environment of a machine that has never seen the project: its own data folder and,
    where the suite runs on PostgreSQL, its own database."""
    name = f"quickstart_{uuid.uuid4().hex[:12]}"
    environment = {
        **os.environ,
        "DATA_DIR": str(data),
        "REDIS_PREFIX": name,  # else another quickstart takes its tasks, and does not know its rows
        "DRIVER_LEASE_SECONDS": "30",  # a worker that stalls for a while is not to count as gone
        "PYTHONWARNINGS": "default",
    }
    environment.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
    server = os.environ.get("DATABASE_URL", "")
    if not server:
        yield environment
        return
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        try:
            yield {**environment, "DATABASE_URL": urlsplit(server)._replace(path=name).geturl()}
        finally:
            assert eventually(lambda: dropped(name, connection)), f"{name} is still in use"


def dropped(name: str, connection: psycopg.Connection) -> bool:
    """A server under load may take longer to end the sessions than DROP is ready to wait for."""
    try:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]
    except psycopg.errors.ObjectInUse:
        return False
    return True
