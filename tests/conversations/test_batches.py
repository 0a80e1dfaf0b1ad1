"""Calls of many runs that go to the database together, and what of each stays its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from django.db import DataError, OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.engines.base import MessageItem, Progress, Sighting, Turn, Usage
from conversations import ledger, recording
from conversations.batches import LARGEST, Batch
from conversations.ledger import Begun
from conversations.models import Run, RunAttempt, RunEvent, RunStatus
from conversations.services import runs
from tests.factories import make_assistant, make_project

ME = "me"
DONE = Progress("completed", [MessageItem("m", "x = 1", done=True)], usage=Usage(3, 4))


class Work:
    """Doubles numbers, noting what was asked together; `refuses` are numbers it fails at."""

    def __init__(self, refuses: dict[int, Exception] | None = None) -> None:
        self.refuses = refuses or {}
        self.batches: list[list[int]] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        await self.may_go_on.wait()
        for number in numbers:
            if number in self.refuses:
                raise self.refuses[number]
        return [2 * number if number >= 0 else ValueError(number) for number in numbers]


def test_calls_that_come_while_another_is_under_way_are_made_together() -> None:
    async def scenario() -> None:
        work = Work()
        batch = Batch[int, int](work)
        work.may_go_on.clear()
        first = asyncio.create_task(batch(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        rest = [asyncio.create_task(batch(number)) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        work.may_go_on.set()
        assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
        assert work.batches == [[1], [2, 3, 4]]

    asyncio.run(scenario())


def test_a_batch_has_a_largest_size() -> None:
    async def scenario() -> None:
        work = Work()
        batch = Batch[int, int](work)
        await asyncio.gather(*(batch(number) for number in range(LARGEST + 1)))
        assert [len(numbers) for numbers in work.batches] == [LARGEST, 1]

    asyncio.run(scenario())


def test_what_is_returned_as_an_exception_is_raised_to_its_caller_alone() -> None:
    async def scenario() -> None:
        batch = Batch[int, int](Work())
        results = await asyncio.gather(batch(1), batch(-1), return_exceptions=True)
        assert results[0] == 2
        assert isinstance(results[1], ValueError)

    asyncio.run(scenario())


def test_what_the_database_refuses_to_store_for_one_is_stored_for_the_others() -> None:
    async def scenario() -> None:
        work = Work({2: DataError("too long")})
        batch = Batch[int, int](work)
        results = await asyncio.gather(*map(batch, (1, 2, 3)), return_exceptions=True)
        assert [results[0], results[2]] == [2, 6]
        assert isinstance(results[1], DataError)
        assert work.batches == [[1, 2, 3], [1], [2], [3]]

    asyncio.run(scenario())


def test_while_the_database_is_away_each_call_is_told_at_once() -> None:
    async def scenario() -> None:
        work = Work({2: OperationalError("gone")})
        batch = Batch[int, int](work)
        results = await asyncio.gather(*map(batch, (1, 2, 3)), return_exceptions=True)
        assert all(isinstance(result, OperationalError) for result in results)
        assert work.batches == [[1, 2, 3]], "a database that is away is not asked for each"

    asyncio.run(scenario())


def test_a_call_cancelled_before_its_batch_sets_out_is_never_made() -> None:
    async def scenario() -> None:
        work = Work()
        batch = Batch[int, int](work)
        work.may_go_on.clear()
        first = asyncio.create_task(batch(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second, third = asyncio.create_task(batch(2)), asyncio.create_task(batch(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        work.may_go_on.set()
        assert [await first, await third] == [2, 6]
        assert work.batches == [[1], [3]]

    asyncio.run(scenario())


def asked(count: int) -> list[Run]:
    assistant = make_assistant(project=make_project(), tools=[])
    for _ in range(count):
        runs.ask(assistant=assistant, text="x?")
    return Run.objects.claim(driver=ME, now=timezone.now(), limit=count)


def begun(claimed: Sequence[Run]) -> list[Begun]:
    results = ledger.begin_all(claimed, driver=ME)
    return [one for one in results if isinstance(one, Begun)]


def statements(call: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as seen:
        call()
    return len(seen)


@pytest.mark.django_db
def test_twenty_runs_begin_and_start_with_as_many_statements_as_two(settings: Settings) -> None:
    settings.DRIVER_LEASE_SECONDS = 600

    def begin_and_start(claimed: Sequence[Run]) -> None:
        started = [(one.attempt, Progress("working", state={"id": "r"})) for one in begun(claimed)]
        assert len(started) == len(claimed)
        assert all(recording.record_starts(started, driver=ME))

    few, many = asked(2), asked(20)
    begin_and_start(asked(1))
    assert statements(lambda: begin_and_start(many)) == statements(lambda: begin_and_start(few))


def left_under_way(count: int) -> list[Run]:
    """Started by a driver that is gone, and claimed again."""
    started = [(one.attempt, Progress("working", state={"id": "r"})) for one in begun(asked(count))]
    assert all(recording.record_starts(started, driver=ME))
    Run.objects.filter(leased_by=ME).update(leased_by="gone", lease_expires_at=timezone.now())
    return Run.objects.claim(driver=ME, now=timezone.now(), limit=count)


@pytest.mark.django_db
def test_twenty_runs_are_taken_over_with_as_many_statements_as_two() -> None:
    few, many = left_under_way(2), left_under_way(20)
    assert statements(lambda: begun(many)) == statements(lambda: begun(few))


@pytest.mark.django_db
def test_runs_that_are_taken_over_are_looked_at_each_with_its_own_state() -> None:
    claimed = left_under_way(2)
    RunAttempt.objects.filter(run=claimed[1]).update(state={"id": "s"})
    looks = [one.work for one in begun(claimed)]
    states = {look.run_id: look.state for look in looks if isinstance(look, Sighting)}
    assert states == {claimed[0].public_id: {"id": "r"}, claimed[1].public_id: {"id": "s"}}


@pytest.mark.django_db
def test_of_runs_that_are_taken_over_those_that_are_lost_again_are_let_be() -> None:
    mine, lost = claimed = left_under_way(2)
    Run.objects.filter(pk=lost.pk).update(leased_by="another")
    results = ledger.begin_all(claimed, driver=ME)
    assert isinstance(results[0], Begun)
    assert results[0].attempt.run_id == mine.pk
    assert results[1] is None


@pytest.mark.django_db
def test_of_runs_that_are_taken_over_one_that_nothing_is_known_of_is_started_again() -> None:
    known, unknown = claimed = left_under_way(2)
    RunAttempt.objects.filter(run=unknown).update(state=None)
    works = {one.attempt.run_id: type(one.work) for one in begun(claimed)}
    assert works == {known.pk: Sighting, unknown.pk: Turn}


@pytest.mark.django_db
def test_an_answer_takes_at_most_nine_statements_from_its_start_to_its_end() -> None:
    [run] = asked(1)
    [one] = begun([run])
    count = statements(lambda: recording.record(run, one.attempt, DONE, driver=ME))
    assert count <= 9


@pytest.mark.django_db
def test_each_run_of_a_batch_gets_its_own_thread_to_read() -> None:
    assistant = make_assistant(project=make_project())
    for text in ("one?", "two?"):
        runs.ask(assistant=assistant, text=text)
    claimed = Run.objects.claim(driver=ME, now=timezone.now(), limit=2)
    turns = [one.work for one in begun(claimed)]
    said = {turn.run_id: [message.text for message in turn.messages] for turn in turns}  # type: ignore[union-attr]
    assert said == {claimed[0].public_id: ["one?"], claimed[1].public_id: ["two?"]}


@pytest.mark.django_db
def test_of_a_batch_only_the_runs_still_held_begin() -> None:
    mine, lost = asked(2)
    Run.objects.filter(pk=lost.pk).update(leased_by="another")
    results = ledger.begin_all([mine, lost], driver=ME)
    assert isinstance(results[0], Begun)
    assert results[1] is None
    assert not RunAttempt.objects.filter(run=lost).exists()
    assert Run.objects.get(pk=lost.pk).state is RunStatus.QUEUED


@pytest.mark.django_db
def test_of_a_batch_of_starts_only_those_still_held_are_recorded() -> None:
    claimed = asked(2)
    both = begun(claimed)
    Run.objects.filter(pk=claimed[1].pk).update(leased_by="another")
    starts = [(one.attempt, Progress("working", state={"id": "r"})) for one in both]
    assert recording.record_starts(starts, driver=ME) == [True, False]
    states = [RunAttempt.objects.get(pk=one.attempt.pk).state for one in both]
    assert states == [{"id": "r"}, None]


@pytest.mark.django_db(transaction=True)
def test_one_answer_that_cannot_be_stored_leaves_the_others_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claimed = asked(3)
    all_begun = begun(claimed)
    move = Run.move

    def failing(self: Run, *args: object, **kwargs: object) -> bool:
        if self.pk == claimed[1].pk:
            raise DataError("too long")
        return move(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "move", failing)
    records = [(run, one.attempt, DONE) for run, one in zip(claimed, all_begun, strict=True)]
    results = recording.record_each(records, driver=ME)
    assert [results[0], results[2]] == [True, True]
    assert isinstance(results[1], DataError)
    stored = [Run.objects.get(pk=run.pk) for run in claimed]
    assert [run.status for run in stored] == ["completed", "in_progress", "completed"]
    assert [run.messages.count() for run in stored] == [1, 0, 1]


@pytest.mark.django_db
def test_the_events_of_a_run_are_numbered_without_holes() -> None:
    claimed = asked(3)
    for run, one in zip(claimed, begun(claimed), strict=True):
        recording.record(run, one.attempt, DONE, driver=ME)
    for run in claimed:
        numbers = list(RunEvent.objects.filter(run=run).values_list("seq", flat=True))
        assert numbers == list(range(1, len(numbers) + 1))
        assert RunEvent.objects.filter(run=run).last().type == "thread.run.completed"  # type: ignore[union-attr]
