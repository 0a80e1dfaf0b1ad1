"""What every engine promises the driver. An engine joins by adding itself to `ENGINES`.

Turns reach it by the connection that the fixture `<engine>_connection` gives. Instructions that
are JSON are a script for the fake upstream; the embedded engine only counts them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.base import Engine, Progress, ToolCall, ToolCallsItem, Turn
from tests.engines.conftest import Await
from tests.engines.turns import WEATHER, answer_of, finish, make_turn, sighting_of

# By the name of the fixture that gives a ready engine.
ENGINES = ["embedded", "assistants", "chat", "responses", "listening"]
CALLS_WEATHER = json.dumps(
    {
        "tools": [
            {"name": "get_weather", "arguments": {"place": "Bern", "unit": "celsius", "days": 2}}
        ]
    }
)
FORCED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture(params=ENGINES)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(request: pytest.FixtureRequest, way: str) -> Engine:
    made: Engine = request.getfixturevalue(way)
    return made


@pytest.fixture
def ask(request: pytest.FixtureRequest, way: str) -> Callable[..., Turn]:
    """Makes a turn that reaches the engine's upstream, if it has one."""
    connection = request.getfixturevalue(f"{way}_connection")
    return lambda *questions, **changes: make_turn(*questions, connection=connection, **changes)


@pytest.fixture
def play(engine: Engine, ask: Callable[..., Turn], wait_for: Await) -> Callable[..., Progress]:
    return lambda *questions, **changes: wait_for(finish(engine, ask(*questions, **changes)))


def without_clock(progress: Progress) -> Progress:
    """The progress without how long its code took."""
    items = [
        replace(item, calls=[replace(call, notes={}) for call in item.calls])
        if isinstance(item, ToolCallsItem)
        else item
        for item in progress.items
    ]
    return replace(progress, items=items)


def test_a_question_ends_with_an_answer(play: Any) -> None:
    progress = play()
    assert progress.outcome == "completed"
    assert "x = 1" in answer_of(progress)
    assert all(item.done for item in progress.items)


def test_the_state_and_the_answer_survive_the_trip_through_a_row(
    engine: Engine, ask: Any, wait_for: Await
) -> None:
    progress = wait_for(engine.start(ask()))
    assert json.loads(json.dumps(progress.state)) == progress.state


def test_looking_again_after_a_crash_gives_the_same_progress(
    engine: Engine, ask: Any, wait_for: Await
) -> None:
    turn = ask()
    sighting = sighting_of(turn, wait_for(engine.start(turn)))
    first = wait_for(engine.look(sighting))
    while engine.works_here and first.outcome == "working":  # it goes on between two looks
        first = wait_for(engine.look(sighting))
    assert without_clock(first) == without_clock(wait_for(engine.look(sighting)))


def test_an_item_keeps_its_key_and_its_call_ids_from_look_to_look(
    engine: Engine, ask: Any, wait_for: Await
) -> None:
    turn = ask()
    started = wait_for(engine.start(turn))
    looked = wait_for(engine.look(sighting_of(turn, started)))
    for before, after in zip(started.items, looked.items, strict=False):
        assert before.key == after.key
        if isinstance(before, ToolCallsItem):
            assert [call.id for call in before.calls] == [call.id for call in after.calls]


def test_keys_are_unique_inside_an_attempt(play: Any) -> None:
    keys = [item.key for item in play().items]
    assert len(set(keys)) == len(keys)


def test_a_forced_function_waits_for_its_output_and_then_answers(play: Any) -> None:
    forced = {"tools": [WEATHER], "tool_choice": FORCED, "instructions": CALLS_WEATHER}
    asking = play(**forced)
    assert asking.outcome == "requires_action"
    (item,) = asking.items
    (call,) = item.calls
    assert isinstance(call, ToolCall)
    assert (call.type, call.name, call.output) == ("function", "get_weather", None)
    assert json.loads(call.arguments)["days"] >= 2
    answered = replace(item, calls=[replace(call, output='{"sky": "blue-42"}')], done=True)
    answered_too = {"past": [answered], "past_states": [asking.state]}
    final = play(**forced, **answered_too, attempt=2, attempt_key="attempt-2")
    assert final.outcome == "completed"
    assert "blue-42" in answer_of(final)


def test_cancelling_is_taken_at_any_time_and_twice(
    engine: Engine, ask: Any, wait_for: Await
) -> None:
    turn = ask(run_id="run_to_be_cancelled")
    sighting = sighting_of(turn, wait_for(engine.start(turn)))
    wait_for(engine.cancel(sighting))
    wait_for(engine.cancel(sighting))


def test_any_script_of_the_world_is_read_and_counted(play: Any) -> None:
    progress = play("Решите 3x + 11 = 14, спасибо 🙏 — 数学")
    assert progress.outcome == "completed"
    assert answer_of(progress).encode()
    assert progress.usage.prompt_tokens > 0


def test_usage_is_told_when_the_attempt_ends(play: Any) -> None:
    for progress in (play(), play(tools=[WEATHER], tool_choice=FORCED)):
        assert progress.usage is not None
        assert progress.usage.prompt_tokens > 0
        assert progress.usage.completion_tokens > 0


def test_an_answer_never_passes_the_token_limit(play: Any) -> None:
    long = json.dumps({"answer": "Everything there is. " * 20})
    progress = play("Tell me everything.", instructions=long, max_completion_tokens=3)
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_completion_tokens")
    assert progress.usage.completion_tokens <= 3
