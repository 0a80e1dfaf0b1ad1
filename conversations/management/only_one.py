"""One quickstart at a time for one data folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunning(Exception):
    """Another process holds the folder; str() says which, as far as it has said so itself."""


@contextmanager
def only_one(file: Path) -> Iterator[Callable[[str], None]]:
    """Hold `file` locked; yields a function that notes, for the next to come, who we are.

    The kernel drops the lock with the process, however that ends. Raises AlreadyRunning.
    """
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(held.read().strip() or "just starting") from None
        os.set_inheritable(held.fileno(), True)  # for the program we become (`keeper.py`)

        def note(text: str) -> None:
            held.seek(0)
            held.truncate()
            held.write(text)
            held.flush()

        note("")
        yield note
