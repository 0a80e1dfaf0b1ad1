"""Runs another module in this process, and goes when the parent goes.

    python -m conversations.management.child celery -A config.celery worker

The parent holds the other end of our standard input. Its end of file means "stop", whether the
parent asked for it or was killed outright; no signal has to reach us, and no process is left.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 8.0
"""How long a child may take to stop in an orderly way; Celery takes up to five."""


def _stop_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    # We lead our own session, so this takes along whatever we started, and nobody else.
    os.killpg(os.getpid(), signal.SIGKILL)


def main() -> None:
    module = sys.argv[1]
    threading.Thread(target=_stop_with_parent, name="stop-with-parent", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
