"""What a Chat Completions server is asked, and the quirks a connection declares."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.base import (
    ConnectionInfo,
    MessageItem,
    ToolCall,
    ToolCallsItem,
    TurnFile,
    TurnMessage,
)
from assistant_manager.engines.chat import ChatEngine
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.exceptions import Rejected
from tests.engines.chat import asked, scripted
from tests.engines.conftest import Await
from tests.engines.turns import CODE, WEATHER, answer_of, finish, say
from tests.fakes.upstream.running import Upstream

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SEARCH = {"type": "file_search"}


@pytest.fixture
def connection(chat_connection: ConnectionInfo) -> ConnectionInfo:
    return chat_connection


@pytest.fixture
def body(chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await) -> Any:
    """Ask, and return the one request that was made."""

    def ask(*questions: Any, **changes: Any) -> dict[str, Any]:
        turn = scripted(connection, {}, *questions, **{"tools": [], **changes})
        progress = wait_for(finish(chat, turn))
        assert progress.outcome == "completed", progress.error
        (made,) = asked(upstream)
        return made

    return ask


@pytest.fixture
def refusal(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> Any:
    """Ask what must be refused before anything is sent, and return why."""

    def ask(*questions: Any, **changes: Any) -> Rejected:
        with pytest.raises(Rejected) as refused:
            wait_for(finish(chat, scripted(connection, {}, *questions, **changes)))
        assert asked(upstream) == []
        return refused.value

    return ask


def picture(id: str = "file-1", **more: str) -> TurnMessage:
    parts = [
        {"type": "text", "text": {"value": "What is this?", "annotations": []}},
        {"type": "image_file", "image_file": {"file_id": id, **more}},
    ]
    return TurnMessage("user", parts)


def file(id: str, name: str, content: bytes) -> dict[str, TurnFile]:
    return {id: TurnFile(id, name, len(content), lambda: content)}


def test_every_setting_of_the_run_is_sent(body: Any) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    made = body(
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        response_format=schema,
        temperature=0.2,
        top_p=0.9,
        max_completion_tokens=500,
    )
    del made["messages"]
    assert made == {
        "model": "gpt-4-1106-preview",
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "response_format": schema,
        "temperature": 0.2,
        "top_p": 0.9,
        "max_completion_tokens": 500,
    }


def test_what_a_function_leaves_open_is_left_out(body: Any) -> None:
    """Servers that know no `strict` refuse a null."""
    function = {"type": "function", "function": {**WEATHER["function"], "strict": None}}
    assert body(tools=[function])["tools"] == [WEATHER]


def test_what_is_at_its_default_is_not_sent(body: Any) -> None:
    assert set(body()) == {"model", "messages", "stream", "stream_options"}


def test_the_upstream_is_told_whose_request_it_is(body: Any, upstream: Upstream) -> None:
    body(run_id="run_whose")
    (entry,) = upstream.journal("POST", "/chat/completions")
    assert entry["headers"]["x-am-run"] == "run_whose"


def test_instructions_and_messages_go_in_their_order(body: Any) -> None:
    made = body("One?", say("First.", "assistant"), "Two?", instructions="{} Be short.")
    assert made["messages"] == [
        {"role": "system", "content": "{} Be short."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "First."},
        {"role": "user", "content": "Two?"},
    ]


def test_a_server_may_know_the_instructions_by_another_role(body: Any) -> None:
    made = body(options={"system_role": "developer"})
    assert made["messages"][0]["role"] == "developer"


@pytest.mark.parametrize("question", ["Why?", picture()])
def test_without_a_system_role_the_instructions_open_the_first_question(
    body: Any, question: Any
) -> None:
    made = body(
        question,
        options={"system_role": "none"},
        instructions="{} Be short.",
        files=file("file-1", "a.png", PNG),
    )
    (message,) = made["messages"]
    content = message["content"]
    assert message["role"] == "user"
    if isinstance(content, list):
        content = "\n\n".join(part["text"] for part in content if part["type"] == "text")
    assert content in ("{} Be short.\n\nWhy?", "{} Be short.\n\nWhat is this?")


def test_a_model_may_insist_on_taking_turns(body: Any) -> None:
    answers = [TurnMessage("assistant", say(text).content) for text in ("Yes.", "No.")]
    thread = ["One?", "Two?", *answers, "Three?", picture()]
    files = file("file-1", "a.png", PNG)
    sent = body(*thread, files=files, options={"merge_neighbours": True})["messages"][1:]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [message["content"] for message in sent[:2]] == ["One?\n\nTwo?", "Yes.\n\nNo."]
    assert [part["type"] for part in sent[2]["content"]] == ["text", "text", "image_url"]


def test_taking_turns_leaves_calls_and_outputs_apart(body: Any) -> None:
    calls = [ToolCall(f"call_{n}", "code_interpreter", input="1", logs="1") for n in range(2)]
    past = [ToolCallsItem("a", calls), ToolCallsItem("b", calls[:1]), MessageItem("c", "So.")]
    changes = {"past": past, "note": "Shorter.", "attempt": 2, "tools": [CODE]}
    sent = body("Why?", **changes, options={"merge_neighbours": True})["messages"][1:]
    roles = [message["role"] for message in sent]
    assert roles == [
        "user",
        *("assistant", "tool", "tool"),
        "assistant",
        "tool",
        "assistant",
        "user",
    ]


def test_a_server_may_call_the_token_limit_otherwise(body: Any) -> None:
    made = body(options={"token_limit": "max_tokens"}, max_completion_tokens=50)
    assert made["max_tokens"] == 50
    assert "max_completion_tokens" not in made


def test_reasoning_effort_is_sent_where_the_server_knows_it(body: Any) -> None:
    assert (
        body(options={"reasoning_effort": True}, reasoning_effort="low")["reasoning_effort"]
        == "low"
    )


def test_reasoning_effort_is_left_out_elsewhere(body: Any) -> None:
    assert "reasoning_effort" not in body(reasoning_effort="low")


def test_token_counts_need_not_be_asked_for(body: Any) -> None:
    assert "stream_options" not in body(options={"stream_usage": False})


def test_a_parameter_that_a_model_refuses_is_left_out_from_then_on(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    for faults in (["unsupported"], []):
        turn = scripted(connection, {"faults": faults}, temperature=0.5, top_p=0.5)
        assert wait_for(finish(chat, turn)).outcome == "completed"
    sent = [body.get("temperature") for body in asked(upstream)]
    assert sent == [0.5, None, None]
    assert all(body["top_p"] == 0.5 for body in asked(upstream))


def test_pictures_of_ours_are_sent_whole(body: Any) -> None:
    made = body(picture(detail="low"), files=file("file-1", "a.png", PNG))
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert made["messages"][-1]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]


def test_pictures_of_the_web_are_sent_by_their_address(body: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    made = body(TurnMessage("user", [part]))
    assert made["messages"][-1]["content"] == [part]


def test_the_models_own_pictures_are_not_sent_back(body: Any) -> None:
    """The wire has no place for them."""
    drawn = TurnMessage(
        "assistant",
        [
            {"type": "image_file", "image_file": {"file_id": "file-9"}},
            {"type": "text", "text": {"value": "A plot.", "annotations": []}},
        ],
    )
    assert {"role": "assistant", "content": "A plot."} in body("Draw.", drawn, "Why?")["messages"]


def test_a_model_without_eyes_is_not_asked_about_pictures(refusal: Any) -> None:
    refused = refusal(picture(), files=file("file-1", "a.png", PNG), options={"images": False})
    assert refused.code == "invalid_prompt"
    assert "cannot see" in str(refused)


def test_a_file_that_is_no_picture_is_refused_in_words(refusal: Any) -> None:
    refused = refusal(picture(), files=file("file-1", "notes.txt", b"some text"))
    assert str(refused) == "The file “notes.txt” is no PNG, JPEG, GIF or WebP picture."


def test_a_picture_that_was_deleted_is_missed(refusal: Any) -> None:
    assert "deleted" in str(refusal(picture("file-gone")))


def test_more_pictures_than_a_process_can_hold_are_refused_in_words(refusal: Any) -> None:
    parts = [{"type": "image_file", "image_file": {"file_id": f"file-{n}"}} for n in (1, 2)]
    files = {
        f"file-{n}": TurnFile(f"file-{n}", "a.png", 26 * 2**20, lambda: b"\x89PNG") for n in (1, 2)
    }
    assert "52 MiB" in str(refusal(TurnMessage("user", parts), files=files))


def test_a_file_to_be_searched_is_refused_in_words(refusal: Any) -> None:
    attachment = {"file_id": "file-1", "tools": [SEARCH]}
    question = TurnMessage("user", say("Find it.").content, [attachment])
    assert "cannot search" in str(refusal(question, tools=[SEARCH]))


def test_a_file_search_with_nothing_to_search_is_left_out(body: Any) -> None:
    assert "tools" not in body(tools=[SEARCH])


def test_without_tools_the_model_is_asked_as_it_is(body: Any) -> None:
    made = body(tools=[WEATHER, CODE], options={"tools": False}, parallel_tool_calls=False)
    assert {"tools", "tool_choice", "parallel_tool_calls"} & set(made) == set()


@pytest.mark.parametrize("choice", ["required", {"type": "code_interpreter"}])
def test_without_tools_a_run_that_must_call_one_fails(refusal: Any, choice: Any) -> None:
    refused = refusal(tools=[CODE], tool_choice=choice, options={"tools": False})
    assert "must call a tool" in str(refused)


def test_a_demand_for_a_function_that_is_not_there_is_refused(refusal: Any) -> None:
    choice = {"type": "function", "function": {"name": "unknown"}}
    assert "does not have" in str(refusal(tools=[CODE], tool_choice=choice))


def test_the_code_interpreter_is_a_function_named_python(body: Any) -> None:
    made = body(tools=[CODE], tool_choice={"type": "code_interpreter"})
    (tool,) = made["tools"]
    assert tool["function"]["name"] == "python"
    assert tool["function"]["parameters"]["required"] == ["code"]
    assert made["tool_choice"] == {"type": "function", "function": {"name": "python"}}


def test_a_function_of_the_assistant_named_python_keeps_its_name(body: Any) -> None:
    own = {"type": "function", "function": {"name": "python", "parameters": {"type": "object"}}}
    names = [tool["function"]["name"] for tool in body(tools=[own, CODE])["tools"]]
    assert names == ["python", "run_python"]


def test_code_has_a_name_of_its_own_whatever_the_assistants_functions_are_called(body: Any) -> None:
    names = ["python", "run_python", "run_python_2", "code_interpreter"]
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    offered = [tool["function"]["name"] for tool in body(tools=[CODE, *tools])["tools"]]
    assert offered == [*names, "run_python_3"]


def test_earlier_steps_of_the_run_are_told_as_calls_and_outputs(body: Any) -> None:
    past = [
        MessageItem("message-0", "Let me see.", done=True),
        ToolCallsItem("call-0-0", [ToolCall("call_a", "code_interpreter", input="1+1", logs="2")]),
        ToolCallsItem(
            "functions-0",
            [ToolCall("call_b", "function", name="get_weather", arguments="{broken", output="dry")],
        ),
    ]
    made = body(tools=[WEATHER, CODE], past=past, note="Shorter.", attempt=2)
    first, code, second, weather, note = made["messages"][2:]
    assert first["content"] == "Let me see."
    assert first["tool_calls"][0]["function"] == {"name": "python", "arguments": '{"code": "1+1"}'}
    assert code == {"role": "tool", "tool_call_id": "call_a", "content": "2"}
    # What a model wrote badly makes servers fail that parse what they are given back.
    assert second["tool_calls"][0]["function"]["arguments"] == "{}"
    assert weather["content"] == "dry"
    assert note["role"] == "user"
    assert "Shorter." in note["content"]


def test_older_messages_are_left_out_where_the_model_reads_little(body: Any) -> None:
    made = body(*["word " * 200] * 20, "The last one?", options={"context_window": 1500})
    assert 2 < len(made["messages"]) < 12
    assert made["messages"][-1]["content"] == "The last one?"


def test_a_prompt_that_cannot_fit_is_not_sent(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {}, "word " * 2000, max_prompt_tokens=300)
    progress = wait_for(finish(chat, turn))
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_prompt_tokens")
    assert asked(upstream) == []


def test_azure_with_a_dated_version_is_asked_by_deployment(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    azure = replace(connection, base_url=upstream.url, api_version="2024-10-21")
    progress = wait_for(finish(chat, scripted(azure, {}, model="my-deployment")))
    assert answer_of(progress) == "x = 1"
    (entry,) = upstream.journal("POST", "/chat/completions")
    assert entry["path"] == "/openai/deployments/my-deployment/chat/completions"


def test_a_connection_says_hello_and_what_it_can_do(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    seen = wait_for(chat.inspect(connection, "fake"))
    assert seen.answer == "x = 1"
    assert seen.seconds is not None
    assert seen.models == ["fake"]
    # The fake calls functions only by its script.
    assert seen.supports == {"streaming": True, "tools": False, "pictures": True}


def test_options_refuse_what_means_nothing() -> None:
    with pytest.raises(ValueError, match="system_role"):
        ChatOptions(system_role="prophet")
    assert json.loads(ChatOptions().model_dump_json())["max_rounds"] == 16
