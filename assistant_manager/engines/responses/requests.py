"""A turn as the body of a request, field by field, and how to ask differently after a refusal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from assistant_manager.engines.base import Json, Turn, TurnMessage
from assistant_manager.engines.context import (
    TOO_LONG,
    count_tokens,
    fitted,
    fixed_tokens,
    message_tokens,
    shorter,
)
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.engines.responses.files import Material
from assistant_manager.engines.responses.inputs import message_items, replayed
from assistant_manager.engines.responses.options import ResponsesOptions, options_of

logger = logging.getLogger(__name__)

LEAST_OUTPUT_TOKENS = 16
"""The upstream takes no smaller `max_output_tokens`."""
ROOM_FOR_ANSWER = 4_000
"""Tokens of the context window kept for the answer where the run sets no limit."""
ENCRYPTED = "reasoning.encrypted_content"
DISPENSABLE = {"temperature", "top_p", "include", "stream"}
"""What a request can do without, where the upstream's model does not take it."""
OLD_RANKERS = {"default_2024_08_21"}
NO_PARAMETERS = {"type": "object", "properties": {}}
INCLUDE_OF = {
    "code_interpreter": "code_interpreter_call.outputs",
    "file_search": "file_search_call.results",
}


class TooLong(Exception):
    """Not even the last message fits into the run's `max_prompt_tokens`."""


