"""A value that satisfies a JSON schema, so that function calls can be tried without a model.

The same schema and texts always give the same value, and the value is validated before it is
handed out. Nothing is fetched: references must point into the schema itself. The validator is
imported on first use, for hardly anybody comes here and all would wait for it at their start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from assistant_manager.engines.pattern_example import NoMatch, matching

DEEPEST = 16
MOST_STEPS = 3_000
LARGEST_SCHEMA = 64 * 1024  # characters of its JSON
LONGEST_STRING = 4_096
MOST_ITEMS = 200
_FORMATS = {
    "date-time": "2025-01-01T12:00:00Z",
    "date": "2025-01-01",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "idn-email": "someone@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "iri": "https://example.com/",
    "uri-reference": "/example",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json-pointer": "/example",
    "regex": "^a$",
}
# Keys that `anyOf` and its like hold beside themselves; they apply to every choice.
_CHOICES = ("anyOf", "oneOf")

Schema = Mapping[str, Any]


class NoExample(Exception):
    """No value was found. The text says why, for people."""


def example(schema: Schema, texts: Iterable[str] = ()) -> Any:
    """A value that satisfies `schema`. Free strings are taken from `texts` while they last.

    Follows JSON Schema 2020-12, or the draft that `$schema` names. Raises NoExample.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, ValidationError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if len(json.dumps(schema)) > LARGEST_SCHEMA:
        raise NoExample("The schema is too large.")
    _check_patterns(schema)
    validator_class = validator_for(schema, default=Draft202012Validator)
    try:
        validator_class.check_schema(dict(schema))
        made = _Maker(schema, texts).make(schema, 0, "value")
        # An empty registry keeps the validator from fetching references.
        validator_class(schema, registry=Registry()).validate(made)
    except SchemaError as error:
        raise NoExample(f"It is not a JSON schema: {error.message}.") from error
    except ValidationError as error:
        raise NoExample(f"The value made for it does not satisfy it: {error.message}.") from error
    except (Unresolvable, RecursionError) as error:
        raise NoExample("It holds a reference that cannot be followed.") from error
    return made


def _check_patterns(node: Any) -> None:
    """Refuses expressions that could take the validator for ever, wherever they stand."""
    if isinstance(node, Mapping):
        patterns = [node["pattern"]] if isinstance(node.get("pattern"), str) else []
        if isinstance(node.get("patternProperties"), Mapping):
            patterns += list(node["patternProperties"])
        for pattern in patterns:
            _matching(pattern)
        for inner in node.values():
            _check_patterns(inner)
    elif isinstance(node, list):
        for inner in node:
            _check_patterns(inner)


def _matching(pattern: str) -> str:
    try:
        return matching(pattern)
    except NoMatch as error:
        raise NoExample(f"The pattern {pattern!r} cannot be filled in: {error}.") from error


