"""Runs that wait for their next look keep no rows and no task; nothing else is different."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from django.utils import timezone

from assistant_manager.engines.base import MessageItem, Progress, Sighting, ToolCall, ToolCallsItem
from assistant_manager.engines.exceptions import Unavailable
from assistant_manager.models import Connection, Model
from conversations import care
from conversations.driver import Driver
from conversations.ledger import Held
from conversations.models import Run
from conversations.services import runs
from tests.conversations.driving import ask, wait, wait_for, wait_until
from tests.factories import make_assistant
from tests.fakes.engine import KIND, ScriptedEngine

GATED = json.dumps({"gate": True, "look_again": 0.05})

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted")]


@pytest.fixture(autouse=True)
def always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waits for a look is parked, so that no test has to wait for long."""
    monkeypatch.setattr(care, "WORTH_PARKING", 0.0)


def parked(driver: Driver, run: Run) -> Run:
    wait_for(lambda: run.pk in driver._parking.by_run and not driver._tasks)
    run.refresh_from_db()
    return run


def narrow() -> str:
    """The model of a connection with one place."""
    connection = Connection.objects.create(name="Narrow", kind=KIND, max_concurrent=1)
    return Model.objects.create(name="narrow", connection=connection).name


def open_gate() -> None:
    ScriptedEngine.gate.set()


def test_a_parked_run_is_in_flight_and_leased(driver: Driver) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05))
    assert driver.in_flight == 1
    assert (run.status, run.leased_by) == ("in_progress", driver.name)


def test_its_answer_is_recorded_and_nothing_is_left(driver: Driver) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05, code="print(1)"))
    open_gate()
    run = wait(run, "completed")
    assert [step.type for step in run.steps.order_by("pk")] == [
        "tool_calls",
        "message_creation",
    ]
    wait_for(lambda: driver.in_flight == 0)


def test_a_look_that_tells_nothing_new_reads_no_rows(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parked(driver, ask(gate=True, look_again=0.01))
    looks: list[str] = []
    reads: list[int] = []
    look, held = ScriptedEngine.look, driver._desk.held

    async def counting(self: ScriptedEngine, sighting: Sighting) -> Progress:
        looks.append(sighting.run_id)
        return await look(self, sighting)

    async def reading(run: int) -> Held | None:
        reads.append(run)
        return await held(run)

    monkeypatch.setattr(driver._desk, "held", reading)
    monkeypatch.setattr(ScriptedEngine, "look", counting)
    wait_for(lambda: len(looks) >= 5)
    assert (set(looks), reads) == ({run.public_id}, [])
    open_gate()
    wait(run, "completed")
    assert reads == [run.pk]


def test_what_a_look_met_is_met_with_the_rows_at_hand(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05))
    look = ScriptedEngine.look

    async def away(self: ScriptedEngine, sighting: Sighting) -> Progress:
        if not self.gate.is_set():
            raise Unavailable("It is away.", retry_after=0.05)
        return await look(self, sighting)

    monkeypatch.setattr(ScriptedEngine, "look", away)
    wait_until(run, lambda: run.waiting_for == "It is away.")
    open_gate()
    run = wait(run, "completed")
    assert (run.attempt, run.waiting_for) == (1, "")


def test_a_forgotten_attempt_is_made_again(driver: Driver) -> None:
    run = wait(ask(look_again=0.05, forget=1), "completed")
    assert run.attempt == 2


def test_an_upstream_that_forgets_again_and_again_fails_the_run(driver: Driver) -> None:
    run = wait(ask(look_again=0.05, forget=99), "failed")
    assert run.last_error is not None
    assert "forgot this run" in run.last_error["message"]
    assert run.attempt == 3


def test_an_unforeseen_fault_of_a_look_fails_its_run(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05))

    async def faulty(self: ScriptedEngine, sighting: Sighting) -> Progress:
        raise ZeroDivisionError

    monkeypatch.setattr(ScriptedEngine, "look", faulty)
    wait(run, "failed")
    wait_for(lambda: driver.in_flight == 0)


