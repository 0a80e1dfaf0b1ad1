"""What came in a request, as plain values: JSON as programs really send it."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import rapidjson

from assistant_manager.openai_api.errors import WireError

MAX_DEPTH = 100
"""Lists and objects within each other. Far more than any request needs, and few enough for every
parser, serialiser and database on the way."""

_OFFSET = re.compile(r"at offset (\d+): (.*)", re.DOTALL)
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")

_NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
    "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not "
    "valid JSON.) {why}"
)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; nothing at all counts as `{}`, as curl's `-d ''` sends it.

    Trailing commas pass, since the vendor's own quickstart prints one; anything else that is not
    JSON raises WireError naming line and column.
    """
    if not body.strip():
        return {}
    if _depth(body) > MAX_DEPTH:
        raise WireError(f"The JSON body is nested more than {MAX_DEPTH} levels deep.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_json(f"It is not UTF-8: byte {error.start} cannot be read.") from error
    value = _parse(text)
    if not isinstance(value, dict):
        raise WireError(
            f"Invalid type for the request body: expected an object, but got {kind_of(value)} "
            "instead.",
            code="invalid_type",
        )
    if _SUSPECT_ESCAPE.search(body):
        _refuse_unstorable(value)
    return value


def kind_of(value: object) -> str:
    """What JSON calls the value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _depth(body: bytes) -> int:
    """How deep lists and objects lie within each other. Counting brackets first spares all but
    the longest requests the walk."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for match in _NESTING.finditer(body):
        token = match[0]
        if token in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in b"]}":
            depth -= 1
    return deepest


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError:
        return _parse_leniently(text)
    except ValueError as error:
        raise _not_json(str(error)) from error


def _parse_leniently(text: str) -> Any:
    try:
        return rapidjson.loads(
            text, parse_mode=rapidjson.PM_TRAILING_COMMAS, number_mode=rapidjson.NM_NONE
        )
    except ValueError as error:
        match = _OFFSET.search(str(error))
        if match is None:
            raise _not_json(str(error)) from error
        before = text.encode()[: int(match[1])].decode(errors="ignore")
        line = before.count("\n") + 1
        column = len(before) - before.rfind("\n")
        raise _not_json(f"Line {line}, column {column}: {match[2]}") from error


def _not_json(why: str) -> WireError:
    return WireError(_NOT_JSON.format(why=why))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number.")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"The number {digits[:40]} is too large.")
    return number


def _refuse_unstorable(value: Any, path: str = "") -> None:
    """PostgreSQL stores neither NUL nor half a surrogate pair."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise WireError(
                f"Invalid '{path}': strings may hold neither NUL characters nor unpaired "
                "surrogates.",
                code="invalid_value",
                param=path,
            )
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unstorable(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key, path)
            _refuse_unstorable(item, f"{path}.{key}" if path else key)
