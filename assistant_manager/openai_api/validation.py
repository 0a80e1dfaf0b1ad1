"""Requests against their schemas, and pydantic's findings in the vendor's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from django.http import QueryDict
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from assistant_manager.openai_api.bodies import kind_of
from assistant_manager.openai_api.errors import WireError


class Body(BaseModel):
    """A request body. Unknown keys are refused, and nothing is converted: "3" is not 3."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Inner(Body):
    """An object within a body. Null there says no more than leaving the key out, and is not kept:
    on its way out again, the vendor's schemas have no null in these places."""

    @model_serializer(mode="wrap")
    def without_nulls(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if value is not None}


class Query(BaseModel):
    """Query parameters: always strings on the way in. Names ending in `[]` are lists."""

    model_config = ConfigDict(extra="forbid")


class NoQuery(Query):
    """For routes that take no parameters."""


S = TypeVar("S", bound=BaseModel)


def read_body(schema: type[S], value: Mapping[str, Any]) -> S:
    """Raises WireError naming the first thing that is wrong."""
    return _read(schema, value)


def read_query(schema: type[S], parameters: QueryDict) -> S:
    """As `read_body`; `api-version` is Azure's, and passes everywhere."""
    for name, values in parameters.lists():
        if any("\0" in text for text in (name, *values)):
            raise WireError("Query parameters may not hold NUL characters.", code="invalid_value")
    return _read(
        schema,
        {
            name: values if name.endswith("[]") else values[-1]
            for name, values in parameters.lists()
            if name != "api-version"
        },
    )


def _read(schema: type[S], value: Mapping[str, Any]) -> S:
    try:
        return schema.model_validate(dict(value))
    except ValidationError as error:
        raise _translated(error.errors(include_url=False)[0]) from error


# --- Unions -----------------------------------------------------------------------------
#
# pydantic puts the tag of the chosen member into an error's path, where the wire has nothing.
# Tags in angle brackets can be told from keys and are dropped again.


def by_kind(value: Any) -> str:
    """The tag of a union's member: `<the object's type>`, `<string>` or `<array>`; `<>` for none."""
    match value:
        case str():
            return "<string>"
        case list():
            return "<array>"
        case {"type": str(type)}:
            return f"<{type}>"
        case BaseModel():  # pydantic asks again when it writes a member out
            return f"<{getattr(value, 'type', '')}>"
    return "<>"


