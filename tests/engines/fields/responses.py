"""The signs of the responses engine, looked for in the bodies of its requests."""

from __future__ import annotations

from typing import Any

from tests.engines.fields.asked import PICTURE, SCHEMA, STRICT
from tests.engines.fields.seen import UPSTREAM_MODEL, Seen
from tests.engines.fields.signs import (
    KEPT_HERE,
    Sign,
    cites_file,
    counted,
    ends,
    exact,
    found_file,
    links_file,
    lost_first,
    shows_cat,
    shows_picture,
)


def body(seen: Seen) -> dict[str, Any]:
    """Of the last request for an answer."""
    sent: dict[str, Any] = seen.sent("/responses")[-1]
    return sent


def texts(seen: Seen) -> list[str]:
    return [item["content"] for item in body(seen)["input"]]


def part(seen: Seen) -> dict[str, Any]:
    """What the question has beside its words."""
    shown: dict[str, Any] = body(seen)["input"][-1]["content"][-1]
    return shown


def has(**fields: Any) -> Sign:
    return exact(lambda seen: fields == {name: body(seen).get(name) for name in fields})


def is_function(seen: Seen) -> bool:
    function = {"type": "function", **STRICT["function"]}
    return function in body(seen)["tools"]


def searches(seen: Seen) -> bool:
    (tool,) = (tool for tool in body(seen)["tools"] if tool["type"] == "file_search")
    return tool["max_num_results"] == 3 and len(tool["vector_store_ids"]) == 1


def has_code_file(seen: Seen) -> bool:
    (tool,) = (tool for tool in body(seen)["tools"] if tool["type"] == "code_interpreter")
    uploaded = [sent["file"] for sent in seen.sent("/files")]
    return uploaded == ["data.csv"] and len(tool["container"]["file_ids"]) == 1


def puts_file_into_store(seen: Seen) -> bool:
    (store,) = seen.sent("/vector_stores")
    return len(store["file_ids"]) == 1 and bool(store["expires_after"])


def hands_output_in(seen: Seen) -> bool:
    returned = [item for item in body(seen)["input"] if item.get("type") == "function_call_output"]
    return [item["output"] for item in returned] == ["snow"]


def was_stopped(seen: Seen) -> bool:
    return len(seen.sent("/cancel")) == 1


SIGNS: dict[str, list[Sign]] = {
    "`model`": [has(model=UPSTREAM_MODEL)],
    "`instructions`, `additional_instructions`": [
        exact(lambda seen: body(seen)["instructions"].endswith("}\n\nBe kind."))
    ],
    "`tools`: function (`description`, `strict`)": [exact(is_function)],
    "`tools`: code_interpreter": [
        exact(
            lambda seen: (
                seen.logs == "42"
                and body(seen)["tools"]
                == [{"type": "code_interpreter", "container": {"type": "auto"}}]
            )
        )
    ],
    "`tools`: file_search, and its settings": [exact(searches)],
    "`tool_choice`: none": [has(tool_choice="none")],
    "`tool_choice`: auto": [has(tool_choice="auto")],
    "`tool_choice`: required": [has(tool_choice="required")],
    "`tool_choice`: a function": [
        exact(
            lambda seen: (
                seen.sent("/responses")[0]["tool_choice"]
                == {"type": "function", "name": "get_weather"}
            )
        )
    ],
    "`tool_choice`: code_interpreter": [has(tool_choice={"type": "code_interpreter"})],
    "`tool_choice`: file_search": [has(tool_choice={"type": "file_search"})],
    "`parallel_tool_calls`: false": [has(parallel_tool_calls=False)],
    "`response_format`: text": [has(text=None)],
    "`response_format`: json_object": [has(text={"format": {"type": "json_object"}})],
    "`response_format`: json_schema": [
        has(text={"format": {"type": "json_schema", **SCHEMA["json_schema"]}})
    ],
    "`temperature`": [has(temperature=0.25)],
    "`top_p`": [has(top_p=0.75)],
    "`reasoning_effort`": [has(reasoning={"effort": "low"})],
    "`truncation_strategy`: auto": [
        (
            "approximated: we leave out the oldest",
            lambda seen: body(seen)["truncation"] == "disabled" and lost_first(texts(seen)),
        )
    ],
    "`truncation_strategy`: last_messages": [
        exact(lambda seen: len(texts(seen)) == 1 and lost_first(texts(seen)))
    ],
    "`max_prompt_tokens`": [
        (
            "approximated: by our count",
            lambda seen: ends("incomplete", reason="max_prompt_tokens")(seen) and not seen.journal,
        )
    ],
    "`max_completion_tokens`": [has(max_output_tokens=256)],
    "`metadata`": [KEPT_HERE],
    "`additional_messages`": [exact(lambda seen: texts(seen)[-1] == "Solve 2y = 8")],
    "messages: text": [exact(lambda seen: "3x + 11" in texts(seen)[0])],
    "messages: image_url (`detail`)": [
        exact(
            lambda seen: (
                part(seen) == {"type": "input_image", "image_url": PICTURE, "detail": "low"}
            )
        )
    ],
    "messages: image_file (`detail`)": [
        (
            "exact: in the request, or as a file at OpenAI itself",
            lambda seen: shows_cat(part(seen)["image_url"]) and part(seen)["detail"] == "low",
        )
    ],
    "messages: of the role assistant": [
        exact(
            lambda seen: (
                (texts(seen)[1], body(seen)["input"][1]["role"]) == ("z is 5.", "assistant")
            )
        )
    ],
    "attachments: code_interpreter": [exact(has_code_file)],
    "attachments: file_search": [
        (
            "exact: in a vector store, which goes after a day",
            lambda seen: puts_file_into_store(seen) and searches(seen),
        )
    ],
    "`tool_resources.code_interpreter.file_ids`": [exact(has_code_file)],
    "tool outputs": [exact(hands_output_in)],
    "annotations: file_citation": [
        (
            "approximated: we put a mark where it points",
            lambda seen: cites_file(seen) and found_file(seen) and "†data.csv】" in seen.answer,
        )
    ],
    "annotations: file_path": [exact(links_file)],
    "generated images": [exact(shows_picture)],
    "`usage`": [exact(counted)],
    "cancel": [("exact", lambda seen: ends("cancelled")(seen) and was_stopped(seen))],
    "expiry": [
        (
            "exact: stopped there, too",
            lambda seen: ends("expired")(seen) and was_stopped(seen),
        )
    ],
    "`incomplete_details`: max_completion_tokens": [
        ("exact", ends("incomplete", reason="max_completion_tokens"))
    ],
    "`incomplete_details`: content_filter": [
        ("approximated: failed, `invalid_prompt`", ends("failed", "invalid_prompt"))
    ],
    "`last_error`: server_error": [("exact", ends("failed", "server_error"))],
    "`last_error`: rate_limit_exceeded": [
        ("exact: no credit left; else it waits", ends("failed", "rate_limit_exceeded"))
    ],
    "`last_error`: invalid_prompt": [("exact", ends("failed", "invalid_prompt"))],
}
