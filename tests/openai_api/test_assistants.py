from __future__ import annotations

from typing import Any

import openai
import pytest

from assistant_manager.models import Assistant, Model, Project
from tests import factories
from tests.openai_api.http import Door

FUNCTION = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}


def test_an_assistant_is_created_read_changed_and_deleted_by_the_sdk(sdk: Any) -> None:
    made = sdk.beta.assistants.create(
        model="gpt-4-1106-preview",
        name="Math Assist",
        instructions="You are an AI assistant.",
        tools=[{"type": "code_interpreter"}, {"type": "file_search"}, FUNCTION],
        metadata={"team": "maths"},
        temperature=0.5,
    )
    assert made.id.startswith("asst_")
    assert (made.object, made.top_p, made.response_format) == ("assistant", 1.0, "auto")
    assert [tool.type for tool in made.tools] == ["code_interpreter", "file_search", "function"]
    assert sdk.beta.assistants.retrieve(made.id) == made

    changed = sdk.beta.assistants.update(made.id, tools=[], name=None)
    assert (changed.tools, changed.name) == ([], None)
    assert (changed.instructions, changed.metadata) == (made.instructions, {"team": "maths"})

    gone = sdk.beta.assistants.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "assistant.deleted", True)
    with pytest.raises(openai.NotFoundError, match=f"No assistant found with id '{made.id}'."):
        sdk.beta.assistants.retrieve(made.id)
    assert sdk.beta.assistants.list().data == []


def test_every_documented_key_is_present(door: Door) -> None:
    body = door("POST", "/v1/assistants", {"model": "gpt-4"}).body
    assert isinstance(body.pop("created_at"), int)
    assert body.pop("id").startswith("asst_")
    assert body == {
        "object": "assistant",
        "name": None,
        "description": None,
        "model": "gpt-4",
        "instructions": None,
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
        "reasoning_effort": None,
    }


def test_null_puts_a_field_back_to_its_default(door: Door, project: Project) -> None:
    assistant = factories.make_assistant(project=project, temperature=0.1, metadata={"a": "b"})
    body = door(
        "POST",
        f"/v1/assistants/{assistant.public_id}",
        {"temperature": None, "metadata": None, "tools": None, "name": None},
    ).body
    assert (body["temperature"], body["metadata"], body["tools"]) == (1.0, {}, [])
    assert body["name"] is None
    assert body["model"] == assistant.model


def test_a_null_within_a_tool_is_as_good_as_left_out(door: Door) -> None:
    schema = {"type": "object", "properties": {"unit": {"enum": ["C", None], "default": None}}}
    function = {"name": "f", "description": None, "strict": None, "parameters": schema}
    body = {
        "model": "m",
        "tools": [
            {"type": "function", "function": function},
            {"type": "function", "function": {"name": "g", "parameters": None}},
            {"type": "file_search", "file_search": None},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "description": None, "schema": schema},
        },
    }
    answer = door("POST", "/v1/assistants", body).body
    assert answer["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": schema}},
        {"type": "function", "function": {"name": "g"}},
        {"type": "file_search"},
    ]
    assert answer["response_format"]["json_schema"] == {"name": "n", "schema": schema}


def test_a_json_schema_is_echoed_as_it_came(sdk: Any) -> None:
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }
    made = sdk.beta.assistants.create(model="m", response_format=wanted)
    assert made.response_format.to_dict() == wanted


def test_the_history_says_which_key_changed_what(door: Door, project: Project) -> None:
    made = door("POST", "/v1/assistants", {"model": "m", "name": "old"}).body["id"]
    door("POST", f"/v1/assistants/{made}", {"name": "new"})
    door("DELETE", f"/v1/assistants/{made}")
    history = Assistant.history.filter(public_id=made).order_by("history_id")
    assert [(row.name, row.history_change_reason) for row in history] == [
        ("old", "API key tests"),
        ("new", "API key tests"),
        ("new", "API key tests"),
    ]


