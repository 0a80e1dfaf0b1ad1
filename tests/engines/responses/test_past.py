"""Later attempts of a run: what was said before is told again, and nothing is left to memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.base import (
    ConnectionInfo,
    MessageItem,
    Progress,
    ToolCall,
    ToolCallsItem,
    Usage,
)
from assistant_manager.engines.responses import ResponsesEngine
from assistant_manager.engines.responses.inputs import replayed
from tests.engines.conftest import Await
from tests.engines.responses.conftest import Ask
from tests.engines.turns import WEATHER, answer_of, sighting_of

NOTE = "Say it in French."
SUN, RAIN = '{"sky": "sun"}', '{"sky": "rain"}'
CALLS = {
    "tools": [
        {"name": "get_weather", "arguments": {"place": "Bern"}},
        {"name": "get_weather", "arguments": {"place": "Oslo"}},
    ]
}


def answered(asking: Progress, *outputs: str) -> list[Any]:
    """The items as the rows give them back, each call with its output."""
    left = iter(outputs)
    return [
        replace(item, calls=[replace(call, output=next(left)) for call in item.calls], done=True)
        if isinstance(item, ToolCallsItem)
        else item
        for item in asking.items
    ]


def kinds(body: dict[str, Any]) -> list[str]:
    return [item.get("role") or item["type"] for item in body["input"]]


def test_parallel_calls_wait_together_and_are_answered_together(play: Any, bodies: Any) -> None:
    asking = play(script=CALLS, tools=[WEATHER])
    assert asking.outcome == "requires_action"
    (item,) = asking.items
    assert not item.done
    assert [call.arguments for call in item.calls] == ['{"place": "Bern"}', '{"place": "Oslo"}']
    final = play(
        script=CALLS,
        tools=[WEATHER],
        tool_choice="required",
        past=answered(asking, SUN, RAIN),
        past_states=[asking.state],
        attempt=2,
    )
    assert final.outcome == "completed"
    assert answer_of(final) == f"The tools say: {SUN}, {RAIN}"
    body = bodies()[-1]
    assert kinds(body) == ["user", *["function_call"] * 2, *["function_call_output"] * 2]
    assert [item.get("output") for item in body["input"][3:]] == [SUN, RAIN]
    assert all("id" not in item and "status" not in item for item in body["input"])
    assert body["tool_choice"] == "auto"


def test_reasoning_goes_back_with_the_calls_it_led_to(play: Any, bodies: Any) -> None:
    script = {**CALLS, "reasoning": True}
    asking = play(script=script, tools=[WEATHER])
    final = play(
        script=script,
        tools=[WEATHER],
        past=answered(asking, SUN, RAIN),
        past_states=[asking.state],
        attempt=2,
    )
    assert final.outcome == "completed"
    thought = bodies()[-1]["input"][1]
    assert thought["type"] == "reasoning"
    assert thought["encrypted_content"]


def test_reasoning_stays_with_the_model_and_the_account_it_belongs_to(ask: Ask, play: Any) -> None:
    asking = play(script={**CALLS, "reasoning": True}, tools=[WEATHER])
    turn = ask(past=answered(asking, SUN, RAIN), past_states=[asking.state])
    elsewhere = replace(turn.connection, id=turn.connection.id + 1000)
    assert replayed(turn)[0]["type"] == "reasoning"
    for moved in (replace(turn, model="another"), replace(turn, connection=elsewhere)):
        assert {item["type"] for item in replayed(moved)} == {
            "function_call",
            "function_call_output",
        }


def test_a_reviewers_note_follows_the_answer_it_is_about(play: Any, bodies: Any) -> None:
    script = {"answer": "x = 1", "code": "print(1)", "reasoning": True}
    first = play("What is x?", script=script)
    second = play(
        "What is x?", script=script, past=first.items, past_states=[first.state], note=NOTE
    )
    assert second.outcome == "completed"
    body = bodies()[-1]
    assert kinds(body) == ["user", "reasoning", "code_interpreter_call", "assistant", "user"]
    assert body["input"][3]["content"] == "x = 1"
    assert NOTE in body["input"][4]["content"]


def test_a_note_keeps_its_place_in_the_attempts_after_it(play: Any, bodies: Any) -> None:
    first = play("Weather?", script={"answer": "Nice."}, tools=[WEATHER])
    past: dict[str, Any] = {"past": first.items, "past_states": [first.state], "note": NOTE}
    second = play("Weather?", script=CALLS, tools=[WEATHER], **past)
    assert second.outcome == "requires_action"
    past["past"] = [*first.items, *answered(second, SUN, RAIN)]
    past["past_states"] = [first.state, second.state]
    third = play("Weather?", script=CALLS, tools=[WEATHER], **past)
    assert third.outcome == "completed"
    assert kinds(bodies()[-1]) == [
        *("user", "assistant", "user"),
        *["function_call"] * 2,
        *["function_call_output"] * 2,
    ]
    past["past"] = [*past["past"], *third.items]
    past["past_states"] = [*past["past_states"], third.state]
    play("Weather?", tools=[WEATHER], **{**past, "note": "Shorter."})
    assert kinds(bodies()[-1])[-2:] == ["assistant", "user"]
    assert "Shorter." in bodies()[-1]["input"][-1]["content"]
    assert sum(NOTE in str(item) for item in bodies()[-1]["input"]) == 1


def test_calls_that_nobody_answered_are_not_told_again(ask: Ask, play: Any) -> None:
    asking = play(script={**CALLS, "reasoning": True}, tools=[WEATHER])
    turn = ask(past=answered(asking, SUN, None), past_states=[asking.state])
    assert [item["type"] for item in replayed(turn)] == ["function_call", "function_call_output"]


def test_what_another_engine_has_said_is_told_from_our_rows(play: Any, bodies: Any) -> None:
    call = ToolCall("call_1", "function", name="get_weather", arguments="{}", output=SUN)
    past = [
        MessageItem("a", "Let me see.", done=True),
        ToolCallsItem("b", [call], done=True),
        ToolCallsItem("c", [ToolCall("ci_1", "code_interpreter", input="1", logs="1")], done=True),
    ]
    progress = play(tools=[WEATHER], past=past, past_states=[{"cursor": 3}], attempt=2)
    assert progress.outcome == "completed"
    assert kinds(bodies()[-1]) == ["user", "assistant", "function_call", "function_call_output"]


def test_the_answer_may_be_as_long_as_all_attempts_have_left(play: Any, bodies: Any) -> None:
    play(max_completion_tokens=500, spent=Usage(10, 100), attempt=2)
    assert bodies()[-1]["max_output_tokens"] == 400


@pytest.mark.parametrize("spent", [485, 500, 900])
def test_nobody_is_asked_when_no_tokens_are_left(play: Any, bodies: Any, spent: int) -> None:
    progress = play(max_completion_tokens=500, spent=Usage(10, spent), attempt=2)
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_completion_tokens")
    assert progress.usage == Usage(0, 0)
    assert bodies() == []


def test_an_attempt_tells_its_own_tokens_only(
    play: Any, responses_connection: ConnectionInfo
) -> None:
    script = {"usage": {"input_tokens": 20, "output_tokens": 5}}
    assert play(script=script, spent=Usage(100, 100), attempt=2).usage == Usage(20, 5)


def test_an_attempt_that_was_found_again_is_taken_further_with_its_reasoning(
    responses: ResponsesEngine, ask: Ask, play: Any, wait_for: Await
) -> None:
    script = {**CALLS, "reasoning": True}
    lost = ask(script=script, tools=[WEATHER])
    started = wait_for(responses.start(lost))
    found = wait_for(responses.find(lost.connection, started.upstream_id))
    asking = wait_for(responses.look(replace(sighting_of(lost, started), state=found.state)))
    final = play(
        script=script,
        tools=[WEATHER],
        past=answered(asking, SUN, RAIN),
        past_states=[asking.state],
        attempt=2,
    )
    assert final.outcome == "completed"
