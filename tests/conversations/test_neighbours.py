"""Drivers of one machine: the runs of one that is gone wait for no lease."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from assistant_manager.engines.base import Turn
from conversations import ledger, recording
from conversations.driver import Driver
from conversations.driver_names import new_name
from conversations.models import DriverHeartbeat, Run, RunStatus
from tests.conversations.driving import ask, wait
from tests.conversations.test_driver_names import NOBODY, another, proc
from tests.factories import make_run
from tests.fakes.engine import ScriptedEngine

__all__ = ["proc"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("proc")]

HOUR = timedelta(hours=1)


@pytest.fixture
def gone() -> str:
    """The name of a driver of this machine whose process has ended."""
    return another(new_name(), pid=NOBODY)


@pytest.fixture
def foreign(gone: str) -> str:
    """The same on another machine, or in another container."""
    return another(gone, place="0" * 16)


@pytest.fixture
def successor(scripted: None) -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.stop()


def held_by(driver: str) -> Run:
    far = timezone.now() + HOUR
    return make_run(
        status=RunStatus.IN_PROGRESS, due_at=None, leased_by=driver, lease_expires_at=far
    )


def leave(run: Run, driver: str) -> None:
    """Have `driver` hold it, for an hour from now."""
    far = timezone.now() + HOUR
    Run.objects.filter(pk=run.pk).update(leased_by=driver, lease_expires_at=far, due_at=None)


def claimable() -> set[Run]:
    return set(Run.objects.lapsed(timezone.now()))


def test_only_the_leases_of_those_who_are_gone_end(gone: str, foreign: str) -> None:
    left = {held_by(gone), held_by(gone)}
    for name in (new_name(), foreign, "dead", "here:999999999:0123abcd"):
        held_by(name)
    assert ledger.bury(buried=set()) == {gone}
    assert claimable() == left


def test_those_who_are_gone_no_longer_count_as_alive(gone: str, foreign: str) -> None:
    me = new_name()
    for name in (gone, foreign, me):
        ledger.heartbeat(driver=name, in_flight=0, now=timezone.now())
    assert ledger.bury(buried=set()) == {gone}
    alive = DriverHeartbeat.objects.values_list("name", flat=True)
    assert set(alive) == {foreign, me}


def test_where_nobody_is_gone_nothing_changes() -> None:
    held_by(new_name())
    assert ledger.bury(buried=set()) == set()
    assert claimable() == set()


def test_of_two_successors_each_run_gets_one(gone: str) -> None:
    left = [held_by(gone) for _ in range(3)]
    for _ in ("first", "second"):
        assert ledger.bury(buried=set()) == {gone}
    first = Run.objects.claim(driver="first", now=timezone.now(), limit=2)
    assert ledger.bury(buried=set()) == {gone}
    second = Run.objects.claim(driver="second", now=timezone.now(), limit=9)
    assert (len(first), len(second)) == (2, 1)
    assert {*first, *second} == set(left)
    assert [run.claims for run in (*first, *second)] == [1, 1, 1]


def test_what_was_left_late_is_found_by_the_next_look(gone: str) -> None:
    """A statement that was on its way as its process died may still be carried out."""
    held_by(gone)
    assert ledger.bury(buried=set()) == {gone}
    late = held_by(gone)
    assert ledger.bury(buried={gone}) == {gone}
    assert late in claimable()


def test_whoever_shows_a_sign_of_life_after_its_burial_is_left_alone(gone: str) -> None:
    assert claimable() == set()
    held_by(gone)
    ledger.heartbeat(driver=gone, in_flight=1, now=timezone.now())
    assert ledger.bury(buried={gone}) == set()
    assert claimable() == set()
    assert DriverHeartbeat.objects.filter(name=gone).exists()


def test_a_driver_begins_with_what_its_predecessor_has_left(
    successor: Driver, gone: str, foreign: str
) -> None:
    mine, others = ask(answer="x = 1"), ask(answer="x = 1")
    leave(mine, gone)
    leave(others, foreign)
    successor.start()
    assert wait(mine, "completed").claims == 1
    others.refresh_from_db()
    assert (others.status, others.leased_by) == ("queued", foreign)


def test_a_driver_that_runs_takes_up_what_a_neighbour_has_left(
    successor: Driver, gone: str
) -> None:
    successor.start()
    wait(ask(), "completed")
    with transaction.atomic():
        run = ask()
        leave(run, gone)
    assert wait(run, "completed").claims == 1


def test_what_a_predecessor_has_started_is_looked_at_and_not_started_again(
    successor: Driver, gone: str
) -> None:
    run = ask(answer="x = 1")
    [claimed] = Run.objects.claim(driver=gone, now=timezone.now(), limit=1)
    begun = ledger.begin(claimed, driver=gone)
    assert begun is not None
    assert isinstance(begun.work, Turn)
    started = asyncio.run(ScriptedEngine().start(begun.work))
    assert recording.record_starts([(begun.attempt, started)], driver=gone) == [True]
    leave(run, gone)
    successor.start()
    assert wait(run, "completed").claims == 2
    assert ScriptedEngine.starts[f"{run.public_id}:1"] == 1
    assert run.attempts.count() == 1
    assert run.messages.filter(role="assistant").count() == 1
