"""The signs of the assistants engine: what it makes the upstream's assistant, thread and run of."""

from __future__ import annotations

from typing import Any

from tests.engines.fields.asked import FORCED, LONG, PICTURE, SCHEMA, SEARCH, STRICT
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
    shows_picture,
)
from tests.engines.turns import CODE


def one(seen: Seen, path: str) -> dict[str, Any]:
    (sent,) = seen.sent(path)
    return dict(sent)


def assistant(**fields: Any) -> Sign:
    """The assistant is made with these."""
    return exact(
        lambda seen: fields == {name: one(seen, "/assistants").get(name) for name in fields}
    )


def run(**fields: Any) -> Sign:
    """The run is made with these; None: with nothing said, so that the same default holds."""
    return exact(lambda seen: fields == {name: one(seen, "/runs").get(name) for name in fields})


def messages(seen: Seen) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = one(seen, "/threads")["messages"]
    return told


def shows_file(seen: Seen) -> bool:
    (upload,) = seen.sent("/files")
    shown = messages(seen)[0]["content"][-1]["image_file"]
    return upload["purpose"] == "vision" and shown["detail"] == "low"


def attaches(tool: str) -> Sign:
    def holds(seen: Seen) -> bool:
        (file,) = messages(seen)[0]["attachments"]
        return bool(file["tools"] == [{"type": tool}]) and len(seen.sent("/files")) == 1

    return exact(holds)


def offers_file(seen: Seen) -> bool:
    return len(one(seen, "/threads")["tool_resources"]["code_interpreter"]["file_ids"]) == 1


def hands_output_in(seen: Seen) -> bool:
    handed = one(seen, "/submit_tool_outputs")["tool_outputs"]
    return [output["output"] for output in handed] == ["snow"]


def was_stopped(seen: Seen) -> bool:
    return len(seen.sent("/cancel")) == 1


SIGNS: dict[str, list[Sign]] = {
    "`model`": [assistant(model=UPSTREAM_MODEL)],
    "`instructions`, `additional_instructions`": [
        exact(lambda seen: one(seen, "/assistants")["instructions"].endswith("}\n\nBe kind."))
    ],
    "`tools`: function (`description`, `strict`)": [assistant(tools=[CODE, STRICT])],
    "`tools`: code_interpreter": [
        exact(lambda seen: seen.logs == "42" and one(seen, "/assistants")["tools"] == [CODE])
    ],
    "`tools`: file_search, and its settings": [assistant(tools=[CODE, SEARCH])],
    "`tool_choice`: none": [run(tool_choice="none")],
    "`tool_choice`: auto": [run(tool_choice=None)],
    "`tool_choice`: required": [run(tool_choice="required")],
    "`tool_choice`: a function": [run(tool_choice=FORCED)],
    "`tool_choice`: code_interpreter": [run(tool_choice={"type": "code_interpreter"})],
    "`tool_choice`: file_search": [run(tool_choice={"type": "file_search"})],
    "`parallel_tool_calls`: false": [run(parallel_tool_calls=False)],
    "`response_format`: text": [assistant(response_format={"type": "text"})],
    "`response_format`: json_object": [assistant(response_format={"type": "json_object"})],
    "`response_format`: json_schema": [assistant(response_format=SCHEMA)],
    "`temperature`": [assistant(temperature=0.25)],
    "`top_p`": [assistant(top_p=0.75)],
    "`reasoning_effort`": [assistant(reasoning_effort="low")],
    "`truncation_strategy`: auto": [
        (
            "exact: left to the upstream",
            lambda seen: (
                [LONG in message["content"] for message in messages(seen)] == [True, True, False]
                and "truncation_strategy" not in one(seen, "/runs")
            ),
        )
    ],
    "`truncation_strategy`: last_messages": [exact(lambda seen: len(messages(seen)) == 1)],
    "`max_prompt_tokens`": [run(max_prompt_tokens=256)],
    "`max_completion_tokens`": [run(max_completion_tokens=256)],
    "`metadata`": [KEPT_HERE],
    "`additional_messages`": [
        exact(lambda seen: messages(seen)[-1] == {"role": "user", "content": "Solve 2y = 8"})
    ],
    "messages: text": [exact(lambda seen: "3x + 11" in messages(seen)[0]["content"])],
    "messages: image_url (`detail`)": [
        exact(
            lambda seen: (
                messages(seen)[0]["content"][-1]["image_url"] == {"url": PICTURE, "detail": "low"}
            )
        )
    ],
    "messages: image_file (`detail`)": [exact(shows_file)],
    "messages: of the role assistant": [
        exact(lambda seen: messages(seen)[1] == {"role": "assistant", "content": "z is 5."})
    ],
    "attachments: code_interpreter": [attaches("code_interpreter")],
    "attachments: file_search": [attaches("file_search")],
    "`tool_resources.code_interpreter.file_ids`": [exact(offers_file)],
    "tool outputs": [exact(hands_output_in)],
    "annotations: file_citation": [exact(lambda seen: cites_file(seen) and found_file(seen))],
    "annotations: file_path": [exact(links_file)],
    "generated images": [exact(shows_picture)],
    "`usage`": [exact(counted)],
    "cancel": [("exact", lambda seen: ends("cancelled")(seen) and was_stopped(seen))],
    "expiry": [
        ("exact: stopped there, too", lambda seen: ends("expired")(seen) and was_stopped(seen))
    ],
    "`incomplete_details`: max_completion_tokens": [
        ("exact", ends("incomplete", reason="max_completion_tokens"))
    ],
    "`incomplete_details`: content_filter": [
        ("exact", ends("incomplete", reason="content_filter"))
    ],
    "`last_error`: server_error": [("exact", ends("failed", "server_error"))],
    "`last_error`: rate_limit_exceeded": [
        ("exact: no credit left; else it waits", ends("failed", "rate_limit_exceeded"))
    ],
    "`last_error`: invalid_prompt": [("exact", ends("failed", "invalid_prompt"))],
}
