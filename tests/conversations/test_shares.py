"""Limits across processes: the books in Redis and in the database, and drivers that share them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from assistant_manager.engines.allotments import KEEP_FOR, Ask, Limits, Share, SharesUnknown
from assistant_manager.models import Connection, Model
from assistant_manager.secrets import Secret
from conversations import ledger
from conversations.driver import Driver
from conversations.models import Run, RunAttempt, RunStatus
from conversations.services import runs
from conversations.shares import Books, DriverShares, by_redis
from conversations.shares.by_database import DatabaseShares
from conversations.shares.by_redis import RedisShares
from conversations.shares.parts import part_of
from tests.conversations.driving import PATIENCE, wait_for
from tests.factories import make_assistant, make_run
from tests.fakes.upstream.running import Upstream
from tests.processes import start_worker

pytestmark = pytest.mark.django_db(transaction=True)

LONG = 600.0
"""Seconds: a lease that no test outlives, however slow the machine."""
A_TICK = 0.01
"""Seconds; the clock of SQLite counts thousandths, whole ones."""
OFTEN = 30
"""Turns of each driver, of those that ask at the same moment: many a second are usual."""
NOBODY = "redis://127.0.0.1:1/0"
KINDS: dict[str, Callable[[str], Books]] = {"database": DatabaseShares}
if configured.REDIS_URL:
    KINDS["redis"] = RedisShares


@pytest.fixture(autouse=True)
def nobody_is_hurried(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease lapses, and no store is given up, but where a test wants it."""
    settings.DRIVER_LEASE_SECONDS = LONG
    monkeypatch.setattr(by_redis, "ANSWER_WITHIN", 60.0)


@pytest.fixture
def connection(transactional_db: None, upstream: Upstream) -> Connection:
    """Every model leads to the fake's Responses API."""
    connection = Connection.objects.create(
        name="Vendor",
        kind="responses",
        base_url=f"{upstream.url}/v1",
        key_1=Secret("sk-first-000000001111"),
        options={"poll_seconds": 0.05},
    )
    Model.objects.update(connection=connection)
    return connection


@pytest.fixture(params=KINDS)
def books_of(
    request: pytest.FixtureRequest, connection: Connection
) -> Iterator[Callable[[str], Books]]:
    """What one driver sees of the books; empty at first, in a store that is long known."""
    if request.param == "redis":
        forget(connection, born_at=1.0)
    yield KINDS[request.param]
    connections.close_all()


def forget(connection: Connection, *, born_at: float | None = None) -> None:
    """Empty the books in Redis; None: it does not even know that it had any."""
    redis: Redis = Redis.from_url(configured.REDIS_URL)
    redis.delete(_key(str(connection.pk)), _key("born"))
    if born_at is not None:
        redis.set(_key("born"), born_at)
    redis.close()


def _key(name: str) -> str:
    return f"{configured.REDIS_PREFIX}:limits:{name}"


def ask(connection: Connection, inside: int = 0, *, at_once: int | None = 3, **more: Any) -> Ask:
    return Ask(connection.pk, Limits(at_once, more.pop("per_minute", None)), inside, **more)


# --- the books --------------------------------------------------------------------------


def test_what_one_driver_holds_is_not_given_to_another(
    books_of: Callable[[str], Books], connection: Connection
) -> None:
    assert books_of("a").settle(ask(connection, places=2)).places == 2
    share = books_of("b").settle(ask(connection, places=2))
    assert (share.places, share.contested) == (1, False)
    assert books_of("a").settle(ask(connection, 2)).contested
    assert books_of("a").settle(ask(connection, 0)).places == 0
    assert books_of("b").settle(ask(connection, 1, places=1)).places == 2


def test_each_connection_has_a_book_of_its_own(
    books_of: Callable[[str], Books], connection: Connection
) -> None:
    other = Connection.objects.create(name="Other", kind="embedded")
    assert books_of("a").settle(ask(connection, places=3)).places == 3
    assert books_of("b").settle(ask(other, places=3)).places == 3


