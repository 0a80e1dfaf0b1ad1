"""Limits that several processes keep together, each at its own gate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from assistant_manager.engines import allotments
from assistant_manager.engines.allotments import Limits
from assistant_manager.engines.gates import Gate
from tests.engines.test_gates import LONG, Asker, Silent, limited
from tests.fakes.shares import Shelf

CROWD = 20
"""More than there are places anywhere here."""
Play = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def play() -> Play:
    return lambda story: asyncio.run(asyncio.wait_for(story, LONG))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


class Process:
    """One of several, with a gate of its own."""

    def __init__(self, name: str, shelf: Shelf, *, at_once: int | None = None, **more: Any) -> None:
        self.name, self.shelf = name, shelf
        self.gate = limited(Gate(name="Upstream"), shelf, at_once=at_once, driver=name, **more)
        self.served = 0

    async def serve(self, upstream: Upstream, runs: int) -> None:
        await asyncio.gather(*(self._serve_one(upstream) for _ in range(runs)))

    async def serve_crowd(self, upstream: Upstream) -> None:
        """Without end: for each that leaves another one comes."""

        async def come_again_and_again() -> None:
            while True:
                await self._serve_one(upstream)

        await asyncio.gather(*(come_again_and_again() for _ in range(CROWD)))

    async def _serve_one(self, upstream: Upstream) -> None:
        await self.gate.enter(Silent().tell)
        await upstream.answer()
        self.served += 1
        self.gate.leave()

    async def limit(self, at_once: int | None) -> None:
        self.gate.configure("Upstream", Limits(at_once), self.shelf.of(self.name))


class Upstream:
    """Counts how many it is asked for at once, and answers none of them before there were once as
    many as `fills`."""

    def __init__(self, seconds: float = 0.01, *, fills: int = 0) -> None:
        self.seconds, self.fills = seconds, fills
        self.busy = self.most = self.answered = 0

    async def answer(self) -> None:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await until(lambda: self.most >= self.fills)
        await asyncio.sleep(self.seconds)
        self.busy -= 1
        self.answered += 1


def all_have_served(processes: list[Process], runs: int) -> bool:
    return all(process.served >= runs for process in processes)


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


# --- places -----------------------------------------------------------------------------


@pytest.mark.parametrize("places", [1, 3, 10])
def test_processes_together_never_take_more_than_the_limit(
    shelf: Shelf, play: Play, places: int
) -> None:
    async def story() -> None:
        upstream = Upstream(fills=places)
        processes = [Process(name, shelf, at_once=places) for name in ("a", "b", "c")]
        await asyncio.gather(*(process.serve(upstream, 20) for process in processes))
        assert upstream.most == places

    play(story())


def test_a_process_that_holds_all_places_leaves_some_to_one_that_waits(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        upstream = Upstream(fills=2)
        greedy, modest = Process("a", shelf, at_once=2), Process("b", shelf, at_once=2)
        crowd = asyncio.create_task(greedy.serve_crowd(upstream))
        await until(lambda: greedy.served)
        await modest.serve(upstream, 10)
        assert upstream.most == 2
        crowd.cancel()
        await asyncio.wait([crowd])

    play(story())


def test_two_processes_take_turns_for_a_single_place(shelf: Shelf, play: Play) -> None:
    async def story() -> None:
        upstream = Upstream()
        processes = [Process(name, shelf, at_once=1) for name in ("a", "b")]
        crowds = [asyncio.create_task(process.serve_crowd(upstream)) for process in processes]
        for turns in (1, 5):
            await until(partial(all_have_served, processes, turns))
        assert upstream.most == 1
        for crowd in crowds:
            crowd.cancel()
        await asyncio.wait(crowds)

    play(story())


def test_places_of_a_process_that_says_nothing_come_back_when_its_lease_lapses(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        dead, alive = Process("a", shelf, at_once=1), Process("b", shelf, at_once=1)
        await dead.gate.enter(Silent().tell)
        dead.gate.close()
        asker = Asker(alive.gate)
        await asker.until_told("Waiting for a place: “Upstream” takes 1 at once.")
        shelf.later = 2 * shelf.lease
        await asker.task

    play(story())


def test_places_that_a_process_has_to_spare_are_with_the_others_within_a_second_or_so(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        first, second = Process("a", shelf, at_once=4), Process("b", shelf, at_once=4)
        await asyncio.gather(*(first.gate.enter(Silent().tell) for _ in range(4)))
        for _ in range(3):
            first.gate.leave()
        await asyncio.gather(*(second.gate.enter(Silent().tell) for _ in range(3)))
        assert (first.gate.inside, second.gate.inside) == (1, 3)

    play(story())


def test_an_answer_that_is_taken_over_counts_for_all(shelf: Shelf, play: Play) -> None:
    async def story() -> None:
        first, second = Process("a", shelf, at_once=1), Process("b", shelf, at_once=1)
        first.gate.take_over()
        await until(lambda: shelf.held("a") == 1)
        asker = Asker(second.gate)
        await asker.until_told("place")
        first.gate.leave()
        await asker.task

    play(story())


def test_places_of_a_process_that_ends_stay_taken_until_its_answers_are_taken_over(
    shelf: Shelf, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allotments, "KEEP_FOR", LONG)

    async def story() -> None:
        first, second = Process("a", shelf, at_once=2), Process("b", shelf, at_once=2)
        await first.gate.enter(Silent().tell)
        under_way = first.gate.close()
        first.gate.leave()
        await first.gate.give_back(under_way)
        await second.gate.enter(Silent().tell)
        assert (shelf.held("a"), shelf.held("b")) == (1, 1)

    play(story())


def test_a_process_that_ends_with_nothing_under_way_leaves_all_to_the_others(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        first, second = Process("a", shelf, at_once=1), Process("b", shelf, at_once=1)
        await first.gate.enter(Silent().tell)
        first.gate.leave()
        await first.gate.give_back(first.gate.close())
        assert shelf.held("a") == 0
        await second.gate.enter(Silent().tell)

    play(story())


def test_a_limit_that_is_lowered_or_raised_counts_for_those_who_wait(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        upstream = Upstream(0.05)
        processes = [Process(name, shelf, at_once=1) for name in ("a", "b")]
        crowds = [asyncio.create_task(process.serve_crowd(upstream)) for process in processes]
        await until(lambda: upstream.most == 1)
        for process in processes:
            await process.limit(6)
        await until(lambda: upstream.busy == 6)
        for process in processes:
            await process.limit(2)
        await until(lambda: upstream.busy <= 2)
        upstream.most = 0
        await until(lambda: upstream.most == 2)
        answered = upstream.answered
        await until(lambda: upstream.answered > answered + 20)
        assert upstream.most == 2
        for crowd in crowds:
            crowd.cancel()
        await asyncio.wait(crowds)

    play(story())


# --- starts -----------------------------------------------------------------------------


def test_processes_together_start_no_more_than_so_many_a_minute(shelf: Shelf, play: Play) -> None:
    async def story() -> None:
        upstream = Upstream()
        processes = [Process(name, shelf, per_minute=60) for name in ("a", "b")]
        crowds = [asyncio.create_task(process.serve(upstream, 20)) for process in processes]
        began = time.monotonic()
        await until(lambda: sum(process.served for process in processes) >= 7)
        started = sum(process.served for process in processes) + upstream.busy
        assert started <= 5 + (time.monotonic() - began) + 1, "the burst, and one a second"
        for crowd in crowds:
            crowd.cancel()
        await asyncio.wait(crowds)

    play(story())


# --- what it costs ------------------------------------------------------------------------


def test_without_a_limit_nobody_is_asked(shelf: Shelf, play: Play) -> None:
    async def story() -> None:
        process = Process("a", shelf)
        await process.serve(Upstream(), 100)
        assert shelf.asks == []

    play(story())


def test_many_who_come_at_once_ask_once_and_are_told_nothing(
    shelf: Shelf, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allotments, "RENEW", LONG)  # however long it takes them to go in

    async def story() -> None:
        process = Process("a", shelf, at_once=1000)
        askers = [Asker(process.gate) for _ in range(500)]
        await asyncio.gather(*(asker.task for asker in askers))
        assert len(shelf.asks) == 1
        assert not any(asker.told for asker in askers)

    play(story())


@pytest.mark.parametrize("moments", range(6))
def test_who_comes_as_another_goes_in_is_told_nothing(
    shelf: Shelf, play: Play, moments: int
) -> None:
    async def story() -> None:
        process = Process("a", shelf, at_once=10)
        shelf.answering.clear()
        first = Asker(process.gate)
        await until(lambda: shelf.asks)
        shelf.answering.set()
        for _ in range(moments):
            await asyncio.sleep(0)
        second = Asker(process.gate)
        await asyncio.gather(first.task, second.task)
        assert first.told + second.told == []

    play(story())


def test_nobody_is_asked_once_all_have_left(shelf: Shelf, play: Play) -> None:
    async def story() -> None:
        process = Process("a", shelf, at_once=10)
        await process.serve(Upstream(), 5)
        await until(lambda: shelf.held("a") == 0)
        asked = len(shelf.asks)
        await asyncio.sleep(2 * allotments.RENEW)
        assert len(shelf.asks) == asked

    play(story())


# --- trouble ------------------------------------------------------------------------------


def test_what_is_held_may_be_used_while_nobody_answers_and_nothing_more(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        process = Process("a", shelf, at_once=5)
        await process.gate.enter(Silent().tell)
        shelf.trouble = "Limits cannot be checked."
        asker = Asker(process.gate)
        await asker.until_told("Limits cannot be checked.")
        process.gate.leave()
        await asker.task
        assert process.gate.inside == 1
        late = Asker(process.gate)
        await late.until_told("Limits cannot be checked.")
        shelf.trouble = ""
        await late.task

    play(story())


def test_nothing_is_held_any_more_once_the_lease_has_lapsed(shelf: Shelf, play: Play) -> None:
    async def story() -> None:
        shelf.lease = 0.3
        process = Process("a", shelf, at_once=1)
        await process.gate.enter(Silent().tell)
        shelf.trouble = "Limits cannot be checked."
        await asyncio.sleep(0.4)
        process.gate.leave()
        asker = Asker(process.gate)
        await asker.until_told("Limits cannot be checked.")
        assert not asker.task.done()
        shelf.trouble = ""
        await asker.task

    play(story())


def test_an_ask_that_is_not_answered_does_not_make_a_lapsed_lease_last(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        shelf.lease = 0.5
        process = Process("a", shelf, at_once=1)
        await process.gate.enter(Silent().tell)
        held_until = time.monotonic() + shelf.lease
        shelf.answering.clear()
        asker = Asker(process.gate)
        await until(lambda: len(shelf.asks) == 2)
        await asyncio.sleep(held_until - time.monotonic())
        process.gate.leave()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asker.task.done()
        shelf.answering.set()
        await asker.task

    play(story())


def test_while_others_are_asked_nothing_is_taken_that_they_may_be_given(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        process = Process("a", shelf, at_once=5)
        await asyncio.gather(*(process.gate.enter(Silent().tell) for _ in range(3)))
        process.gate.leave()
        shelf.answering.clear()
        process.gate._allotment.call()  # type: ignore[union-attr]
        await until(lambda: shelf.asks[-1].inside == 2)
        asker = Asker(process.gate)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asker.task.done()
        shelf.answering.set()
        await asker.task
        assert asker.told == []

    play(story())


def test_who_waits_for_a_paused_upstream_takes_no_places_from_others(
    shelf: Shelf, play: Play
) -> None:
    async def story() -> None:
        paused, other = Process("a", shelf, at_once=2), Process("b", shelf, at_once=2)
        await paused.gate.enter(Silent().tell)
        paused.gate.wait_for_quota(LONG)
        asker = Asker(paused.gate)
        await asker.until_told("quota")
        asked = len(shelf.asks)
        await until(lambda: len(shelf.asks) > asked)
        await other.gate.enter(Silent().tell)
        await asker.give_up()

    play(story())