def test_a_look_that_tells_less_than_an_earlier_one_takes_nothing_back(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ToolCall(id="call_1", type="code_interpreter", input="print(1)", logs="1")
    code = ToolCallsItem("code", [call], done=True)
    answer = MessageItem("answer", "x = 1", done=True)
    told = iter([("working", [code]), ("working", []), ("completed", [code, answer])])

    async def look(self: ScriptedEngine, sighting: Sighting) -> Progress:
        outcome, items = next(told)
        return Progress(outcome, items, state=sighting.state, look_again=0.05)

    monkeypatch.setattr(ScriptedEngine, "look", look)
    run = wait(ask(look_again=0.05), "completed", "failed")
    assert (run.status, run.steps.count()) == ("completed", 2)


def test_a_look_that_is_broken_off_inside_is_made_again(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05))
    look, faults = ScriptedEngine.look, iter([asyncio.CancelledError()])

    async def broken_once(self: ScriptedEngine, sighting: Sighting) -> Progress:
        for fault in faults:
            raise fault
        return await look(self, sighting)

    monkeypatch.setattr(ScriptedEngine, "look", broken_once)
    open_gate()
    wait(run, "completed")


def test_a_parked_run_can_be_cancelled(driver: Driver) -> None:
    run = parked(driver, ask(gate=True, look_again=3600))
    runs.cancel_run(run=run)
    run = wait(run, "cancelled")
    wait_for(lambda: run.public_id in ScriptedEngine.cancelled)
    wait_for(lambda: driver.in_flight == 0)


def test_its_time_is_up_whatever_a_look_waits_for(
    driver: Driver, time_is_up: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = asyncio.Event()

    async def deaf(self: ScriptedEngine, sighting: Sighting) -> Progress:
        looking.set()
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if driver._stopping:
                    raise

    monkeypatch.setattr(ScriptedEngine, "look", deaf)
    run = ask(look_again=0.05)
    wait_for(looking.is_set)
    time_is_up(run)
    run = wait(run, "expired")
    wait_for(lambda: run.public_id in ScriptedEngine.cancelled)
    wait_for(lambda: driver.in_flight == 0)


def test_it_keeps_its_place_at_a_limited_connection_to_its_end(driver: Driver) -> None:
    assistant = make_assistant(instructions=GATED, model=narrow())
    first = parked(driver, runs.ask(assistant=assistant, text="What is x?"))
    second = runs.ask(assistant=assistant, text="What is y?")
    wait_until(second, lambda: second.waiting_for != "")
    assert second.status == "queued"
    open_gate()
    wait(first, "completed")
    wait(second, "completed")
    wait_for(lambda: driver.in_flight == 0)


def test_a_knock_leaves_it_its_place(driver: Driver) -> None:
    assistant = make_assistant(instructions=GATED, model=narrow())
    first = parked(driver, runs.ask(assistant=assistant, text="What is x?"))
    second = runs.ask(assistant=assistant, text="What is y?")
    wait_until(second, lambda: second.waiting_for != "")
    before = driver._parking.by_run[first.pk]
    Run.objects.filter(pk=first.pk).update(due_at=timezone.now())
    driver.nudge()
    wait_for(lambda: driver._parking.by_run.get(first.pk) not in (before, None))
    assert ScriptedEngine.starts[f"{second.public_id}:1"] == 0
    open_gate()
    wait(second, "completed")


def test_another_driver_s_run_is_dropped(driver: Driver) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05))
    Run.objects.filter(pk=run.pk).update(leased_by="another")
    open_gate()
    wait_for(lambda: driver.in_flight == 0)
    run.refresh_from_db()
    assert (run.status, run.leased_by) == ("in_progress", "another")


def test_a_deleted_run_is_dropped(driver: Driver) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05))
    run.thread.delete()
    open_gate()
    wait_for(lambda: driver.in_flight == 0)


def test_a_driver_that_stops_hands_parked_runs_over(driver: Driver) -> None:
    run = parked(driver, ask(gate=True, look_again=0.05))
    driver.stop()
    run.refresh_from_db()
    assert (run.status, run.leased_by) == ("in_progress", None)
    second = Driver()
    second.start()
    try:
        open_gate()
        run = wait(run, "completed")
    finally:
        second.stop()
    assert run.attempt == 1