def test_what_a_dead_driver_holds_comes_back_soon_after_its_lease_has_lapsed(
    books_of: Callable[[str], Books], connection: Connection, settings: Settings
) -> None:
    books = books_of("alive")
    books_of("dead").settle(ask(connection, places=3))
    assert books.settle(ask(connection, places=3)).places == 0
    settings.DRIVER_LEASE_SECONDS = 0.5
    began = time.monotonic()
    books_of("dead").settle(ask(connection, 3))
    wait_for(lambda: books.settle(ask(connection, places=3)).places == 3)
    assert time.monotonic() - began > 0.5 + KEEP_FOR - A_TICK


def test_starts_are_counted_for_all_drivers_together(
    books_of: Callable[[str], Books], connection: Connection
) -> None:
    drivers = [books_of("a"), books_of("b")]
    began = time.monotonic()
    given = 0
    while given < 20 + 3:
        for books in drivers:
            given += books.settle(ask(connection, at_once=None, starts=9, per_minute=240)).starts
    passed = time.monotonic() - began
    assert given <= 20 + 4 * (passed + A_TICK), "the burst, and four a second"


def test_starts_that_were_not_used_can_be_given_back(
    books_of: Callable[[str], Books], connection: Connection
) -> None:
    def settle(driver: str, **what: int) -> Share:
        return books_of(driver).settle(ask(connection, at_once=None, per_minute=0.1, **what))

    assert settle("a", starts=1).starts == 1
    refused = settle("b", starts=1)
    assert refused.starts == 0
    assert 0 < refused.next_start_in <= 600
    settle("a", starts_back=1)
    assert settle("b", starts=1).starts == 1


@pytest.mark.parametrize("places", [1, 5])
def test_drivers_that_ask_at_the_same_moment_never_hold_more_than_the_limit(
    books_of: Callable[[str], Books], connection: Connection, places: int
) -> None:
    busy, counting, served = threading.Semaphore(places), threading.Lock(), dict.fromkeys("abcd", 0)
    gives_up_at = time.monotonic() + PATIENCE

    def drive(name: str) -> None:
        books = books_of(name)
        inside = 0
        try:
            while min(served.values()) < OFTEN and time.monotonic() < gives_up_at:
                share = books.settle(ask(connection, inside, at_once=places, places=5 - inside))
                while inside < min(share.places, 5):
                    assert busy.acquire(blocking=False), "one too many"
                    inside += 1
                with counting:
                    served[name] += inside
                time.sleep(0.005)
                for _ in range(inside):
                    busy.release()
                inside = 0
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(served)) as threads:
        for done in [threads.submit(drive, name) for name in served]:
            done.result()
    assert min(served.values()) >= OFTEN, served


# --- without the books ------------------------------------------------------------------


def test_without_redis_nothing_new_starts_until_all_leases_have_lapsed(
    connection: Connection, settings: Settings
) -> None:
    settings.REDIS_URL = NOBODY
    began = time.monotonic()
    books = RedisShares("a")
    with pytest.raises(SharesUnknown, match=r"^Limits cannot be checked: Redis does not answer\.$"):
        books.settle(ask(connection, places=3))
    settings.DRIVER_LEASE_SECONDS = 0.5
    wait_for(lambda: places_of_one_alive(books, ask(connection, places=9)) == 3)
    assert time.monotonic() - began > 0.5


def places_of_one_alive(books: Books, asked: Ask) -> int:
    ledger.heartbeat(driver="a", in_flight=0, now=timezone.now())
    return places_of(books, asked)


def places_of(books: Books, asked: Ask) -> int:
    try:
        return books.settle(asked).places
    except SharesUnknown:
        return 0


@pytest.mark.parametrize(("places", "parts"), [(7, [3, 2, 2]), (2, [1, 1, 0]), (None, [None] * 3)])
def test_the_parts_of_the_drivers_that_are_alive_add_up_to_the_limit(
    connection: Connection, places: int | None, parts: list[int | None]
) -> None:
    for name in "abc":
        ledger.heartbeat(driver=name, in_flight=0, now=timezone.now())
    ledger.heartbeat(driver="dead", in_flight=9, now=timezone.now() - timedelta(days=1))
    limits = Limits(places, 60)
    mine = [part_of(limits, connection.pk, driver=name) for name in "abc"]
    assert mine == [Limits(part, 20) for part in parts]
    assert part_of(limits, connection.pk, driver="dead").places == (None if places is None else 0)


