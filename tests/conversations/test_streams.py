"""Readers of one process follow events together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from conversations import streams
from conversations.models import Run, RunEvent, RunStatus, Thread
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run() -> Run:
    run = factories.make_run()
    RunEvent.objects.append(run, "thread.run.created", {"status": "queued"})
    return run


@pytest.fixture(autouse=True)
def told_of_nothing_but_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long they take to come."""
    monkeypatch.setattr(streams, "SILENT_AT_MOST", 3600.0)


def following(scene: Callable[[], Awaitable[None]]) -> None:
    """Play `scene` on an event loop of its own, and see that nothing is left of it, as nothing may
    be of who watched before."""

    async def play() -> None:
        async with asyncio.timeout(100):
            await until_nobody_watches()
            await scene()
            await until_nobody_watches()
        await streams.streams()._in_thread(streams._disconnect)

    asyncio.run(play())


async def until_nobody_watches() -> None:
    while any(thread.name == "table-watch" for thread in threading.enumerate()):
        await asyncio.sleep(0.01)


@sync_to_async
def elsewhere(act: Callable[[], Any]) -> None:
    """As another process would: in a thread and on a connection of its own."""

    def in_thread() -> None:
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()


async def types(reader: AsyncGenerator[list[streams.Told]]) -> list[str]:
    return [event.type for event in await anext(reader)]


def test_a_reader_is_told_of_what_happens_until_the_end(run: Run) -> None:
    async def scene() -> None:
        async with aclosing(streams.streams().follow(run, 0)) as reader:
            assert await types(reader) == ["thread.run.created"]
            await elsewhere(lambda: run.move(RunStatus.IN_PROGRESS))
            assert await types(reader) == ["thread.run.in_progress"]
            await elsewhere(lambda: run.move(RunStatus.COMPLETED))
            assert await types(reader) == ["thread.run.completed"]
            assert [batch async for batch in reader] == []

    following(scene)


def test_many_readers_share_one_watch_and_each_hears_its_own_run(run: Run) -> None:
    other = factories.make_run()

    async def scene() -> None:
        ours = streams.streams()
        readers = [ours.follow(run, 0) for _ in range(50)]
        quiet = ours.follow(other, 0)
        silent = asyncio.ensure_future(anext(quiet))
        for reader in readers:
            assert await types(reader) == ["thread.run.created"]
        late = ours.follow(run, 0)
        assert await types(late) == ["thread.run.created"]
        watches = [one for one in threading.enumerate() if one.name == "table-watch"]
        assert len(watches) == 1
        await elsewhere(lambda: run.move(RunStatus.IN_PROGRESS))
        for reader in [*readers, late]:
            assert await types(reader) == ["thread.run.in_progress"]
            await reader.aclose()
        assert not silent.done()
        silent.cancel()
        await asyncio.gather(silent, return_exceptions=True)
        await quiet.aclose()
        assert not ours._readers
        assert not ours._known

    following(scene)


def test_a_reader_who_comes_in_the_middle_of_a_look_misses_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.move(RunStatus.IN_PROGRESS)
    has_looked, goes_on = threading.Event(), threading.Event()
    told = streams._told

    def slowly(*args: Any) -> list[streams.Told]:
        events = told(*args)
        has_looked.set()
        goes_on.wait(60)
        return events

    monkeypatch.setattr(streams, "_told", slowly)

    async def scene() -> None:
        ours = streams.streams()
        async with aclosing(ours.follow(run, 1)) as first, aclosing(ours.follow(run, 0)) as second:
            news = asyncio.ensure_future(types(first))
            assert await asyncio.to_thread(has_looked.wait, 60)
            everything = asyncio.ensure_future(types(second))
            while len(ours._readers[run.pk]) < 2:
                await asyncio.sleep(0.01)
            goes_on.set()
            assert await news == ["thread.run.in_progress"]
            assert await everything == ["thread.run.created", "thread.run.in_progress"]

    following(scene)


def test_a_change_nobody_told_of_is_found_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(streams.TableWatch):
        def __init__(self, changed: Any, channel: str) -> None:
            super().__init__(lambda: None, channel)

    monkeypatch.setattr(streams, "TableWatch", Deaf)

    async def scene() -> None:
        async with aclosing(streams.streams().follow(run, 1)) as reader:
            await elsewhere(lambda: run.move(RunStatus.IN_PROGRESS))
            assert await types(reader) == ["thread.run.in_progress"]

    following(scene)


def test_a_reader_of_silence_is_told_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENT_AT_MOST", 0.01)

    async def scene() -> None:
        async with aclosing(streams.streams().follow(run, 1)) as reader:
            assert await anext(reader) == []

    following(scene)


def test_a_run_past_its_time_ends_before_its_readers_eyes(run: Run) -> None:
    async def scene() -> None:
        async with aclosing(streams.streams().follow(run, 1)) as reader:
            past = timezone.now() - timedelta(seconds=1)
            await elsewhere(lambda: Run.objects.update(expires_at=past))
            assert await types(reader) == ["thread.run.expired"]
            assert [batch async for batch in reader] == []

    following(scene)


@pytest.mark.parametrize("gone", ["deleted", "ended and told already"])
def test_a_reader_is_sent_home_when_there_is_nothing_to_come(run: Run, gone: str) -> None:
    async def scene() -> None:
        async with aclosing(streams.streams().follow(run, 99)) as reader:
            if gone == "deleted":
                await elsewhere(lambda: Thread.objects.filter(runs=run).delete())
            else:
                await elsewhere(lambda: run.move(RunStatus.FAILED))
            assert [batch async for batch in reader] == []

    following(scene)


def test_a_reader_who_does_not_read_is_sent_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEHIND_AT_MOST", 1)
    reader = streams._Reader(run.pk, False, 0)
    told = [streams.Told(number, "thread.message.delta", {}) for number in (1, 2)]
    assert reader.tell(told[:1])
    assert not reader.tell(told)
    reader.end()
    assert reader.batches.get_nowait() == []
