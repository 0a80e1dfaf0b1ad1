"""The quickstart once everything is up: looks after the children until somebody stops it.

Setting up takes Django, 70 MiB of it; looking after two processes takes the standard library. So
the process becomes this program instead (exec). It stays the same process: parent of its children,
holder of its lock and its port, and what the terminal's Ctrl-C reaches.

    python -m conversations.management.keeper DESCRIPTOR manage.py quickstart

The words after the descriptor are for whoever looks at the list of processes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from conversations.management.stopping import Stopping
from conversations.management.supervisor import Child, Supervisor


def become_keeper(supervisor: Supervisor, stopping: Stopping, *, folder: Path) -> None:
    """Go on as a keeper that runs in `folder`. Returns only where a stop has been asked for.

    Handlers do not survive an exec, but what is blocked waits for the new program, so no signal is
    lost in between. To be called when no other thread is left: one could still take a signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, Stopping.SIGNALS)
    try:
        if not stopping.asked:
            _exec(supervisor, folder)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exec(supervisor: Supervisor, folder: Path) -> NoReturn:
    told = json.dumps([child.handed_over() for child in supervisor.children])
    reading, writing = os.pipe()
    os.write(writing, told.encode())
    os.close(writing)
    os.set_inheritable(reading, True)
    os.chdir(folder)
    words = [sys.executable, "-m", "conversations.management.keeper", str(reading), *sys.argv]
    os.execv(sys.executable, words)  # noqa: S606 - our own command line


def main() -> None:
    with os.fdopen(int(sys.argv[1])) as told:
        children = [Child.adopted(each) for each in json.load(told)]
    with Stopping() as stopping, Supervisor(_say) as supervisor:
        supervisor.children += children
        signal.pthread_sigmask(signal.SIG_UNBLOCK, Stopping.SIGNALS)
        while not stopping.asked:
            supervisor.tend()
            time.sleep(0.1)
        _say("\nStopping.")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