@pytest.mark.parametrize(
    ("body", "param", "code", "text"),
    [
        ({}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
        (
            {"model": "m", "tool_ressources": {}},
            "tool_ressources",
            "unknown_parameter",
            "Unknown parameter: 'tool_ressources'.",
        ),
        (
            {"model": "m", "tools": [{"type": "retrieval"}]},
            "tools[0].type",
            "invalid_value",
            "Invalid value: 'retrieval'. Supported values are: 'code_interpreter', "
            "'file_search' and 'function'.",
        ),
        (
            {"model": "m", "tools": [{}]},
            "tools[0].type",
            "missing_required_parameter",
            "Missing required parameter: 'tools[0].type'.",
        ),
        (
            {"model": "m", "tools": [{"type": "function"}]},
            "tools[0].function",
            "missing_required_parameter",
            "Missing required parameter: 'tools[0].function'.",
        ),
        (
            {"model": "m", "tools": [{"type": "function", "function": {"name": "n" * 66}}]},
            "tools[0].function.name",
            "string_above_max_length",
            "Invalid 'tools[0].function.name': string too long. Expected a string with maximum "
            "length 64, but got a string with length 66 instead.",
        ),
        (
            {"model": "m", "tools": [{"type": "code_interpreter"}] * 129},
            "tools",
            "array_above_max_length",
            "Invalid 'tools': array too long. Expected an array with maximum length 128, but got "
            "an array with length 129 instead.",
        ),
        (
            {"model": "m", "name": 3},
            "name",
            "invalid_type",
            "Invalid type for 'name': expected a string, but got an integer instead.",
        ),
        (
            {"model": "m", "temperature": 2.5},
            "temperature",
            "decimal_above_max_value",
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got "
            "2.5 instead.",
        ),
        (
            {"model": "m", "metadata": {"a": 1}},
            "metadata.a",
            "invalid_type",
            "Invalid type for 'metadata.a': expected a string, but got an integer instead.",
        ),
        (
            {"model": "m", "metadata": {str(n): "" for n in range(17)}},
            "metadata",
            "object_above_max_properties",
            "Invalid 'metadata': too many properties. Expected an object with at most 16 "
            "properties, but got an object with 17 properties instead.",
        ),
        (
            {"model": "m", "metadata": {"k" * 65: ""}},
            f"metadata.{'k' * 65}",
            "string_above_max_length",
            f"Invalid 'metadata.{'k' * 65}': string too long. Expected a string with maximum "
            "length 64, but got a string with length 65 instead.",
        ),
        (
            {"model": "m", "response_format": 3},
            "response_format",
            "invalid_type",
            "Invalid type for 'response_format': expected a string or an object, but got an "
            "integer instead.",
        ),
        (
            {"model": "m", "tool_resources": {"code_interpreter": {"file_ids": ["file-none"]}}},
            "tool_resources.code_interpreter.file_ids[0]",
            None,
            "No such File object: file-none",
        ),
        (
            {"model": "m", "tool_resources": {"file_search": {"vector_stores": [{}]}}},
            "tool_resources.file_search.vector_stores",
            "unsupported_parameter",
            "Vector stores are not available on this server yet.",
        ),
    ],
)
def test_a_wrong_field_is_named_in_the_vendors_words(
    door: Door, body: dict[str, Any], param: str, code: str | None, text: str
) -> None:
    answer = door("POST", "/v1/assistants", body)
    assert answer.status == 400
    assert answer.error == {
        "message": text,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }


def test_an_unknown_vector_store_is_not_found(door: Door) -> None:
    resources = {"file_search": {"vector_store_ids": ["vs_1"]}}
    answer = door("POST", "/v1/assistants", {"model": "m", "tool_resources": resources})
    assert answer.status == 404
    assert answer.error["message"] == "No vector store found with id 'vs_1'."


def test_the_sign_for_every_model_is_no_models_name(door: Door, assistant: Assistant) -> None:
    path = f"/v1/assistants/{assistant.public_id}"
    run = {"assistant_id": assistant.public_id}
    for where, body in [("/v1/assistants", {}), (path, {}), ("/v1/threads/runs", run)]:
        answer = door("POST", where, body | {"model": "*"})
        assert answer.status == 400
        assert answer.error["param"] == "model"
    assert [entry["id"] for entry in door("GET", "/v1/models").body["data"]] == [assistant.model]


def test_a_model_nobody_serves_is_refused(door: Door) -> None:
    Model.objects.all().delete()
    answer = door("POST", "/v1/assistants", {"model": "gpt-9"})
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == ("model", "model_not_found")
