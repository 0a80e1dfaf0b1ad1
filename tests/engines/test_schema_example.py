"""Values made for JSON schemas: valid, repeatable, and refused where none can be made."""

from __future__ import annotations

import re
import time
from typing import Any

import jsonschema
import pytest

from assistant_manager.engines.pattern_example import NoMatch, matching
from assistant_manager.engines.schema_example import NoExample, example

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name"],
        }
    },
    "$ref": "#/$defs/node",
}

SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "minLength": 12, "maxLength": 12},
    {"type": "string", "maxLength": 2},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "email", "maxLength": 40},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{4}$"},
    {"type": "integer"},
    {"type": "integer", "minimum": 7, "multipleOf": 5},
    {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6},
    {"type": "integer", "maximum": -3},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
    {"type": "number", "multipleOf": 0.25, "minimum": 1.1},
    {"type": ["null", "boolean"]},
    {"type": "null"},
    {"const": {"a": 1}},
    {"enum": ["red", "green"]},
    {"type": "integer", "enum": ["three", 3]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2},
    {"type": "array", "maxItems": 0},
    {"type": "array", "contains": {"const": 5}},
    {"type": "object", "properties": {"a": {"type": "string"}}},
    {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}}},
    {"type": "object", "minProperties": 2, "properties": {"a": {"type": "string"}}},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}},
    {"properties": {"a": {"type": "boolean"}}, "required": ["a"]},
    {"type": "object", "dependentRequired": {"a": ["b"]}, "required": ["a"]},
    {"anyOf": [{"type": "string", "maxLength": 0, "minLength": 1}, {"type": "integer"}]},
    {"oneOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 9}]},
    {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 3}]},
    {"allOf": [{"type": "number"}, {"type": "integer"}]},
    {"allOf": [{"properties": {"a": {"minimum": 4}}}, {"properties": {"a": {"type": "integer"}}}]},
    {"type": "object", "properties": {"c": {"$ref": "#/definitions/c"}},
     "definitions": {"c": {"enum": ["EUR"]}}},
    TREE,
    {"type": "object", "properties": {}},
    {},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_value_satisfies_the_schema_and_is_always_the_same(schema: dict[str, Any]) -> None:
    made = example(schema)
    jsonschema.validate(made, schema, jsonschema.Draft202012Validator)
    assert example(schema) == made


def test_free_texts_go_into_the_strings_that_can_hold_them() -> None:
    schema = {
        "type": "object",
        "properties": {
            "code": {"type": "string", "maxLength": 2},
            "city": {"type": "string"},
            "land": {"type": "string"},
        },
        "required": ["code", "city", "land"],
    }
    assert example(schema, ["Bern", "Chur"]) == {"code": "co", "city": "Bern", "land": "Chur"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"not": {}},
        {"type": "no such type"},
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "other.json"},
        {"allOf": [False]},
        {"anyOf": [{"$ref": "#"}]},
        {"type": "string", "pattern": "^(?=a)b"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"type": "object", "minProperties": 10**9},
        {"enum": ["a" * 40], "pattern": "^(a+)+b$"},
        {"type": "string", "description": "x" * 70_000},
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_a_schema_that_cannot_be_met_is_refused_at_once(schema: dict[str, Any]) -> None:
    started = time.process_time()
    with pytest.raises(NoExample):
        example(schema)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]+$", "^\\d{3}-\\d{4}$", "^(foo|bar)$", "^[^@ ]+@[^@ ]+\\.[a-z]{2,}$", "a?b*c+",
        "^\\+?[1-9]\\d{1,14}$", "^#[0-9a-fA-F]{6}$", "^[A-Za-z0-9_-]{8,}$", "^v\\d+\\.\\d+$",
        "^(?:\\d{4})-(?:\\d{2})$", "^\\w+\\s\\w+$", "^.{3}$", "[.]", "^[\\w.]+$", "^$",
    ],
)  # fmt: skip
def test_common_patterns_are_filled_in(pattern: str) -> None:
    assert re.search(pattern, matching(pattern))


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", "(?!a)b", "(?P<n>a)", "\\1", "(a", "[a", "*a", "a{3", "a{999}",
                "a*a*a*a*b", "[^\\w\\s\\-.,:;!/@#]"]
)  # fmt: skip
def test_patterns_that_are_slow_or_beyond_reach_are_refused(pattern: str) -> None:
    with pytest.raises(NoMatch):
        matching(pattern)
