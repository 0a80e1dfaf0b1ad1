"""A Redis that forgets what drivers hold, or cannot be reached for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pytest_django import Settings

from assistant_manager.engines.allotments import SharesUnknown
from assistant_manager.models import Connection
from conversations.shares import by_redis
from conversations.shares.by_redis import RedisShares
from tests.conversations.driving import wait_for
from tests.conversations.test_shares import (
    LONG,
    ask,
    connection,
    forget,
    nobody_is_hurried,
    places_of,
    places_of_one_alive,
)

__all__ = ["connection", "nobody_is_hurried"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_redis_that_has_forgotten_all_gives_nothing_before_all_have_spoken(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_redis, "COMPLETE_AFTER", LONG)
    forget(connection)
    first, second = RedisShares("a"), RedisShares("b")
    with pytest.raises(SharesUnknown, match="only just come back"):
        second.settle(ask(connection, places=3))
    with pytest.raises(SharesUnknown):
        first.settle(ask(connection, 2, places=1))
    monkeypatch.setattr(by_redis, "COMPLETE_AFTER", 0.1)
    wait_for(lambda: places_of(second, ask(connection, places=3)) > 0)
    assert places_of(second, ask(connection, places=3)) == 1


def test_a_driver_that_went_on_alone_lets_the_others_speak_first_when_redis_is_back(
    connection: Connection, settings: Settings
) -> None:
    settings.DRIVER_LEASE_SECONDS = 0.3
    forget(connection, born_at=1.0)
    books = RedisShares("a")
    with cut_off(books):
        wait_for(lambda: places_of_one_alive(books, ask(connection, places=1)) == 1)
        back_at = time.monotonic()
    with pytest.raises(SharesUnknown, match="only just come back"):
        books.settle(ask(connection, 1, places=1))
    wait_for(lambda: places_of(books, ask(connection, 1, places=1)) == 2)
    assert time.monotonic() - back_at > by_redis.COMPLETE_AFTER


@contextmanager
def cut_off(books: RedisShares) -> Iterator[None]:
    """Redis cannot be reached."""
    pool = books._redis.connection_pool
    port, pool.connection_kwargs["port"] = pool.connection_kwargs["port"], 1
    pool.reset()
    try:
        yield
    finally:
        pool.connection_kwargs["port"] = port
        pool.reset()
