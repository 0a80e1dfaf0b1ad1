"""The signs of the chat engine, looked for in the bodies of its requests."""

from __future__ import annotations

from typing import Any

from tests.engines.fields.asked import FORCED, PICTURE, SCHEMA, STRICT
from tests.engines.fields.seen import UPSTREAM_MODEL, Seen
from tests.engines.fields.signs import (
    KEPT_HERE,
    REFUSED,
    Sign,
    counted,
    ends,
    exact,
    links_file,
    lost_first,
    shows_cat,
    shows_picture,
)
from tests.fakes.upstream.call import CLOSED

CODE_FUNCTION = {"type": "function", "function": {"name": "python"}}


def body(seen: Seen) -> dict[str, Any]:
    """Of the first request for an answer."""
    sent: dict[str, Any] = seen.sent("/chat/completions")[0]
    return sent


def texts(seen: Seen) -> list[str]:
    """Behind the instructions."""
    return [message["content"] for message in body(seen)["messages"][1:]]


def picture(seen: Seen) -> dict[str, Any]:
    shown: dict[str, Any] = body(seen)["messages"][-1]["content"][-1]["image_url"]
    return shown


def functions(seen: Seen) -> list[str]:
    return [tool["function"]["name"] for tool in body(seen).get("tools") or ()]


def has(**fields: Any) -> Sign:
    return exact(lambda seen: fields == {name: body(seen).get(name) for name in fields})


def runs_code_on_file(seen: Seen) -> bool:
    return "data.csv" in str(body(seen)["tools"]) and seen.logs.strip() == "a,b\n1,2"


def hands_output_in(seen: Seen) -> bool:
    told = seen.sent("/chat/completions")[-1]["messages"]
    return [message["content"] for message in told if message["role"] == "tool"] == ["snow"]


def was_left(seen: Seen) -> bool:
    """The stream was closed before its end."""
    return [entry["status"] for entry in seen.journal] == [CLOSED]


IN_SANDBOX = "approximated: in our sandbox"
SIGNS: dict[str, list[Sign]] = {
    "`model`": [has(model=UPSTREAM_MODEL)],
    "`instructions`, `additional_instructions`": [
        exact(lambda seen: body(seen)["messages"][0]["content"].endswith("}\n\nBe kind."))
    ],
    "`tools`: function (`description`, `strict`)": [
        exact(lambda seen: STRICT in body(seen)["tools"])
    ],
    "`tools`: code_interpreter": [
        (
            "approximated: a function `python`, in our sandbox",
            lambda seen: functions(seen) == ["python"] and seen.logs == "42",
        )
    ],
    "`tools`: file_search, and its settings": [REFUSED],
    "`tool_choice`: none": [has(tool_choice="none")],
    "`tool_choice`: auto": [has(tool_choice=None)],
    "`tool_choice`: required": [has(tool_choice="required")],
    "`tool_choice`: a function": [has(tool_choice=FORCED)],
    "`tool_choice`: code_interpreter": [has(tool_choice=CODE_FUNCTION)],
    "`tool_choice`: file_search": [REFUSED],
    "`parallel_tool_calls`: false": [has(parallel_tool_calls=False)],
    "`response_format`: text": [has(response_format={"type": "text"})],
    "`response_format`: json_object": [has(response_format={"type": "json_object"})],
    "`response_format`: json_schema": [has(response_format=SCHEMA)],
    "`temperature`": [has(temperature=0.25)],
    "`top_p`": [has(top_p=0.75)],
    "`reasoning_effort`": [
        (
            "exact, with the option `reasoning_effort`",
            lambda seen: body(seen)["reasoning_effort"] == "low",
        )
    ],
    "`truncation_strategy`: auto": [
        (
            "approximated: we leave out the oldest, with the option `context_window`",
            lambda seen: lost_first(texts(seen)),
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
    "`max_completion_tokens`": [has(max_completion_tokens=256)],
    "`metadata`": [KEPT_HERE],
    "`additional_messages`": [exact(lambda seen: texts(seen)[-1] == "Solve 2y = 8")],
    "messages: text": [exact(lambda seen: "3x + 11" in texts(seen)[0])],
    "messages: image_url (`detail`)": [
        exact(lambda seen: picture(seen) == {"url": PICTURE, "detail": "low"})
    ],
    "messages: image_file (`detail`)": [
        (
            "exact: in the request",
            lambda seen: shows_cat(picture(seen)["url"]) and picture(seen)["detail"] == "low",
        )
    ],
    "messages: of the role assistant": [
        exact(lambda seen: body(seen)["messages"][2] == {"role": "assistant", "content": "z is 5."})
    ],
    "attachments: code_interpreter": [(IN_SANDBOX, runs_code_on_file)],
    "attachments: file_search": [REFUSED],
    "`tool_resources.code_interpreter.file_ids`": [(IN_SANDBOX, runs_code_on_file)],
    "tool outputs": [exact(hands_output_in)],
    "annotations: file_citation": [REFUSED],
    "annotations: file_path": [exact(links_file)],
    "generated images": [exact(shows_picture)],
    "`usage`": [
        (
            "exact, where the server counts",
            lambda seen: counted(seen) and body(seen)["stream_options"] == {"include_usage": True},
        )
    ],
    "cancel": [("exact", lambda seen: ends("cancelled")(seen) and was_left(seen))],
    "expiry": [
        ("exact: stopped there, too", lambda seen: ends("expired")(seen) and was_left(seen))
    ],
    "`incomplete_details`: max_completion_tokens": [
        ("exact", ends("incomplete", reason="max_completion_tokens"))
    ],
    "`incomplete_details`: content_filter": [
        ("approximated: failed, `invalid_prompt`", ends("failed", "invalid_prompt"))
    ],
    "`last_error`: server_error": [
        (
            "exact, after three tries",
            lambda seen: (
                ends("failed", "server_error")(seen) and len(seen.sent("/chat/completions")) == 3
            ),
        )
    ],
    "`last_error`: rate_limit_exceeded": [
        ("exact: no credit left; else it waits", ends("failed", "rate_limit_exceeded"))
    ],
    "`last_error`: invalid_prompt": [("exact", ends("failed", "invalid_prompt"))],
}
