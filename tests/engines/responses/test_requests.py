"""What is asked: every field of a run in the upstream's words."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_manager.engines.base import TurnMessage
from tests.engines.turns import CODE, WEATHER, say
from tests.fakes.upstream.running import Upstream

SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "description": "The answer.",
        "schema": {"type": "object", "properties": {"x": {"type": "number"}}},
        "strict": True,
    },
}


@pytest.fixture
def asked(play: Any, bodies: Any) -> Any:
    """The body that a turn becomes."""

    def body(*questions: Any, **changes: Any) -> dict[str, Any]:
        play(*questions, **changes)
        last: dict[str, Any] = bodies()[-1]
        return last

    return body


def test_a_background_answer_is_asked_for_and_says_whose_it_is(
    asked: Any, upstream: Upstream
) -> None:
    body = asked("What is x?")
    assert body["background"]
    assert body["store"]
    assert body["truncation"] == "disabled"
    assert body["metadata"] == {
        "am_run": "run_000000000000000000000001",
        "am_attempt": "attempt-1",
    }
    assert body["input"] == [{"type": "message", "role": "user", "content": "What is x?"}]
    (entry,) = upstream.journal("POST", "/responses")
    assert entry["headers"]["idempotency-key"] == "attempt-1"


def test_what_a_run_leaves_open_is_not_said(asked: Any) -> None:
    body = asked("Hello", tools=[], instructions="")
    assert not body.keys() & {
        *("instructions", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p"),
        *("reasoning", "text", "max_output_tokens"),
    }


def test_each_parameter_of_a_run_has_its_field(asked: Any) -> None:
    body = asked(
        temperature=0.5,
        top_p=0.9,
        reasoning_effort="low",
        max_completion_tokens=500,
        parallel_tool_calls=False,
        response_format=SCHEMA,
    )
    assert (body["temperature"], body["top_p"]) == (0.5, 0.9)
    assert body["reasoning"] == {"effort": "low"}
    assert body["max_output_tokens"] == 500
    assert body["parallel_tool_calls"] is False
    schema = SCHEMA["json_schema"]
    assert body["text"] == {"format": {"type": "json_schema", **schema}}


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ("auto", None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"format": {"type": "json_object"}}),
        (
            {"type": "json_schema", "json_schema": {"name": "anything"}},
            {"format": {"type": "json_schema", "name": "anything", "schema": {}}},
        ),
    ],
)
def test_formats_of_the_answer(asked: Any, wanted: Any, sent: Any) -> None:
    assert asked(response_format=wanted).get("text") == sent


def test_functions_always_say_whether_they_are_strict(asked: Any) -> None:
    bare = {"type": "function", "function": {"name": "now"}}
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    first, second = asked(tools=[bare, strict])["tools"]
    assert first == {
        "type": "function",
        "name": "now",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    assert second["strict"] is True
    assert second["parameters"] == WEATHER["function"]["parameters"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        (
            {"type": "function", "function": {"name": "get_weather"}},
            {"type": "function", "name": "get_weather"},
        ),
        ({"type": "code_interpreter"}, {"type": "code_interpreter"}),
        # There is nothing to search: the tool is not offered and cannot be demanded.
        ({"type": "file_search"}, "auto"),
    ],
)
def test_tool_choices(asked: Any, choice: Any, sent: Any) -> None:
    tools = [CODE, WEATHER, {"type": "file_search"}]
    assert asked(tools=tools, tool_choice=choice)["tool_choice"] == sent


def test_results_of_hosted_tools_are_asked_for_only_where_there_are_any(asked: Any) -> None:
    secret = "reasoning.encrypted_content"
    assert asked(tools=[CODE])["include"] == ["code_interpreter_call.outputs", secret]
    assert asked(tools=[WEATHER])["include"] == [secret]


def test_a_look_asks_for_the_same_results_as_the_start(play: Any, upstream: Upstream) -> None:
    play(script={"code": "print(1)"})
    looks = [entry for entry in upstream.journal("GET") if "/responses/" in entry["path"]]
    assert looks
    assert all("code_interpreter_call.outputs" in str(look["query"].values()) for look in looks)


def test_an_upstream_may_be_spared_fields_it_does_not_know(asked: Any) -> None:
    spared = ("truncation", "metadata", "include", "temperature")
    body = asked(temperature=1.0, options={"leave_out": spared, "background": False})
    assert not body.keys() & set(spared)
    assert body["background"] is False
    assert body["store"] is False


def test_parts_of_a_message_keep_their_order(asked: Any) -> None:
    url = "https://example.org/cat.png"
    parts = [
        {"type": "text", "text": {"value": "Look:", "annotations": []}},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": {"value": "A cat?", "annotations": []}},
    ]
    (message,) = asked(TurnMessage("user", parts))["input"]
    assert message["content"] == [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_text", "text": "A cat?"},
    ]


def test_earlier_answers_are_told_as_text_without_the_marks_of_their_citations(asked: Any) -> None:
    mark = {"type": "file_citation", "text": "【1†a.txt】", "file_citation": {"file_id": "file-1"}}
    answer = TurnMessage(
        "assistant",
        [
            {"type": "image_file", "image_file": {"file_id": "file-2"}},
            {"type": "text", "text": {"value": "It is 4.【1†a.txt】", "annotations": [mark]}},
        ],
    )
    body = asked(say("What is it?"), answer, say("Sure?"))
    assert body["input"][1] == {
        "type": "message",
        "role": "assistant",
        "content": "It is 4.",
    }


@pytest.mark.parametrize("parameter", ["temperature", "top_p"])
def test_a_parameter_that_the_model_does_not_take_is_dropped_once_and_remembered(
    play: Any, bodies: Any, parameter: str
) -> None:
    script = {"id": "u", "faults": ["unsupported"], "unsupported": parameter}
    progress = play(script=script, temperature=0.1, top_p=0.2)
    assert progress.outcome == "completed"
    assert progress.state["dropped"] == [parameter]
    refused, taken = bodies()
    assert parameter in refused
    assert parameter not in taken
    play(temperature=0.1, top_p=0.2)
    assert parameter not in bodies()[-1]


def test_a_model_that_does_not_reason_is_not_asked_for_its_reasoning(
    play: Any, bodies: Any
) -> None:
    script = {"id": "u", "faults": ["unsupported"], "unsupported": "include"}
    assert play(script=script).outcome == "completed"
    assert [body["include"] for body in bodies()] == [
        ["code_interpreter_call.outputs", "reasoning.encrypted_content"],
        ["code_interpreter_call.outputs"],
    ]
