"""What each row of the table asks for, in the words of the API."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.engines.turns import CODE, QUICKSTART, WEATHER
from tests.fakes.upstream.files import PNG

Row = dict[str, Any]

SEARCH = {"type": "file_search", "file_search": {"max_num_results": 3}}
STRICT = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
FORCED = {"type": "function", "function": {"name": "get_weather"}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "result",
        "schema": {
            "type": "object",
            "properties": {"said": {"type": "string"}},
            "required": ["said"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
PICTURE = "https://example.org/cat.png"
EXPAND = "Expand (x + 1)^50"
"""The offline engine says this in more than 256 tokens."""
LONG = "word " * 500
"""625 tokens by our count."""
CALLS = {"tools": [{"name": "get_weather", "arguments": {"place": "Bern"}}]}
SHOWS_FILE = {"code": "print(open('data.csv').read())"}
WRITES_PICTURE = (
    "import base64\n"
    f"open('plot.png', 'wb').write(base64.b64decode('{base64.b64encode(PNG).decode()}'))"
)
FILES = {"data.csv": b"a,b\n1,2\n", "cat.png": PNG}
"""What may be named as `@data.csv` and so on; uploaded where it is."""


def user(content: Any, **more: Any) -> Row:
    return {"role": "user", "content": content, **more}


def attached(tool: str) -> Row:
    attachments = [{"file_id": "@data.csv", "tools": [{"type": tool}]}]
    return user(QUICKSTART, attachments=attachments)


def with_part(part: Row) -> Row:
    return user([{"type": "text", "text": QUICKSTART}, part])


@dataclass(frozen=True)
class Asked:
    """`script` is for the fake upstream, `options` for the connection of the engine of this kind.
    `then`: what happens to the run once it is on its way."""

    messages: list[Row] = field(default_factory=lambda: [user(QUICKSTART)])
    assistant: Row = field(default_factory=dict)
    thread: Row = field(default_factory=dict)
    run: Row = field(default_factory=dict)
    script: Row = field(default_factory=dict)
    options: dict[str, Row] = field(default_factory=dict)
    output: str = "snow"
    then: Literal["", "cancel", "expire"] = ""


def choosing(choice: Any, *tools: Row, **more: Any) -> Asked:
    return Asked(assistant={"tools": tools or [CODE, WEATHER]}, run={"tool_choice": choice}, **more)


def formatted(wanted: Row) -> Asked:
    return Asked(run={"response_format": wanted})


def failing(**script: Any) -> Asked:
    return Asked(script=script)


SEARCHED = [attached("file_search")]
ROWS: dict[str, Asked] = {
    "`model`": Asked(),
    "`instructions`, `additional_instructions`": Asked(run={"additional_instructions": "Be kind."}),
    "`tools`: function (`description`, `strict`)": Asked(assistant={"tools": [CODE, STRICT]}),
    "`tools`: code_interpreter": Asked(script={"code": "print(6 * 7)", "logs": "42"}),
    "`tools`: file_search, and its settings": Asked(SEARCHED, {"tools": [CODE, SEARCH]}),
    "`tool_choice`: none": choosing("none"),
    "`tool_choice`: auto": choosing("auto"),
    "`tool_choice`: required": choosing("required"),
    "`tool_choice`: a function": choosing(FORCED, script=CALLS),
    "`tool_choice`: code_interpreter": choosing({"type": "code_interpreter"}),
    "`tool_choice`: file_search": choosing(
        {"type": "file_search"}, CODE, {"type": "file_search"}, messages=SEARCHED
    ),
    "`parallel_tool_calls`: false": Asked(run={"parallel_tool_calls": False}),
    "`response_format`: text": formatted({"type": "text"}),
    "`response_format`: json_object": formatted({"type": "json_object"}),
    "`response_format`: json_schema": formatted(SCHEMA),
    "`temperature`": Asked(run={"temperature": 0.25}),
    "`top_p`": Asked(run={"top_p": 0.75}),
    "`reasoning_effort`": Asked(
        run={"reasoning_effort": "low"}, options={"chat": {"reasoning_effort": True}}
    ),
    "`truncation_strategy`: auto": Asked(
        [user(f"first {LONG}"), user(f"second {LONG}"), user(QUICKSTART)],
        options={"responses": {"context_window": 2_400}, "chat": {"context_window": 1_200}},
    ),
    "`truncation_strategy`: last_messages": Asked(
        [user(f"first {LONG}"), user(f"second {LONG}"), user(QUICKSTART)],
        run={"truncation_strategy": {"type": "last_messages", "last_messages": 1}},
    ),
    "`max_prompt_tokens`": Asked([user(LONG)], run={"max_prompt_tokens": 256}),
    "`max_completion_tokens`": Asked([user(EXPAND)], run={"max_completion_tokens": 256}),
    "`metadata`": Asked(
        run={"metadata": {"order": "secret-4711"}}, thread={"metadata": {"desk": "secret-4712"}}
    ),
    "`additional_messages`": Asked(run={"additional_messages": [user("Solve 2y = 8")]}),
    "messages: text": Asked(),
    "messages: image_url (`detail`)": Asked(
        [with_part({"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}})]
    ),
    "messages: image_file (`detail`)": Asked(
        [with_part({"type": "image_file", "image_file": {"file_id": "@cat.png", "detail": "low"}})]
    ),
    "messages: of the role assistant": Asked(
        [user("Solve z = 5"), {"role": "assistant", "content": "z is 5."}, user(QUICKSTART)]
    ),
    "attachments: code_interpreter": Asked([attached("code_interpreter")], script=SHOWS_FILE),
    "attachments: file_search": Asked(SEARCHED, {"tools": [CODE, SEARCH]}),
    "`tool_resources.code_interpreter.file_ids`": Asked(
        assistant={"tool_resources": {"code_interpreter": {"file_ids": ["@data.csv"]}}},
        script=SHOWS_FILE,
    ),
    "tool outputs": choosing(FORCED, script=CALLS),
    "annotations: file_citation": Asked(
        SEARCHED, {"tools": [CODE, SEARCH]}, script={"citations": [{"file": 0, "at": 1}]}
    ),
    "annotations: file_path": Asked(
        script={
            "code": "open('out.csv', 'w').write('out.csv')",
            "file": "out.csv",
            "answer": "See [out.csv](sandbox:/mnt/data/out.csv).",
        }
    ),
    "generated images": Asked(script={"code": WRITES_PICTURE, "plot": True}),
    "`usage`": Asked(script={"usage": {"input_tokens": 11, "output_tokens": 7}}),
    "cancel": Asked(script={"seconds": 60}, then="cancel"),
    "expiry": Asked(script={"seconds": 60}, then="expire"),
    "`incomplete_details`: max_completion_tokens": Asked(
        [user(EXPAND)], run={"max_completion_tokens": 256}, script={"status": "incomplete"}
    ),
    "`incomplete_details`: content_filter": failing(status="incomplete", reason="content_filter"),
    "`last_error`: server_error": failing(status="failed"),
    "`last_error`: rate_limit_exceeded": failing(faults=["billing"]),
    "`last_error`: invalid_prompt": failing(faults=["filtered"]),
}
