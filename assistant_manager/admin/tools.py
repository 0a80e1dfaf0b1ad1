"""Tools as people type them: checked here, so that a mistake shows under the field and not in
the first run."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError

MOST = 128
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
TYPES = ("code_interpreter", "file_search", "function")


def check_tools(tools: Any) -> None:
    """Raise ValidationError unless `tools` is what the wire takes (protocol reference, tools)."""
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValidationError('Write a list of tools, such as [{"type": "code_interpreter"}].')
    if len(tools) > MOST:
        raise ValidationError(f"An assistant has at most {MOST} tools.")
    for number, tool in enumerate(tools, start=1):
        if tool.get("type") not in TYPES:
            raise ValidationError(f"Tool {number}: “type” is one of {', '.join(TYPES)}.")
        if tool["type"] == "function":
            _check_function(number, tool.get("function"))
    names = [tool["function"]["name"] for tool in tools if tool["type"] == "function"]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValidationError(f"Two functions are called {', '.join(sorted(twice))}.")


def _check_function(number: int, function: Any) -> None:
    if not isinstance(function, dict) or not NAME.fullmatch(str(function.get("name", ""))):
        raise ValidationError(
            f"Tool {number}: a function needs a name of letters, digits, “_” and “-”, 64 at most."
        )
    import jsonschema  # takes a while, and most assistants have no functions

    parameters = function.get("parameters", {})
    try:
        jsonschema.Draft202012Validator.check_schema(parameters)
    except jsonschema.SchemaError as error:
        raise ValidationError(
            f"Tool {number}: “parameters” is not a JSON Schema: {error.message}"
        ) from error
