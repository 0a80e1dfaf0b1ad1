"""What every driver may start at a connection, so that its limits hold for all of them together.

In Redis where there is one, else in the database. Nothing is given that others may hold: a
driver's part comes back to the others when it says so, or once its lease has lapsed.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from django.conf import settings
from django.db import Error, close_old_connections, connections

from assistant_manager.engines.allotments import Ask, Share, SharesUnknown
from conversations.shares.by_database import DatabaseShares

logger = logging.getLogger(__name__)


class Books(Protocol):
    def settle(self, ask: Ask) -> Share:
        """Raises SharesUnknown, or an Error of the database."""
        ...


class DriverShares:
    """The part of one driver. Its calls have a thread of their own: a store that hangs must keep
    nothing else from the database."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._books: Books | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="driver-limits")

    async def settle(self, ask: Ask) -> Share:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._settle, ask)

    async def close(self) -> None:
        if self._books is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown(wait=False)

    def _settle(self, ask: Ask) -> Share:
        try:
            if self._books is None:
                self._books = _open(self._driver)
            return self._books.settle(ask)
        except SharesUnknown as error:
            logger.warning("%s (%s)", error, error.__cause__)
            raise
        except Error as error:
            close_old_connections()
            why = "Limits cannot be checked: the database does not answer."
            logger.warning("%s (%s)", why, error)
            raise SharesUnknown(why) from error
        except Exception as error:
            logger.exception("Limits cannot be checked")
            raise SharesUnknown("Limits cannot be checked; the worker's log says why.") from error


def _open(driver: str) -> Books:
    if settings.REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
        # Only here, or the Redis client would be loaded where there is no Redis.
        from conversations.shares.by_redis import RedisShares

        return RedisShares(driver)
    return DatabaseShares(driver)