class _Maker:
    def __init__(self, root: Schema, texts: Iterable[str]) -> None:
        self._root = root
        self._texts = list(texts)
        self._steps = 0

    def make(self, schema: Any, depth: int, name: str) -> Any:
        """A value for `schema`, the part of the schema called `name`."""
        self._steps += 1
        if depth > DEEPEST or self._steps > MOST_STEPS:
            raise NoExample("The schema is nested too deeply.")
        if schema is True:
            return "example"
        if schema is False:
            raise NoExample(f"Nothing satisfies the schema of '{name}'.")
        schema = self._merged(schema)
        for choice in _CHOICES:
            if choice in schema:
                return self._first_that_fits(schema, choice, depth, name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._first_valid(schema, schema["enum"], name)
        return self._typed(schema, depth, name)

    def _merged(self, schema: Schema) -> dict[str, Any]:
        """The schema with its reference and `allOf` parts folded in."""
        merged: dict[str, Any] = {}
        parts: list[Any] = [schema]
        for _ in range(MOST_STEPS):
            if not parts:
                return merged
            part = parts.pop(0)
            if part is True:
                continue
            if part is False:
                raise NoExample("The schema excludes every value.")
            if "$ref" in part:
                parts.append(self._referenced(part["$ref"]))
            parts += part.get("allOf", [])
            _fold(merged, {key: part[key] for key in part if key not in ("$ref", "allOf")})
        raise NoExample("A reference of the schema leads back to itself.")

    def _referenced(self, reference: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise NoExample(f"The reference '{reference}' points outside the schema.")
        found: Any = self._root
        for step in reference[2:].split("/") if reference != "#" else ():
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise NoExample(f"The reference '{reference}' points nowhere.") from None
        return found

    def _first_that_fits(self, schema: Schema, choice: str, depth: int, name: str) -> Any:
        rest = {key: value for key, value in schema.items() if key != choice}
        texts, reason = list(self._texts), None
        for option in schema[choice]:
            self._texts = list(texts)
            try:
                merged = self._merged({"allOf": [rest, option]})
                made = self.make(merged, depth + 1, name)
                if self._is_valid(schema, made):
                    return made
            except NoExample as error:
                reason = error
        raise reason or NoExample(f"No choice for '{name}' can be filled in.")

    def _first_valid(self, schema: Schema, values: Sequence[Any], name: str) -> Any:
        for value in values:
            if self._is_valid(schema, value):
                return value
        raise NoExample(f"No listed value of '{name}' satisfies the rest of its schema.")

    def _is_valid(self, schema: Schema, value: Any) -> bool:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for
        from referencing import Registry

        # The definitions come along, since the references inside are told from the root.
        whole = {**{key: self._root[key] for key in self._root if key[:1] == "$"}, **schema}
        if "definitions" in self._root:
            whole.setdefault("definitions", self._root["definitions"])
        validator_class = validator_for(self._root, default=Draft202012Validator)
        valid: bool = validator_class(whole, registry=Registry()).is_valid(value)
        return valid

    def _typed(self, schema: Schema, depth: int, name: str) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth, name)
            case "integer":
                return _number(schema, name, step=Fraction(1))
            case "number":
                return _number(schema, name, step=None)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        # Optional properties are left out, unless that would leave nothing to see.
        names = list(schema.get("required") or (properties if depth == 0 else ()))
        for name in properties:
            if len(names) < schema.get("minProperties", 0) and name not in names:
                names.append(name)
        while len(names) < min(schema.get("minProperties", 0), MOST_ITEMS):
            names.append(f"extra_{len(names)}")
        for name in names:
            names += [
                other
                for other in schema.get("dependentRequired", {}).get(name, [])
                if other not in names
            ]
        return {name: self.make(_property(schema, name), depth + 1, name) for name in names}

    def _array(self, schema: Schema, depth: int, name: str) -> list[Any]:
        wanted = max(int(schema.get("minItems", 1)), 1)
        wanted = min(wanted, int(schema.get("maxItems", wanted)))
        if wanted > MOST_ITEMS:
            raise NoExample(f"'{name}' needs more than {MOST_ITEMS} items.")
        first = schema.get("prefixItems", [])
        items = [self.make(part, depth + 1, name) for part in first]
        if "contains" in schema:
            items.append(self.make(schema["contains"], depth + 1, name))
        each = schema.get("items", {"type": "string"})
        while len(items) < wanted:
            item = self.make(each, depth + 1, name)
            if schema.get("uniqueItems") and item in items:
                item = self._another(each, items, name)
            items.append(item)
        return items

    def _another(self, schema: Any, taken: list[Any], name: str) -> Any:
        """A value for an item of a set, different from those taken."""
        merged = self._merged(schema) if isinstance(schema, Mapping) else {}
        candidates = list(merged.get("enum", ()))
        kind = _type_of(merged)
        if kind in ("integer", "number") and taken:
            numbers = [value for value in taken if not isinstance(value, str)]
            step = merged.get("multipleOf", 1)
            candidates += [max(numbers) + step, min(numbers) - step]
        elif kind == "string":
            candidates += [f"{name} {len(taken) + 1}", f"{taken[0]}{len(taken) + 1}"]
        elif kind == "boolean":
            candidates += [False]
        fresh = [value for value in candidates if value not in taken]
        return self._first_valid(merged, fresh, name)

    def _string(self, schema: Schema, name: str) -> str:
        if "pattern" in schema:
            return _matching(schema["pattern"])
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        if least > LONGEST_STRING:
            raise NoExample(f"'{name}' needs more than {LONGEST_STRING:,} characters.")
        if self._texts and (most is None or len(self._texts[0]) <= most):
            text = self._texts.pop(0)
        else:
            text = name
        return text.ljust(least, ".")[: most if most is not None else None]


def _fold(merged: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Adds the rules of `part` so that both hold, for the rules where that is easily said."""
    for key, value in part.items():
        if key not in merged:
            merged[key] = value
        elif key == "properties":
            both = {
                name: {"allOf": [merged[key][name], value[name]]}
                for name in value
                if name in merged[key]
            }
            merged[key] = {**merged[key], **value, **both}
        elif key == "required":
            merged[key] = [*merged[key], *(name for name in value if name not in merged[key])]
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            merged[key] = max(merged[key], value)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            merged[key] = min(merged[key], value)
        elif key == "enum":
            merged[key] = [choice for choice in merged[key] if choice in value]
        elif key == "type":
            merged[key] = _common_types(merged[key], value)


def _common_types(one: Any, other: Any) -> list[str]:
    ones = [one] if isinstance(one, str) else list(one)
    others = [other] if isinstance(other, str) else list(other)
    common = [kind for kind in ones if kind in others]
    if not common and "integer" in ones + others and "number" in ones + others:
        return ["integer"]
    return common


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is not None:
        return str(kind)
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if any(key in schema for key in ("minimum", "maximum", "multipleOf")):
        return "number"
    return "string"


def _property(schema: Schema, name: str) -> Any:
    if name in schema.get("properties", {}):
        return schema["properties"][name]
    other = schema.get("additionalProperties", True)
    return {"type": "string"} if other is True or other == {} else other


def _number(schema: Schema, name: str, step: Fraction | None) -> int | float:
    """The smallest allowed number from 1 up, or else the largest below."""
    multiple = schema.get("multipleOf")
    step = Fraction(str(multiple)) if multiple else step
    low = _bound(schema, "minimum", "exclusiveMinimum", step, 1)
    high = _bound(schema, "maximum", "exclusiveMaximum", step, -1)
    if low is None:
        low = Fraction(1) if high is None or high >= 1 else high
        low = low if step is None else _rounded(low, step, 1 if high is None or high >= 1 else -1)
    if high is not None and low > high and step is None:
        low = (low + high) / 2  # both bounds are exclusive and less than one apart
    elif high is not None and low > high:
        raise NoExample(f"No number satisfies the schema of '{name}'.")
    return int(low) if low.denominator == 1 else float(low)


def _bound(
    schema: Schema, inclusive: str, exclusive: str, step: Fraction | None, way: int
) -> Fraction | None:
    """The outermost allowed number on one side; `way` is 1 for the lower bound, -1 for the upper."""
    bounds: list[Fraction] = []
    limit, beyond = schema.get(inclusive), schema.get(exclusive)
    if beyond is True:  # draft 4 said it with a flag
        limit, beyond = None, limit
    if limit is not None:
        value = Fraction(str(limit))
        bounds.append(value if step is None else _rounded(value, step, way))
    if beyond is not None and beyond is not False:
        value = Fraction(str(beyond))
        if step is None:
            bounds.append(value + way * Fraction(1, 2))
        else:
            near = _rounded(value, step, way)
            bounds.append(near if near != value else value + way * step)
    if not bounds:
        return None
    return max(bounds) if way == 1 else min(bounds)


def _rounded(value: Fraction, step: Fraction, way: int) -> Fraction:
    quotient = value / step
    return step * (math.ceil(quotient) if way == 1 else math.floor(quotient))
