"""The gate of a connection: who may start now, why others wait, and what it learns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from assistant_manager.engines import gates
from assistant_manager.engines.allotments import Limits
from assistant_manager.engines.base import Key
from assistant_manager.engines.gates import Bucket, Gate, Standing, gate_of, seconds_of
from tests.fakes.shares import Shelf

LONG = 60.0
"""Seconds that no test may take; it only bounds those that fail."""
SECRET = "sk-first-secret"


@pytest.fixture
def gate() -> Gate:
    return Gate(name="Upstream")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def play() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """On a loop of its own, that ends with all that still goes on."""
    return lambda story: asyncio.run(asyncio.wait_for(story, LONG))


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "OUTAGE_SECONDS", (0.2, 3600.0))
    monkeypatch.setattr(gates, "BILLING_SECONDS", (0.2, 3600.0))


class Asker:
    """Somebody at the gate, and what it was told."""

    def __init__(self, gate: Gate, *, again: bool = False) -> None:
        self.told: list[str] = []
        self.heard = asyncio.Event()
        enter = gate.enter_again if again else gate.enter
        self.task = asyncio.create_task(enter(self.tell))

    async def tell(self, reason: str) -> None:
        self.told.append(reason)
        self.heard.set()

    async def until_told(self, words: str) -> None:
        while not any(words in reason for reason in self.told):
            self.heard.clear()
            await self.heard.wait()

    async def give_up(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def limited(
    gate: Gate,
    shelf: Shelf,
    *,
    at_once: int | None = None,
    per_minute: float | None = None,
    driver: str = "one",
) -> Gate:
    gate.configure("Upstream", Limits(at_once, per_minute), shelf.of(driver))
    return gate


def broken(gate: Gate) -> Gate:
    for _ in range(gates.TROUBLES_AT_MOST):
        gate.failed()
    return gate


# --- places -----------------------------------------------------------------------------


@pytest.mark.parametrize("moments", range(4))
def test_who_is_dropped_just_as_a_pause_is_lifted_does_not_go_in(
    gate: Gate, play: Any, moments: int
) -> None:
    async def story() -> None:
        gate.wait_for_quota(LONG)
        asker = Asker(gate)
        await asker.until_told("quota")
        gate.read(Standing())
        for _ in range(moments):
            await asyncio.sleep(0)
        dropped = asker.task.cancel()
        await asyncio.wait([asker.task])
        assert asker.task.cancelled() is dropped
        assert gate.inside == (0 if dropped else 1)

    play(story())


def test_who_finds_no_place_waits_until_somebody_leaves(
    gate: Gate, shelf: Shelf, play: Any
) -> None:
    async def story() -> None:
        limited(gate, shelf, at_once=1)
        await Asker(gate).task
        second = Asker(gate)
        await second.until_told("Waiting for a place: “Upstream” takes 1 at once.")
        assert not second.task.done()
        gate.leave()
        await second.task
        assert gate.inside == 1

    play(story())


def test_places_are_given_in_the_order_of_asking(gate: Gate, shelf: Shelf, play: Any) -> None:
    async def story() -> list[int]:
        limited(gate, shelf, at_once=1)
        await Asker(gate).task
        order: list[int] = []

        async def stay_a_moment(number: int) -> None:
            await gate.enter(waiting[number].tell)
            order.append(number)
            gate.leave()

        waiting = {number: Silent() for number in range(5)}
        tasks = [asyncio.create_task(stay_a_moment(number)) for number in range(5)]
        await waiting[4].heard.wait()
        gate.leave()
        await asyncio.gather(*tasks)
        return order

    assert play(story()) == [0, 1, 2, 3, 4]


class Silent(Asker):
    def __init__(self) -> None:
        self.told = []
        self.heard = asyncio.Event()


def test_a_place_that_becomes_free_while_a_waiting_run_is_told_is_not_missed(
    gate: Gate, shelf: Shelf, play: Any
) -> None:
    async def story() -> None:
        limited(gate, shelf, at_once=1)
        await Asker(gate).task

        async def tell(_: str) -> None:
            gate.leave()

        await gate.enter(tell)

    play(story())


def test_who_gives_up_waiting_blocks_nobody(gate: Gate, shelf: Shelf, play: Any) -> None:
    async def story() -> None:
        limited(gate, shelf, at_once=1)
        await Asker(gate).task
        second, third = Asker(gate), Asker(gate)
        await second.until_told("place")
        await second.give_up()
        gate.leave()
        await third.task

    play(story())


def test_a_limit_that_was_lifted_counts_from_the_next_to_leave(
    gate: Gate, shelf: Shelf, play: Any
) -> None:
    async def story() -> None:
        limited(gate, shelf, at_once=1)
        await Asker(gate).task
        waiting = Asker(gate)
        await waiting.until_told("place")
        limited(gate, shelf, at_once=2)
        await waiting.task

    play(story())


# --- quota ------------------------------------------------------------------------------


def test_a_bucket_gives_a_burst_and_then_the_rate() -> None:
    bucket = Bucket(per_minute=1, burst=2)
    assert bucket.wait() == 0
    bucket.take()
    bucket.take()
    assert 30 < bucket.wait() <= 60


def test_a_bucket_holds_no_more_than_the_upstream_says() -> None:
    bucket = Bucket(per_minute=1, burst=1)
    bucket.correct(bucket.per_minute, bucket.burst, 0)
    assert 30 < bucket.wait() <= 60


def test_requests_beyond_the_rate_wait_and_say_so(gate: Gate, shelf: Shelf, play: Any) -> None:
    async def story() -> None:
        limited(gate, shelf, per_minute=1)
        await Asker(gate).task
        second = Asker(gate)
        await second.until_told("Waiting for quota at “Upstream”.")
        limited(gate, shelf, per_minute=None)
        await second.task

    play(story())


def test_the_limits_in_the_headers_count_too(gate: Gate, play: Any) -> None:
    async def story() -> None:
        gate.learn({"x-ratelimit-limit-requests": "2", "x-ratelimit-remaining-requests": "1"})
        await Asker(gate).task
        second = Asker(gate)
        await second.until_told("Waiting for quota")
        await second.give_up()

    play(story())


@pytest.mark.parametrize(
    ("remaining", "reset", "per_minute"),
    [("0", "1s", 600), ("5", "500ms", 600), ("9", "6s", 10), ("10", "0s", 10), ("4", "", 10)],
)
def test_the_pace_follows_from_how_soon_the_whole_allowance_is_back(
    gate: Gate, remaining: str, reset: str, per_minute: float
) -> None:
    headers = {"limit": "10", "remaining": remaining, "reset": reset}
    gate.learn({f"x-ratelimit-{name}-requests": value for name, value in headers.items()})
    assert gate._headers is not None
    assert gate._headers.per_minute == pytest.approx(per_minute)


@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_used_up_quota_pauses_everybody_until_its_reset(gate: Gate, play: Any, what: str) -> None:
    async def story() -> None:
        gate.learn({f"x-ratelimit-remaining-{what}": "0", f"x-ratelimit-reset-{what}": "60s"})
        first = Asker(gate)
        await first.until_told("waiting for quota until")
        await first.give_up()

    play(story())


def test_a_pause_ends_by_itself(gate: Gate, play: Any) -> None:
    gate.wait_for_quota(0.2)
    play(gate.enter(Silent().tell))


def test_a_pause_names_the_hour_of_its_end(gate: Gate) -> None:
    gate.wait_for_quota(1200)
    until = gate.standing.paused_until
    assert until is not None
    assert gate.standing.pause_reason == (
        "“Upstream” takes no more just now: waiting for quota until "
        f"{timezone.localtime(until):%H:%M}."
    )


def test_a_shorter_pause_does_not_end_a_longer_one(gate: Gate) -> None:
    gate.wait_for_quota(1200)
    before = gate.standing
    gate.wait_for_quota(1)
    assert gate.standing == before


def test_runs_that_were_refused_do_not_wait_behind_those_that_wait_for_a_place(
    gate: Gate, shelf: Shelf, play: Any
) -> None:
    async def story() -> None:
        limited(gate, shelf, at_once=1)
        await Asker(gate).task
        outside = Asker(gate)
        await outside.until_told("place")
        await Asker(gate, again=True).task
        await outside.give_up()

    play(story())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("120ms", 0.12), ("6m0s", 360.0), ("1.5", 1.5), ("1h2m3s", 3723.0), ("-4", 0.0)),
        *(("", None), ("soon", None), ("5 s later", None)),
    ],
)
def test_durations_are_read_as_headers_write_them(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


# --- trouble ----------------------------------------------------------------------------


def test_a_few_failures_pause_nobody(gate: Gate, play: Any) -> None:
    for _ in range(gates.TROUBLES_AT_MOST - 1):
        gate.failed()
    play(gate.enter(Silent().tell))


def test_after_failures_in_a_row_everybody_waits_then_one_tries(
    gate: Gate, play: Any, short_pauses: None
) -> None:
    async def story() -> None:
        broken(gate)
        assert gate.standing.pause_reason.startswith("“Upstream” does not answer. Next try at")
        probe, other = Asker(gate), Asker(gate)
        await probe.task
        await other.until_told("Trying whether “Upstream” answers again.")
        assert not other.task.done()
        gate.succeeded()
        await other.task
        assert gate.standing == Standing()

    play(story())


def test_a_failed_try_makes_the_next_pause_longer(
    gate: Gate, play: Any, short_pauses: None
) -> None:
    async def story() -> None:
        broken(gate)
        await Asker(gate).task
        gate.failed()
        until = gate.standing.paused_until
        assert until is not None
        assert until > timezone.now() + timedelta(minutes=30)

    play(story())


def test_failures_of_what_was_asked_before_do_not_lengthen_a_pause(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "OUTAGE_SECONDS", (600.0, 3600.0))
    broken(gate)
    before = gate.standing
    for _ in range(50):
        gate.failed()
        gate.out_of_credit()
    assert gate.standing == before


def test_without_credit_nobody_starts_at_once(gate: Gate, play: Any) -> None:
    async def story() -> None:
        gate.out_of_credit()
        asker = Asker(gate)
        await asker.until_told("has no credit left, or a spending limit was reached. Next try at")
        assert not asker.task.done()
        await asker.give_up()

    play(story())


def test_an_answer_after_trouble_leaves_a_pause_for_quota_alone(gate: Gate) -> None:
    gate.failed()
    gate.wait_for_quota(1200)
    before = gate.standing
    gate.succeeded()
    assert gate.standing == before


# --- the row ----------------------------------------------------------------------------


def test_a_pause_that_another_process_has_written_holds_here_too(gate: Gate, play: Any) -> None:
    async def story() -> None:
        until = timezone.now() + timedelta(seconds=1200)
        gate.read(Standing(until, "Waiting for quota until noon."))
        asker = Asker(gate)
        await asker.until_told("Waiting for quota until noon.")
        gate.read(Standing())  # somebody has pressed "Resume now"
        await asker.task

    play(story())


def test_resuming_ends_an_outage_and_its_try_as_well(gate: Gate, play: Any) -> None:
    async def story() -> None:
        broken(gate)
        gate.read(Standing())
        await Asker(gate).task
        await Asker(gate).task

    play(story())


# --- keys -------------------------------------------------------------------------------


def test_a_refused_key_goes_to_the_end_and_the_row_says_so(gate: Gate) -> None:
    first, second = Key(1, SECRET), Key(2, "sk-second")
    assert gate.in_order([first, second]) == [first, second]
    gate.refused(first)
    gate.accepted(second)
    assert gate.in_order([first, second]) == [second, first]
    assert gate.standing.key_in_use == 2
    assert gate.standing.key_note.startswith("Key 1 was refused on ")
    assert gate.standing.key_note.endswith("; key 2 is in use.")
    assert SECRET not in repr(gate.standing) + repr(first)


def test_a_first_key_that_was_never_there_was_not_refused(gate: Gate) -> None:
    gate.accepted(Key(2, "sk-second"))
    assert (gate.standing.key_in_use, gate.standing.key_note) == (2, "")


def test_a_connection_has_one_gate_on_a_loop(play: Any) -> None:
    async def story() -> None:
        assert gate_of(771, "A") is gate_of(771)
        assert gate_of(771) is not gate_of(772)

    play(story())
