"""How much of a thread is sent: within the run's limits, and within the model's window."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from assistant_manager.engines.base import TurnMessage, Usage
from assistant_manager.engines.exceptions import Rejected
from tests.engines.turns import WEATHER, say
from tests.fakes.upstream.running import Upstream

WORDS = "word " * 80  # a hundred tokens


def thread(length: int) -> list[TurnMessage]:
    """Questions and answers of about a hundred tokens each; the last is a question."""
    return [
        say(f"{number}: {WORDS}", "user" if (length - number) % 2 else "assistant")
        for number in range(length)
    ]


def numbers(body: dict[str, Any]) -> list[int]:
    return [int(item["content"].partition(":")[0]) for item in body["input"]]


def test_older_messages_are_left_out_beyond_the_runs_limit(play: Any, bodies: Any) -> None:
    assert play(*thread(40), max_prompt_tokens=1000).outcome == "completed"
    sent = numbers(bodies()[-1])
    assert sent == list(range(40))[-len(sent) :]
    assert 3 <= len(sent) <= 9


def test_the_first_message_sent_stays_the_same_from_question_to_question(
    play: Any, bodies: Any
) -> None:
    for length in range(21, 61, 2):
        play(*thread(length), tools=[], options={"context_window": 8000}, max_prompt_tokens=2100)
    firsts = [numbers(body)[0] for body in bodies()]
    assert sum(before != after for before, after in pairwise(firsts)) <= 10
    assert firsts == sorted(firsts)


def test_older_messages_are_left_out_beyond_the_models_window(play: Any, bodies: Any) -> None:
    play(*thread(60), options={"context_window": 4400}, max_completion_tokens=1000)
    assert 20 <= len(numbers(bodies()[-1])) <= 34


def test_a_run_whose_last_message_does_not_fit_ends_without_being_asked(
    play: Any, bodies: Any
) -> None:
    progress = play(say("word " * 2000), max_prompt_tokens=500)
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_prompt_tokens")
    assert bodies() == []


def test_the_limit_holds_for_all_attempts_of_a_run_together(play: Any, bodies: Any) -> None:
    progress = play(*thread(5), max_prompt_tokens=1000, spent=Usage(950, 10), attempt=2)
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_prompt_tokens")
    assert bodies() == []


def test_instructions_and_tools_count_too(play: Any) -> None:
    long = {**WEATHER, "function": {**WEATHER["function"], "description": WORDS * 10}}
    progress = play("Hello", tools=[long], max_prompt_tokens=500)
    assert progress.incomplete_reason == "max_prompt_tokens"


def test_a_last_message_beyond_the_window_is_for_the_upstream_to_judge(
    play: Any, bodies: Any
) -> None:
    play(say("0:" + "word " * 5000), options={"context_window": 1000})
    assert numbers(bodies()[-1]) == [0]


def test_a_thread_that_the_upstream_finds_too_long_is_shortened(play: Any, bodies: Any) -> None:
    script = {"id": "long", "faults": ["context", "context"]}
    assert play(*thread(40), script=script).outcome == "completed"
    lengths = [len(numbers(body)) for body in bodies()]
    assert lengths[0] == 40
    assert lengths[0] > lengths[1] > lengths[2] >= 1
    assert numbers(bodies()[-1])[-1] == 39


def test_a_single_message_that_the_upstream_finds_too_long_fails_the_run(
    play: Any, bodies: Any
) -> None:
    with pytest.raises(Rejected, match="context window") as refused:
        play("Hello", script={"id": "long", "faults": ["context"] * 9})
    assert refused.value.code == "invalid_prompt"
    assert len(bodies()) == 1


def test_the_upstream_may_be_asked_to_count(play: Any, bodies: Any, upstream: Upstream) -> None:
    options = {"counts_tokens": True}
    assert play(*thread(40), max_prompt_tokens=1000, options=options).outcome == "completed"
    assert 3 <= len(numbers(bodies()[-1])) <= 9
    counts = upstream.journal("POST", "/responses/input_tokens")
    assert counts[-1]["body"]["input"] == bodies()[-1]["input"]
    progress = play(say("word " * 2000), max_prompt_tokens=500, options=options)
    assert progress.incomplete_reason == "max_prompt_tokens"
    assert len(bodies()) == 1
