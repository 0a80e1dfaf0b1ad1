"""Watching the database for changes that other processes make."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import DatabaseError, connection, connections

from conversations.nudges import CHANNEL

logger = logging.getLogger(__name__)

SQLITE_INTERVAL = 0.02
"""Seconds between two looks at SQLite's change counter; a look costs a few microseconds."""
RECONNECT_AFTER = 1.0


class TableWatch:
    """Calls `changed`, from a thread of its own, soon after another connection has committed.

    `channel` is where PostgreSQL is told of them. A missed change is no harm: whoever watches looks
    at the tables each second in any case.
    """

    def __init__(self, changed: Callable[[], object], channel: str = CHANNEL) -> None:
        self._changed = changed
        self._channel = channel
        self._stopping = threading.Event()
        watch = self._listen if connection.vendor == "postgresql" else self._count
        self._thread = threading.Thread(
            target=self._run, args=(watch,), name="table-watch", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=2)

    def _run(self, watch: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                watch()
            except DatabaseError as error:
                logger.warning("The database cannot be watched just now: %s", error)
                self._stopping.wait(RECONNECT_AFTER)
            finally:
                connections["default"].close()

    def _count(self) -> None:
        """SQLite keeps a counter of the commits of other connections."""
        seen = None
        with connection.cursor() as cursor:
            while not self._stopping.wait(SQLITE_INTERVAL):
                cursor.execute("PRAGMA data_version")
                version = cursor.fetchone()
                if version != seen:
                    seen = version
                    self._changed()

    def _listen(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {self._channel}")
        while not self._stopping.is_set():
            with connection.wrap_database_errors:
                for _ in connection.connection.notifies(timeout=0.5, stop_after=1):
                    self._changed()
