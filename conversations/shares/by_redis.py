"""Books in Redis, written only where nobody has written since they were read, by Redis' clock.

Where Redis stays away for longer than a lease, so that those who reach it have forgotten us, each
driver goes on with its equal part of the limits.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from typing import cast

from django.conf import settings
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from assistant_manager.engines.allotments import Ask, Share, SharesUnknown
from conversations.shares.book import Book
from conversations.shares.parts import part_of

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 1.0
"""Seconds for Redis, which needs a thousandth of one."""
TRIES = 50
COMPLETE_AFTER = 2.0
"""Seconds until all who hold something have said so, to a Redis that has forgotten or missed it."""
KEPT_FOR = 24 * 3600
"""Seconds after the last change: nobody has held anything for long."""
KNOWN_FOR = 30 * KEPT_FOR
"""Seconds after the last question until Redis counts as new again."""

READ = """
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
redis.call('SET', KEYS[2], now, 'NX')
redis.call('EXPIRE', KEYS[2], ARGV[1])
return {now, redis.call('GET', KEYS[2]), redis.call('GET', KEYS[1]) or ''}
"""
WRITE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class RedisShares:
    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._redis = Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=ANSWER_WITHIN,
            socket_connect_timeout=ANSWER_WITHIN,
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
        self._read = self._redis.register_script(READ)
        self._write = self._redis.register_script(WRITE)
        self._answered_at = time.monotonic()
        self._complete_at = 0.0
        self._alone: dict[int, Book] = {}

    def settle(self, ask: Ask) -> Share:
        now = time.monotonic()
        try:
            share, is_complete = self._settle(ask)
        except RedisError as error:
            if now - self._answered_at < settings.DRIVER_LEASE_SECONDS:
                why = "Limits cannot be checked: Redis does not answer."
                raise SharesUnknown(why) from error
            if ask.connection not in self._alone:
                logger.warning("On our own with an equal part of the limits: %s", error)
            return self._settle_alone(ask, now)
        self._answered_at = now
        if self._alone:
            # The others may have gone on alone as well, and have to say first what they hold.
            self._alone.clear()
            self._complete_at = now + COMPLETE_AFTER
        if not is_complete or now < self._complete_at:
            raise SharesUnknown("Limits cannot be checked yet: Redis has only just come back.")
        return share

    def _settle(self, ask: Ask) -> tuple[Share, bool]:
        """What there is to be had, and whether the books can be complete."""
        key, born_key = self._key(str(ask.connection)), self._key("born")
        lease = settings.DRIVER_LEASE_SECONDS
        for _ in range(TRIES):
            read = cast(list[str], self._read(keys=[key, born_key], args=[KNOWN_FOR]))
            now, born, text = float(read[0]), float(read[1]), read[2]
            is_complete = not 0 <= now - born < COMPLETE_AFTER
            if not is_complete:
                ask = replace(ask, places=0, starts=0, spare=0)
            book = Book.read(text) if text else Book.new(now, full=is_complete)
            share = book.settle(self._driver, ask, now=now, lease=lease)
            if self._write(keys=[key], args=[text, book.write(), KEPT_FOR]):
                return share, is_complete
            time.sleep(random.uniform(0, 0.01))  # noqa: S311 (no secret)
        raise RedisError(f"{key} changes too fast.")

    def _settle_alone(self, ask: Ask, now: float) -> Share:
        mine = replace(ask, limits=part_of(ask.limits, ask.connection, driver=self._driver))
        book = self._alone.setdefault(ask.connection, Book.new(now, full=False))
        return book.settle(self._driver, mine, now=now, lease=settings.DRIVER_LEASE_SECONDS)

    def _key(self, name: str) -> str:
        return f"{settings.REDIS_PREFIX}:limits:{name}"
