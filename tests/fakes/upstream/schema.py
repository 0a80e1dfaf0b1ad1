"""The vendor's published schemas, held against what is sent to the fake.

What they refuse is answered with 400 and kept in the journal: an engine that hears 400 fails its
run, and a test that only looks at the run would not see whose fault it was.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.fakes.upstream.call import Call, Refused

FOLDER = Path(__file__).parents[1] / "schemas"
SECTION = "components/schemas"


@cache
def books() -> dict[str, dict[str, Any]]:
    paths = sorted(FOLDER.glob("*.json"))
    return {f"urn:{path.stem}": json.loads(path.read_text()) for path in paths}


@cache
def validator(name: str) -> Draft202012Validator:
    resources = {urn: Resource.from_contents(book, DRAFT202012) for urn, book in books().items()}
    for urn, book in books().items():
        if name in book["components"]["schemas"]:
            registry: Registry[Any] = Registry().with_resources(resources.items())
            return Draft202012Validator({"$ref": f"{urn}#/{SECTION}/{name}"}, registry=registry)
    raise KeyError(name)


@cache
def parameters(name: str) -> frozenset[str]:
    """The fields of an object; those it inherits as well."""
    for book in books().values():
        if name in book["components"]["schemas"]:
            return frozenset(fields(book, book["components"]["schemas"][name]))
    raise KeyError(name)


def fields(book: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    if "$ref" in schema:
        schema = book["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    found = set(schema.get("properties", ()))
    return found.union(*(fields(book, part) for part in schema.get("allOf", ())))


def errors(name: str, body: Any) -> list[str]:
    """The worst error, in words; nothing if there is none."""
    error = best_match(validator(name).iter_errors(body))
    return [describe(narrow(error))] if error else []


def violations(name: str, body: Any) -> list[str]:
    """The schema lets unknown fields pass; the vendor does not."""
    found = errors(name, body)
    unknown = sorted(set(body) - parameters(name)) if isinstance(body, dict) else []
    return found + [f"Unknown parameter: '{field}'." for field in unknown]


def narrow(error: ValidationError) -> ValidationError:
    """Of the branches of an `anyOf`, the one that was meant: its `type` fits, and little else is wrong."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    fitting = [
        errors
        for errors in branches.values()
        if not any("type" in (inner.validator, *inner.relative_path) for inner in errors)
    ]
    return narrow(min(fitting, key=len)[0]) if fitting else error


def describe(error: ValidationError) -> str:
    """Without the value, which may be as long as a thread."""
    message = error.message.replace(repr(error.instance), "it", 1)
    return f"{error.json_path}: {message[:300]}"


def check(call: Call, name: str) -> None:
    """Refuses a body that breaks the schema of this name. No body is an empty one."""
    found = violations(name, call.body if call.body is not None else {})
    if found:
        call.entry.violations += [f"{name}: {line}" for line in found]
        raise Refused(400, " ".join(found), code="invalid_value")