def test_what_one_has_under_way_beyond_its_part_is_taken_from_the_others(
    connection: Connection,
) -> None:
    for name in "ab":
        ledger.heartbeat(driver=name, in_flight=0, now=timezone.now())
    far = timezone.now() + timedelta(hours=1)
    for _ in range(3):
        make_run(status=RunStatus.IN_PROGRESS, due_at=None, leased_by="a", lease_expires_at=far)
    Run.objects.update(connection=connection)
    assert part_of(Limits(4), connection.pk, driver="a").places == 2
    assert part_of(Limits(4), connection.pk, driver="b").places == 1


# --- drivers ----------------------------------------------------------------------------


@pytest.fixture
def drivers(transactional_db: None) -> Iterator[list[Driver]]:
    """Two, as in two processes: each has gates of its own."""
    pair = [Driver(capacity=6), Driver(capacity=6)]
    yield pair
    for driver in pair:
        if driver._thread.ident is not None:
            driver.stop()


def ask_many(number: int, **script: Any) -> list[Run]:
    assistant = make_assistant(instructions=json.dumps(script), tools=[])
    return [runs.ask(assistant=assistant, text="What is x?") for _ in range(number)]


def all_completed() -> bool:
    return not Run.objects.exclude(status=RunStatus.COMPLETED).exists()


def going() -> QuerySet[Run]:
    return Run.objects.filter(status=RunStatus.IN_PROGRESS)


def taken() -> int:
    """The answers that were begun upstream, as the rows have it."""
    return RunAttempt.objects.exclude(upstream_id="").count()


def cancel(number: int) -> None:
    for run in list(going()[:number]):
        runs.cancel_run(run=run)


def at_once(upstream: Upstream, seconds: float) -> int:
    """How many answers of that length were under way at the same time, at most."""
    starts = [entry["at"] for entry in upstream.journal("POST", "/responses")]
    return max(sum(at <= start < at + seconds for at in starts) for start in starts)


def test_two_drivers_together_keep_the_limit(
    connection: Connection, drivers: list[Driver], upstream: Upstream
) -> None:
    Connection.objects.update(max_concurrent=3)
    asked = ask_many(15, seconds=0.5)
    for driver in drivers:
        driver.start()
    wait_for(all_completed)
    assert at_once(upstream, 0.5) <= 3
    assert upstream.counts()["accepted"] == len(asked)


def test_of_two_drivers_both_get_a_share_of_the_limit(
    connection: Connection, drivers: list[Driver]
) -> None:
    Connection.objects.update(max_concurrent=3)
    ask_many(15, seconds=3600)
    names = {driver.name for driver in drivers}
    for driver in drivers:
        driver.start()
    wait_for(lambda: going().count() == 3)
    wait_for(lambda: who_was_told("takes 3 at once") == names)
    cancel(1)
    wait_for(lambda: set(going().values_list("leased_by", flat=True)) == names)
    wait_for(lambda: going().count() == 3)


def who_was_told(words: str) -> set[str | None]:
    """The drivers of which the first to wait was told so; the others stand in line behind it."""
    waiting = Run.objects.filter(status=RunStatus.QUEUED, waiting_for__contains=words)
    return set(waiting.filter(leased_by__isnull=False).values_list("leased_by", flat=True))


def test_two_drivers_together_start_no_more_than_so_many_a_minute(
    connection: Connection, drivers: list[Driver], upstream: Upstream
) -> None:
    Connection.objects.update(requests_per_minute=120)
    ask_many(16, seconds=0)
    began = time.time()
    for driver in drivers:
        driver.start()
    wait_for(all_completed)
    starts = sorted(entry["at"] for entry in upstream.journal("POST", "/responses"))
    assert len(starts) == 16
    for number, at in enumerate(starts, start=1):
        assert number <= 10 + 2 * (at - began + A_TICK), "ten at once, and two a second"


