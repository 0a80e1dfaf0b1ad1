"""The signs of the embedded engine, which asks nobody: only its answers tell."""

from __future__ import annotations

import json

from tests.engines.fields.asked import LONG
from tests.engines.fields.seen import Seen
from tests.engines.fields.signs import KEPT_HERE, Sign, ends, exact


def solves(seen: Seen) -> bool:
    """The usual answer to the usual question."""
    return seen.status == "completed" and "x = 1" in seen.answer


def computes(seen: Seen) -> bool:
    return solves(seen) and [call["type"] for call in seen.calls] == ["code_interpreter"]


def asks_function(seen: Seen) -> bool:
    return [call["type"] for call in seen.calls] == ["function"]


def quotes_output(seen: Seen) -> bool:
    return seen.status == "completed" and "snow" in seen.answer and asks_function(seen)


def wraps_in(name: str) -> Sign:
    def holds(seen: Seen) -> bool:
        said = json.loads(seen.answer)
        return list(said) == [name] and "x = 1" in said[name]

    return f"approximated: the text as `{name}`" if name == "answer" else (
        "approximated: the text in the schema's first place for one"
    ), holds


IGNORED: Sign = ("ignored", solves)
NEVER: Sign = ("never", solves)
BY_OUR_COUNT = "approximated: by our count"
SIGNS: dict[str, list[Sign]] = {
    "`model`": [IGNORED],
    "`instructions`, `additional_instructions`": [IGNORED],
    "`tools`: function (`description`, `strict`)": [
        (
            "approximated: called where `tool_choice` demands it",
            lambda seen: computes(seen) and not asks_function(seen),
        )
    ],
    "`tools`: code_interpreter": [("approximated: for its own programs, in our sandbox", computes)],
    "`tools`: file_search, and its settings": [IGNORED],
    "`tool_choice`: none": [exact(lambda seen: not seen.calls and "`none`" in seen.answer)],
    "`tool_choice`: auto": [exact(computes)],
    "`tool_choice`: required": [exact(computes)],
    "`tool_choice`: a function": [
        ("approximated: with arguments that only fit the schema", quotes_output)
    ],
    "`tool_choice`: code_interpreter": [exact(computes)],
    "`tool_choice`: file_search": [
        ("refused, in words", lambda seen: not seen.calls and "cannot search files" in seen.answer)
    ],
    "`parallel_tool_calls`: false": [
        exact(lambda seen: computes(seen) and [len(seen.calls)] == [1])
    ],
    "`response_format`: text": [exact(solves)],
    "`response_format`: json_object": [wraps_in("answer")],
    "`response_format`: json_schema": [wraps_in("said")],
    "`temperature`": [IGNORED],
    "`top_p`": [IGNORED],
    "`reasoning_effort`": [IGNORED],
    "`truncation_strategy`: auto": [IGNORED],
    "`truncation_strategy`: last_messages": [
        exact(lambda seen: solves(seen) and seen.run["usage"]["prompt_tokens"] < len(LONG) // 4)
    ],
    "`max_prompt_tokens`": [(BY_OUR_COUNT, ends("incomplete", reason="max_prompt_tokens"))],
    "`max_completion_tokens`": [
        (
            BY_OUR_COUNT,
            lambda seen: (
                ends("incomplete", reason="max_completion_tokens")(seen)
                and seen.run["usage"]["completion_tokens"] <= 256
            ),
        )
    ],
    "`metadata`": [KEPT_HERE],
    "`additional_messages`": [exact(lambda seen: "y = 4" in seen.answer)],
    "messages: text": [("approximated: questions of mathematics", solves)],
    "messages: image_url (`detail`)": [IGNORED],
    "messages: image_file (`detail`)": [IGNORED],
    "messages: of the role assistant": [IGNORED],
    "attachments: code_interpreter": [IGNORED],
    "attachments: file_search": [IGNORED],
    "`tool_resources.code_interpreter.file_ids`": [IGNORED],
    "tool outputs": [("approximated: quoted, not understood", quotes_output)],
    "annotations: file_citation": [("never", lambda seen: solves(seen) and not seen.annotations)],
    "annotations: file_path": [("never", lambda seen: solves(seen) and not seen.annotations)],
    "generated images": [("never", lambda seen: solves(seen) and not seen.pictures)],
    "`usage`": [
        (BY_OUR_COUNT, lambda seen: solves(seen) and seen.run["usage"]["completion_tokens"] > 0)
    ],
    "cancel": [("exact", ends("cancelled"))],
    "expiry": [("exact", ends("expired"))],
    "`incomplete_details`: max_completion_tokens": [
        ("exact", ends("incomplete", reason="max_completion_tokens"))
    ],
    "`incomplete_details`: content_filter": [NEVER],
    "`last_error`: server_error": [NEVER],
    "`last_error`: rate_limit_exceeded": [NEVER],
    "`last_error`: invalid_prompt": [NEVER],
}
