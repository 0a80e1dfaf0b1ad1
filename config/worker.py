"""The worker of `manage.py quickstart`, as a program: what `celery worker` starts, without Celery's
command line, which brings in twenty other commands and a terminal toolkit for one of them.

The three features left out are for fleets whose members watch each other, and cost a second.
"""

from __future__ import annotations

import sys

from config.celery import app


def main() -> int:
    # Threads, two of them (settings): they take a fifth of prefork's memory.
    worker = app.Worker(
        loglevel="INFO",
        quiet=True,
        beat=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    code: int = worker.exitcode or 0
    return code


if __name__ == "__main__":
    sys.exit(main())
