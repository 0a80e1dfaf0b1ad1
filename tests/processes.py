"""Starting the real worker and web server, on the database of whoever starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

WORKER = (
    *("celery", "--quiet", "-A", "config.celery", "worker"),
    *("--pool", "threads", "--concurrency", "2", "--loglevel", "WARNING"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)


def start(module: Sequence[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """`python -m` these words, with the tests' settings; what it says goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TEST_DATABASE_NAME": str(connection.settings_dict["NAME"]),
                "DATA_DIR": str(settings.DATA_DIR),
                "C_FORCE_ROOT": "1",
                **environment,
            },
        )


def start_worker(log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A Celery worker with its driver."""
    return start(WORKER, log, **environment)


@contextmanager
def running(
    module: Sequence[str], log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The process for the length of a block; told to stop at the end, and made to if it does not."""
    process = start(module, log, **environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