def _path(location: Sequence[int | str]) -> str:
    """`tools[0].function.name`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (part.startswith("<") or part == "[key]"):
            path += f".{part}" if path else part
    return _shortened(path)


# --- Words ------------------------------------------------------------------------------

EXPECTED: dict[str, str] = {
    "string_type": "a string",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "float_parsing": "a decimal",
    "list_type": "an array of values",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def _translated(found: ErrorDetails) -> WireError:
    type, path, given = found["type"], _path(found["loc"]), found["input"]
    if type == "missing":
        return _missing(path)
    if type == "extra_forbidden":
        return WireError(f"Unknown parameter: '{path}'.", code="unknown_parameter", param=path)
    if type in EXPECTED:
        return _wrong_type(path, EXPECTED[type], given)
    words = WORDS.get(type)
    if words is not None:
        return words(path, given, found.get("ctx", {}))
    return WireError(f"Invalid '{path}': {found['msg']}", code="invalid_value", param=path)


def _missing(path: str) -> WireError:
    return WireError(
        f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path
    )


def _wrong_type(path: str, expected: str, given: Any) -> WireError:
    return WireError(
        f"Invalid type for '{path}': expected {expected}, but got {kind_of(given)} instead.",
        code="invalid_type",
        param=path,
    )


def _wrong_value(path: str, given: Any, supported: list[str]) -> WireError:
    if not isinstance(given, str):
        return _wrong_type(path, f"one of {_listed(supported)}", given)
    return WireError(
        f"Invalid value: '{_shortened(given)}'. Supported values are: {_listed(supported)}.",
        code="invalid_value",
        param=path,
    )


def _listed(values: list[str]) -> str:
    """`'a', 'b' and 'c'`."""
    quoted = [f"'{value}'" for value in values]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "…"


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _literal(path: str, given: Any, context: dict[str, Any]) -> WireError:
    return _wrong_value(path, given, _quoted(context["expected"]))


def _no_member(path: str, given: Any, context: dict[str, Any]) -> WireError:
    """The value chose no member of a union: by its `type`, or by not having one."""
    tags = [tag.strip("<>") for tag in _quoted(context["expected_tags"])]
    kinds = {"string": "a string", "array": "an array"}
    types = [tag for tag in tags if tag not in kinds]
    if not isinstance(given, dict) or not types:
        expected = [kinds[tag] for tag in tags if tag in kinds] + ["an object"] * bool(types)
        return _wrong_type(path, " or ".join(expected) or "an object", given)
    path = f"{path}.type" if path else "type"
    return _wrong_value(path, given["type"], types) if "type" in given else _missing(path)


def _length(noun: str, code: str, count: str) -> Callable[[str, Any, dict[str, Any]], WireError]:
    def too_long(path: str, given: Any, context: dict[str, Any]) -> WireError:
        limit = context["max_length"]
        return WireError(
            f"Invalid '{path}': {noun} too long. Expected {_article(noun)} with maximum length "
            f"{limit}, but got {_article(noun)} with length {len(given)} instead.",
            code=code,
            param=path,
        )

    def too_short(path: str, given: Any, context: dict[str, Any]) -> WireError:
        return WireError(
            f"Invalid '{path}': {noun} too short. Expected {_article(noun)} with minimum length "
            f"{context['min_length']}, but got {_article(noun)} with length {len(given)} instead.",
            code=code,
            param=path,
        )

    return too_long if count == "max" else too_short


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _too_long(path: str, given: Any, context: dict[str, Any]) -> WireError:
    if isinstance(given, dict):
        limit, got = context["max_length"], len(given)
        return WireError(
            f"Invalid '{path}': too many properties. Expected an object with at most {limit} "
            f"properties, but got an object with {got} properties instead.",
            code="object_above_max_properties",
            param=path,
        )
    return _length("array", "array_above_max_length", "max")(path, given, context)


def _bound(side: str, sign: str, key: str) -> Callable[[str, Any, dict[str, Any]], WireError]:
    def out_of_range(path: str, given: Any, context: dict[str, Any]) -> WireError:
        limit = context[key]
        kind = "decimal" if isinstance(limit, float) else "integer"
        limit = int(limit) if limit == int(limit) else limit
        code = f"{kind}_{'above_max' if side == 'above maximum' else 'below_min'}_value"
        return WireError(
            f"Invalid '{path}': {kind} {side} value. Expected a value {sign} {limit}, but got "
            f"{_shortened(str(given))} instead.",
            code=code,
            param=path,
        )

    return out_of_range


def _pattern(path: str, given: Any, context: dict[str, Any]) -> WireError:
    return WireError(
        f"Invalid '{path}': string does not match pattern. Expected a string that matches the "
        f"pattern '{context['pattern']}'.",
        code="invalid_value",
        param=path,
    )


WORDS: dict[str, Callable[[str, Any, dict[str, Any]], WireError]] = {
    "literal_error": _literal,
    "union_tag_invalid": _no_member,
    "string_too_long": _length("string", "string_above_max_length", "max"),
    "string_too_short": _length("string", "string_below_min_length", "min"),
    "string_pattern_mismatch": _pattern,
    "too_long": _too_long,
    "too_short": _length("array", "array_below_min_length", "min"),
    "less_than_equal": _bound("above maximum", "<=", "le"),
    "greater_than_equal": _bound("below minimum", ">=", "ge"),
}


def refuse(message: str) -> PydanticCustomError:
    """What a schema's own validator raises; the text follows `Invalid 'path': `."""
    return PydanticCustomError("refused", "{words}", {"words": message})