def test_a_limit_can_be_lowered_and_raised_while_drivers_work(
    connection: Connection,
    drivers: list[Driver],
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: dict[str, int | None] = {}
    settle = DriverShares.settle

    async def noting(shares: DriverShares, ask: Ask) -> Share:
        share = await settle(shares, ask)
        limits[shares._driver] = ask.limits.places
        return share

    monkeypatch.setattr(DriverShares, "settle", noting)

    def limit(places: int) -> None:
        """Each driver reads the row, as it does with every renewal, and has settled by it."""
        Connection.objects.update(max_concurrent=places)
        for driver in drivers:
            reading = driver._desk.read_standings()
            asyncio.run_coroutine_threadsafe(reading, driver._loop).result(PATIENCE)
        wait_for(lambda: limits == {driver.name: places for driver in drivers})

    Connection.objects.update(max_concurrent=1)
    waiting = ask_many(6, seconds=3600)
    for driver in drivers:
        driver.start()
    wait_for(lambda: who_was_told("takes 1 at once") == {driver.name for driver in drivers})
    wait_for(lambda: going().count() == 1)
    limit(4)
    wait_for(lambda: going().count() == 4)
    limit(2)
    ended = Run.objects.filter(status=RunStatus.CANCELLED)
    cancel(1)
    wait_for(lambda: ended.count() == 1)
    assert going().count() == 3, "no place is free before two more have left"
    cancel(2)
    wait_for(lambda: ended.count() == 3 and going().count() == 2)
    wait_for(lambda: taken() == 5)
    assert upstream.counts()["accepted"] == 5 < len(waiting)


def test_a_driver_that_stops_leaves_its_places_to_the_one_that_goes_on(
    connection: Connection, drivers: list[Driver], upstream: Upstream
) -> None:
    Connection.objects.update(max_concurrent=3)
    ask_many(6, seconds=3600)
    first, second = drivers
    first.start()
    wait_for(lambda: taken() == 3)
    second.start()
    first.stop()
    assert_goes_on_alone(second.name, upstream, places=3)


def assert_goes_on_alone(name: str, upstream: Upstream, *, places: int) -> None:
    """With all that is under way, and with the places of each that leaves, but with no other."""
    wait_for(lambda: going().filter(leased_by__contains=name).count() == places)
    wait_for(lambda: len(who_was_told(f"takes {places} at once")) == 1)
    assert upstream.counts()["accepted"] == places
    cancel(places)
    wait_for(lambda: taken() == 2 * places)
    assert upstream.counts()["accepted"] == 2 * places


def test_without_redis_a_run_says_why_it_waits_and_then_goes_on(
    connection: Connection, drivers: list[Driver], settings: Settings
) -> None:
    settings.REDIS_URL = NOBODY
    Connection.objects.update(max_concurrent=3)
    ask_many(1, seconds=0)
    drivers[0].start()
    why = "Limits cannot be checked: Redis does not answer."
    wait_for(Run.objects.filter(waiting_for=why).exists)
    settings.DRIVER_LEASE_SECONDS = 3.0

    def alive_and_done() -> bool:
        ledger.heartbeat(driver=drivers[0].name, in_flight=1, now=timezone.now())
        return all_completed()

    wait_for(alive_and_done)


@pytest.mark.slow
def test_a_worker_that_is_killed_holds_its_places_until_its_runs_are_taken_over(
    connection: Connection, upstream: Upstream, tmp_path: Path
) -> None:
    Connection.objects.update(max_concurrent=2)
    ask_many(8, seconds=3600)
    log = tmp_path / "worker.log"
    workers = [start_worker(log, DRIVER_LEASE_SECONDS="15", DRIVER_CAPACITY="4") for _ in range(2)]
    try:
        wait_for(lambda: taken() == 2 and len(who_was_told("takes 2 at once")) == 2)
        one, other = workers
        if f":{one.pid}:" not in str(going().values_list("leased_by", flat=True)[0]):
            one, other = other, one
        one.kill()
        assert_goes_on_alone(f":{other.pid}:", upstream, places=2)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
