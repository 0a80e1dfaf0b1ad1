"""How long a driver waits, for what, and what it sees through before it lets go."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from django.db import DataError, Error, IntegrityError

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE = 0.01
"""Seconds between two looks at an engine that would have none, or at the table."""
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait after the n-th failure in a row."""
CANCEL_WITHIN = 10.0
"""Seconds an upstream has to take a cancel, or a start that was interrupted; the run goes its
way in any case."""
DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
"""What an operator can mend while the run waits."""


def back_off(failures: int) -> float:
    return BACK_OFF[min(failures, len(BACK_OFF)) - 1]


def may_pass(error: Exception) -> bool:
    """Whether the same may succeed later: the database is away, or the disk is full. What the
    database refuses to store it would refuse for ever."""
    if isinstance(error, OSError):
        return error.errno in DISK_TROUBLE
    return isinstance(error, Error) and not isinstance(error, DataError | IntegrityError)


async def let_go(before: asyncio.Task[None]) -> None:
    """Wait for an earlier care to let go; an engine that does not is left behind.

    Whoever is dropped here waits all the same: the next one only waits for its end, and would
    take the run up beside a start that is still being seen through.
    """
    try:
        await asyncio.wait([before], timeout=CANCEL_WITHIN)
    except asyncio.CancelledError:
        await asyncio.wait([before], timeout=CANCEL_WITHIN)
        raise


async def seen_through(start: Coroutine[Any, Any, T]) -> T:
    """`start`, until it is recorded: whoever interrupts must not leave behind an answer upstream
    that nobody knows of."""
    task = asyncio.create_task(start)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=CANCEL_WITHIN)
        if not task.done():
            task.cancel()
        elif not task.cancelled() and (error := task.exception()) is not None:
            logger.info("An interrupted start came to nothing: %s", error)
        raise
