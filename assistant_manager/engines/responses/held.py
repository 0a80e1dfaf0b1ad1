"""The streams that this process holds open between two looks, and how many it may hold."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from assistant_manager.engines.responses.listening import Ear

FORGOTTEN_AFTER = 60.0
"""Seconds after which nobody will come back for a stream: its run went on elsewhere."""
RESERVE = 512
"""Files and sockets of the process that are left for everything else."""
FILES_AT_MOST = 65_536
WITHOUT_LIMITS = 256
"""Streams where the system does not say how many files a process may have open: on Windows."""


class Held:
    """Ears by the key of their attempt. Used on one event loop."""

    def __init__(self) -> None:
        self._ears: dict[str, Ear] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._most = room()

    def __len__(self) -> int:
        return len(self._ears)

    @property
    def has_room(self) -> bool:
        return len(self._ears) < self._most

    def make_room(self) -> None:
        allow_many_files()
        self._most = room()

    def has(self, key: str) -> bool:
        return key in self._ears

    def keep(self, key: str, ear: Ear) -> None:
        """Until the next look; closed if there is none."""
        if self._ears.get(key) is not ear:
            self.drop(key)
        self._ears[key] = ear
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(FORGOTTEN_AFTER, self.drop, key)

    def take(self, key: str) -> Ear | None:
        """For a look; it is still counted, and to be kept or dropped afterwards."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        return self._ears.get(key)

    def drop(self, key: str) -> None:
        if ear := self.take(key):
            del self._ears[key]
            ear.close()

    def close(self) -> None:
        for key in list(self._ears):
            self.drop(key)


def allow_many_files() -> None:
    """Have the system let this process open as many files as it may at all."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES_AT_MOST if hard == resource.RLIM_INFINITY else min(hard, FILES_AT_MOST)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room() -> int:
    """How many streams this process may hold."""
    try:
        import resource
    except ImportError:
        return WITHOUT_LIMITS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES_AT_MOST if soft == resource.RLIM_INFINITY else soft
    return max(files - RESERVE, files // 4)