class Draft:
    """The request for one attempt, as long as the upstream has not taken it.

    `dropped` are fields that it did not take, by experience. `listens`: the answer is to be
    streamed.
    """

    def __init__(self, turn: Turn, dropped: set[str], *, listens: bool) -> None:
        self.turn = turn
        self.options: ResponsesOptions = options_of(turn.connection)
        self.dropped = dropped
        self.listens = listens
        self.material = Material()
        self._replayed = replayed(turn)
        self.messages = self._fitted()

    @property
    def include(self) -> list[str]:
        """What to ask for when looking, too."""
        if "include" in self.options.leave_out:
            return []
        return include_for([tool["type"] for tool in self._tools()], self.options, self.dropped)

    def body(self) -> dict[str, Any]:
        turn, options = self.turn, self.options
        body: dict[str, Any] = {
            "model": turn.model,
            "input": [*message_items(self.messages, self.material.images), *self._replayed],
            "background": options.background,
            "store": options.background,  # a background answer is read from the store
            "truncation": "disabled",
            "metadata": {"am_run": turn.run_id, "am_attempt": turn.attempt_key},
        }
        optional: dict[str, Any] = {
            "instructions": turn.instructions or None,
            "temperature": turn.temperature,
            "top_p": turn.top_p,
            "reasoning": {"effort": turn.reasoning_effort} if turn.reasoning_effort else None,
            "text": _text(turn.response_format),
            "max_output_tokens": output_tokens_left(turn),
            "include": self.include or None,
            "stream": self.listens or None,
        }
        if tools := list(self._tools()):
            optional["tools"] = tools
            optional["tool_choice"] = self._tool_choice(tools)
            optional["parallel_tool_calls"] = turn.parallel_tool_calls
        body |= {name: value for name, value in optional.items() if value is not None}
        missing = {*options.leave_out, *(self.dropped - {"include"})}
        return {name: value for name, value in body.items() if name not in missing}

    def adjust(self, refusal: Rejected) -> bool:
        """Ask for less after a refusal, if that may help; False when there is nothing to change."""
        if refusal.reason in TOO_LONG:
            return self.shorten()
        parameter = refusal.parameter.partition("[")[0]
        if parameter not in DISPENSABLE - self.dropped or parameter not in self.body():
            return False
        logger.warning(
            "“%s” takes no %s for %s", self.turn.connection.name, parameter, self.turn.model
        )
        self.dropped.add(parameter)
        return True

    # --- the context ----------------------------------------------------------------------

    def _fitted(self) -> list[TurnMessage]:
        """The messages that fit, at least the last: whether that alone is too long for the model
        is for the upstream to say. Raises TooLong."""
        turn, window = self.turn, self.options.context_window
        fixed = fixed_tokens(turn) + count_tokens(json.dumps(self._replayed))
        answer = min(output_tokens_left(turn) or ROOM_FOR_ANSWER, window // 2)
        budget = window - answer - fixed
        left = None if self.options.counts_tokens else prompt_tokens_left(turn)
        if left is not None:
            budget = min(budget, left - fixed)
        kept = fitted(turn.messages, budget) or list(turn.messages[-1:])
        if left is not None and fixed + sum(message_tokens(message) for message in kept) > left:
            raise TooLong
        return kept

    def shorten(self) -> bool:
        """The upstream counts more tokens than we do: leave older messages out. False: there is
        only one."""
        fewer = shorter(self.messages)
        self.messages = fewer or self.messages
        return fewer is not None

    # --- the tools ------------------------------------------------------------------------

    def _tools(self) -> Iterator[dict[str, Any]]:
        for tool in self.turn.tools:
            match tool["type"]:
                case "function":
                    yield _function(tool["function"])
                case "code_interpreter":
                    files = {"file_ids": list(self.material.code_files)}
                    container = {"type": "auto", **(files if self.material.code_files else {})}
                    yield {"type": "code_interpreter", "container": container}
                case "file_search" if self.material.store:
                    yield _file_search(tool.get("file_search") or {}, self.material.store)

    def _tool_choice(self, tools: Sequence[Json]) -> str | dict[str, Any]:
        choice = self.turn.tool_choice
        if choice == "none":
            return "none"
        if any(item.get("type") == "function_call_output" for item in self._replayed):
            return "auto"  # what was demanded has been done; again would be for ever
        if isinstance(choice, str):
            return choice
        if choice["type"] == "function":
            return {"type": "function", "name": choice["function"]["name"]}
        offered = any(tool["type"] == choice["type"] for tool in tools)
        return {"type": choice["type"]} if offered else "auto"


def output_tokens_left(turn: Turn) -> int | None:
    """How long the answer may be after all earlier attempts; None without a limit."""
    if turn.max_completion_tokens is None:
        return None
    return turn.max_completion_tokens - turn.spent.completion_tokens


def prompt_tokens_left(turn: Turn) -> int | None:
    """How long the prompt may be after all earlier attempts; None without a limit."""
    if turn.max_prompt_tokens is None:
        return None
    return turn.max_prompt_tokens - turn.spent.prompt_tokens


def include_for(tools: Sequence[str], options: ResponsesOptions, dropped: set[str]) -> list[str]:
    """Reasoning is always asked for: any attempt may have to be taken further."""
    asked = [INCLUDE_OF[tool] for tool in tools if tool in INCLUDE_OF]
    if "include" not in dropped:
        asked.append(ENCRYPTED)
    return [name for name in asked if name in options.include]


def _function(function: Json) -> dict[str, Any]:
    """`strict` is always said: without it the upstream would take it for granted."""
    described = {"description": function["description"]} if function.get("description") else {}
    return {
        "type": "function",
        "name": function["name"],
        **described,
        "parameters": function.get("parameters") or NO_PARAMETERS,
        "strict": bool(function.get("strict")),
    }


def _file_search(wanted: Json, store: str) -> dict[str, Any]:
    tool: dict[str, Any] = {"type": "file_search", "vector_store_ids": [store]}
    if wanted.get("max_num_results"):
        tool["max_num_results"] = wanted["max_num_results"]
    ranking = dict(wanted.get("ranking_options") or {})
    if ranking.get("ranker") in OLD_RANKERS:
        del ranking["ranker"]
    if ranking:
        tool["ranking_options"] = ranking
    return tool


def _text(wanted: str | Json) -> dict[str, Any] | None:
    """The answer's format; None for plain text, which needs no word."""
    kind = wanted if isinstance(wanted, str) else wanted.get("type", "text")
    if kind == "json_object":
        return {"format": {"type": "json_object"}}
    if kind != "json_schema" or isinstance(wanted, str):
        return None
    schema = wanted["json_schema"]
    given = {
        name: schema[name]
        for name in ("name", "description", "strict")
        if schema.get(name) is not None
    }
    return {"format": {"type": "json_schema", "schema": schema.get("schema") or {}, **given}}
