"""The assistants engine: what functions returned goes to the run that waits for it, and a
reviewer's note to a new one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.assistants import AssistantsEngine
from assistant_manager.engines.assistants.options import AssistantsOptions
from assistant_manager.engines.base import ConnectionInfo, MessageItem, ToolCallsItem, Usage
from tests.engines.assistants import next_attempt, persist, scripted, see_through
from tests.engines.conftest import Await
from tests.engines.turns import WEATHER, answer_of, finish, say, sighting_of
from tests.fakes.upstream.running import Upstream

TWO_CITIES = [
    {"name": "get_weather", "arguments": {"place": "Bern"}},
    {"name": "get_weather", "arguments": {"place": "Oslo"}},
]


def test_outputs_go_to_the_run_that_waits(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    turn = scripted(assistants_connection, {"tools": TWO_CITIES}, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    assert asking.outcome == "requires_action"
    (item,) = asking.items
    assert isinstance(item, ToolCallsItem)
    assert not item.done
    assert [call.output for call in item.calls] == [None, None]

    final = wait_for(finish(assistants, next_attempt(turn, asking, "sun", "snow")))

    assert final.outcome == "completed"
    assert answer_of(final) == "The tools say: sun, snow"
    assert [type(item) for item in final.items] == [MessageItem], "the calls were told before"
    assert len(upstream.journal("POST", "/runs")) == 1
    assert upstream.violations() == []


def test_tokens_are_told_once_over_both_attempts(
    assistants: AssistantsEngine, assistants_connection: ConnectionInfo, wait_for: Await
) -> None:
    script = {"tools": TWO_CITIES, "usage": {"input_tokens": 70, "output_tokens": 7}}
    turn = scripted(assistants_connection, script, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    final = wait_for(finish(assistants, next_attempt(turn, asking, "sun", "snow")))
    told = [usage for usage in (asking.usage, final.usage) if usage]
    assert sum(usage.prompt_tokens for usage in told) == 70
    assert sum(usage.completion_tokens for usage in told) == 7


@pytest.mark.parametrize("fault", ["cut_after", "500_after", "cut_before", "500"])
def test_outputs_whose_fate_is_unknown_reach_the_run_once(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    fault: str,
) -> None:
    script = {"tools": TWO_CITIES, "submit_faults": [fault]}
    turn = scripted(assistants_connection, script, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    final = wait_for(see_through(assistants, next_attempt(turn, asking, "sun", "snow")))
    assert answer_of(final) == "The tools say: sun, snow"
    assert len(upstream.journal("POST", "/runs")) == 1


def test_a_start_repeated_after_the_run_has_ended_finds_its_answer(
    assistants: AssistantsEngine, assistants_connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(assistants_connection, {"tools": TWO_CITIES}, tools=[WEATHER])
    follow_up = next_attempt(turn, wait_for(finish(assistants, turn)), "sun", "snow")
    first = wait_for(finish(assistants, follow_up))
    second = wait_for(finish(assistants, follow_up))  # as after a crash: nothing was tidied yet
    assert answer_of(second) == answer_of(first) == "The tools say: sun, snow"


def test_a_start_repeated_when_the_run_asks_for_more_goes_on_with_it(
    assistants: AssistantsEngine, assistants_connection: ConnectionInfo, wait_for: Await
) -> None:
    """As after a lost reply to the outputs: the run has gone on in the meantime."""
    turn = scripted(assistants_connection, {"tools": TWO_CITIES}, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    follow_up = next_attempt(turn, asking, "sun", "snow")
    started = wait_for(assistants.start(follow_up))
    again = wait_for(assistants.start(follow_up))
    assert again == started


def test_outputs_for_a_run_that_is_gone_begin_a_thread_that_tells_of_them(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    turn = scripted(assistants_connection, {"tools": TWO_CITIES[:1]}, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    upstream.forget(asking.state["run"])
    follow_up = next_attempt(turn, asking, "sun and wind", tool_choice="required")

    started = wait_for(persist(assistants.start, follow_up))
    wait_for(assistants.look(sighting_of(follow_up, started)))

    told = upstream.journal("POST", "/threads")[-1]["body"]["messages"][-1]
    assert told["role"] == "user"
    assert 'get_weather({"place": "Bern"}) returned:\nsun and wind' in told["content"]
    run = upstream.journal("POST", "/runs")[-1]["body"]
    assert "tool_choice" not in run, "a function demanded for ever would be called for ever"


def test_outputs_for_a_run_that_has_expired_there_begin_anew(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    script = {"tools": TWO_CITIES[:1], "patience": 0}
    turn = scripted(assistants_connection, script, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    started = wait_for(assistants.start(next_attempt(turn, asking, "sun")))
    assert started.state["thread"] != asking.state["thread"]
    assert any(asking.state["thread"] in entry["path"] for entry in upstream.journal("DELETE"))


def test_outputs_for_a_run_that_was_cancelled_there_begin_anew(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    keep = replace(assistants_connection, options=AssistantsOptions(keep_upstream=True))
    turn = scripted(keep, {"tools": TWO_CITIES[:1]}, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    wait_for(assistants.cancel(sighting_of(turn, asking)))
    started = wait_for(assistants.start(next_attempt(turn, asking, "sun")))
    assert started.state["thread"] != asking.state["thread"]
    assert upstream.journal("POST", "/submit_tool_outputs") == []


def test_a_note_is_asked_in_a_thread_of_its_own_after_the_answer_it_is_about(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    turn = scripted(assistants_connection, {"tools": TWO_CITIES[:1]}, tools=[WEATHER])
    asking = wait_for(finish(assistants, turn))
    follow_up = next_attempt(turn, asking, "sun")
    answered = wait_for(finish(assistants, follow_up))

    noted = next_attempt(follow_up, answered, note="Shorter, please.")
    started = wait_for(assistants.start(noted))

    assert started.state["thread"] != answered.state["thread"]
    messages: list[Any] = upstream.journal("POST", "/threads")[-1]["body"]["messages"]
    assert messages[1] == {"role": "assistant", "content": "The tools say: sun"}
    assert messages[-1] == {"role": "user", "content": "Shorter, please."}


def test_a_later_attempt_has_what_is_left_of_the_budget(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    limits = {"max_completion_tokens": 1000, "max_prompt_tokens": 1000}
    noted = {"attempt": 2, "note": "Again.", "past": [MessageItem("m", "x = 2", done=True)]}
    spent = Usage(prompt_tokens=100, completion_tokens=300)
    turn = scripted(assistants_connection, {}, spent=spent, **limits, **noted)
    wait_for(finish(assistants, turn))
    (run,) = upstream.journal("POST", "/runs")
    assert run["body"]["max_prompt_tokens"] == 900
    assert run["body"]["max_completion_tokens"] == 700


def test_the_front_of_a_long_thread_becomes_one_message(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    said = [
        say(f"{'question' if n % 2 == 0 else 'answer'} {n}", "assistant" if n % 2 else "user")
        for n in range(41)
    ]
    wait_for(finish(assistants, scripted(assistants_connection, {}, messages=said)))
    (thread,) = upstream.journal("POST", "/threads")
    messages = thread["body"]["messages"]
    assert len(messages) == 32
    front = [part["text"] for part in messages[0]["content"]]
    assert front[:5] == [
        "Earlier in this conversation:",
        "User:",
        "question 0",
        "Assistant:",
        "answer 1",
    ]
    assert front[-1] == "answer 9"
    assert messages[1] == {"role": "user", "content": "question 10"}
    assert messages[-1] == {"role": "user", "content": "question 40"}
    assert upstream.violations() == []
