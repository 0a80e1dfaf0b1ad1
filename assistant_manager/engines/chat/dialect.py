"""How a turn is said to one Chat Completions server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from assistant_manager.engines.base import Item, Json, ToolCall, ToolCallsItem, Turn, TurnMessage
from assistant_manager.engines.chat.joining import Wire, by_turns, joined
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.context import (
    count_tokens,
    fitted,
    fixed_tokens,
    reviewers_words,
    shorter,
)
from assistant_manager.engines.exceptions import Rejected

CODE_NAMES = ("python", "run_python", *(f"run_python_{number}" for number in range(2, 200)))
"""What our code function may be called: the first that is no function of the assistant's own."""
CODE_DESCRIPTION = (
    "Run Python code; returns what it prints, the value of its last expression, and its errors. "
    "Variables and files stay for the next call. There is no network. Pictures (matplotlib "
    "figures and PNG files) are shown to the user. Give the user any other file by a link like "
    "[name](sandbox:/mnt/data/name)."
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A call that could not be carried out, and what the model is told of it. No step of the
    run, since nothing happened."""

    call: ToolCall
    answer: str


Entry: TypeAlias = Item | Mistake


@dataclass(frozen=True, slots=True)
class Dialect:
    """`pictures` are data URLs by our file id; `files` the names by which code opens its files."""

    turn: Turn
    options: ChatOptions
    pictures: Mapping[str, str]
    files: Sequence[str]

    def body(
        self, entries: Sequence[Entry], prompt_left: int | None, completion_left: int | None
    ) -> Wire | None:
        """The request that follows `entries`; None where not even the last message fits into the
        prompt that is left. Both limits are in tokens."""
        messages = self._messages(entries, prompt_left)
        if messages is None:
            return None
        turn, options = self.turn, self.options
        fields: Wire = {
            "model": turn.model,
            "messages": messages,
            "temperature": turn.temperature,
            "top_p": turn.top_p,
            "reasoning_effort": turn.reasoning_effort if options.reasoning_effort else None,
            "response_format": None if turn.response_format == "auto" else turn.response_format,
            "stream_options": {"include_usage": True} if options.stream_usage else None,
            options.token_limit: completion_left,
            **self._tools(entries),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def shorter(self) -> Dialect | None:
        """One that leaves older messages out; None where only the last is left."""
        messages = shorter(self.turn.messages)
        return replace(self, turn=replace(self.turn, messages=messages)) if messages else None

    @property
    def has_pictures(self) -> bool:
        parts = (part for message in self.turn.messages for part in message.content)
        return bool(self.pictures) or any(part["type"] == "image_url" for part in parts)

    # --- tools --------------------------------------------------------------------------

    @property
    def functions(self) -> dict[str, Json]:
        """The assistant's own functions that the model may call, by name."""
        tools = self.turn.tools if self.options.tools else ()
        return {tool["function"]["name"]: tool for tool in tools if tool["type"] == "function"}

    @property
    def code_name(self) -> str | None:
        """The name of our code function; None where code may not be run."""
        if not self.options.tools or not _has(self.turn, "code_interpreter"):
            return None
        return next(name for name in CODE_NAMES if name not in self.functions)

    def _tools(self, entries: Sequence[Entry]) -> Wire:
        tools = [_without_nulls(tool) for tool in self.functions.values()]
        if self.code_name:
            tools.append(self._code_tool(self.code_name))
        if not tools:
            return {}
        one_at_a_time = False if not self.turn.parallel_tool_calls else None
        choice = self._choice(entries)
        return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": one_at_a_time}

    def _code_tool(self, name: str) -> Wire:
        given = f" Files in its folder: {', '.join(self.files)}." if self.files else ""
        code = {"type": "string", "description": "Python source."}
        parameters = {"type": "object", "properties": {"code": code}, "required": ["code"]}
        function = {
            "name": name,
            "description": CODE_DESCRIPTION + given,
            "parameters": parameters,
        }
        return {"type": "function", "function": function}

    def _choice(self, entries: Sequence[Entry]) -> str | Json | None:
        """None leaves it to the model, as does a demand that has been met: it would never end."""
        choice = self.turn.tool_choice
        called = any(isinstance(entry, ToolCallsItem) for entry in (*self.turn.past, *entries))
        if choice == "auto" or (called and choice != "none"):
            return None
        if isinstance(choice, Mapping) and choice["type"] == "code_interpreter":
            return {"type": "function", "function": {"name": self.code_name}}
        return choice

    # --- messages -----------------------------------------------------------------------

    def _messages(self, entries: Sequence[Entry], prompt_left: int | None) -> list[Wire] | None:
        turn = self.turn
        after = [*self._told(turn.past), *_note(turn), *self._told(entries)]
        limits = [
            limit for limit in (prompt_left, self.options.context_window) if limit is not None
        ]
        messages = turn.messages
        if limits:
            spoken_for = fixed_tokens(turn) + (count_tokens(json.dumps(after)) if after else 0)
            messages = fitted(messages, min(limits) - spoken_for)
            if not messages and turn.messages:
                return None
        said = [self._said(message) for message in messages]
        whole = joined([*self._opening(said), *after])
        return by_turns(whole) if self.options.merge_neighbours else whole

    def _opening(self, said: list[Wire]) -> list[Wire]:
        instructions, role = self.turn.instructions, self.options.system_role
        if not instructions:
            return said
        if role != "none":
            return [{"role": role, "content": instructions}, *said]
        if not said or said[0]["role"] != "user":
            return [{"role": "user", "content": instructions}, *said]
        content = said[0]["content"]
        if isinstance(content, str):
            content = f"{instructions}\n\n{content}"
        else:
            content = [{"type": "text", "text": instructions}, *content]
        return [{**said[0], "content": content}, *said[1:]]

    def _said(self, message: TurnMessage) -> Wire:
        """Pictures only from users: the wire has no place for the model's own."""
        if message.role == "assistant" or all(part["type"] == "text" for part in message.content):
            return {"role": message.role, "content": message.text}
        return {"role": "user", "content": [self._part(part) for part in message.content]}

    def _part(self, part: Json) -> Wire:
        kind = part["type"]
        if kind == "text":
            return {"type": "text", "text": part["text"]["value"]}
        body = part[kind]
        url = body["url"] if kind == "image_url" else self.pictures[body["file_id"]]
        detail = {"detail": body["detail"]} if body.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": url, **detail}}

    def _told(self, entries: Iterable[Entry]) -> Iterator[Wire]:
        """What the model has said and called, and what came of it."""
        for entry in entries:
            if isinstance(entry, Mistake):
                yield from self._called([entry.call], [entry.answer])
            elif isinstance(entry, ToolCallsItem):
                calls = [call for call in entry.calls if call.type != "file_search"]
                yield from self._called(calls, [_output(call) for call in calls])
            elif entry.text:
                yield {"role": "assistant", "content": entry.text}

    def _called(self, calls: Sequence[ToolCall], outputs: Sequence[str]) -> Iterator[Wire]:
        if not calls:
            return
        made = [
            {"id": call.id, "type": "function", "function": self._function(call)} for call in calls
        ]
        yield {"role": "assistant", "content": None, "tool_calls": made}
        for call, output in zip(calls, outputs, strict=True):
            yield {"role": "tool", "tool_call_id": call.id, "content": output}

    def _function(self, call: ToolCall) -> Wire:
        if call.type == "code_interpreter":
            name = self.code_name or CODE_NAMES[0]
            return {"name": name, "arguments": json.dumps({"code": call.input})}
        # Servers parse what they are given back, and fail on what the model wrote badly.
        arguments = call.arguments if arguments_of(call.arguments) is not None else "{}"
        return {"name": call.name, "arguments": arguments}


def check(turn: Turn, options: ChatOptions) -> None:
    """Raises Rejected where the turn needs what this connection cannot give."""
    if obstacle := _obstacle(turn, options):
        raise Rejected(obstacle, code="invalid_prompt")


def _obstacle(turn: Turn, options: ChatOptions) -> str | None:
    searching = _has(turn, "file_search")
    if searching and any(_is_for(message, "file_search") for message in turn.messages):
        return (
            "A message has a file to be searched. Connections of the kind “chat” cannot search "
            "files: use another connection, or the code interpreter."
        )
    demand = turn.tool_choice
    if isinstance(demand, Mapping) and demand["type"] == "file_search":
        return "The run must search files, which this connection cannot."
    if demand not in ("auto", "none") and not options.tools:
        return "The run must call a tool, and the model of this connection cannot."
    if isinstance(demand, Mapping) and not _offers(turn, demand):
        return "The run must call a tool that it does not have."
    return None


def arguments_of(text: str) -> Wire | None:
    """The arguments a model wrote; None where they are no JSON object."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _offers(turn: Turn, demand: Json) -> bool:
    if demand["type"] != "function":
        return _has(turn, demand["type"])
    functions = [tool["function"]["name"] for tool in turn.tools if tool["type"] == "function"]
    return demand["function"]["name"] in functions


def _without_nulls(tool: Json) -> Wire:
    """`"strict": null` is fine with the vendor and refused by others."""
    function = {name: value for name, value in tool["function"].items() if value is not None}
    return {"type": "function", "function": function}


def _has(turn: Turn, tool_type: str) -> bool:
    return any(tool["type"] == tool_type for tool in turn.tools)


def _is_for(message: TurnMessage, tool_type: str) -> bool:
    return any(
        tool["type"] == tool_type
        for attachment in message.attachments
        for tool in attachment.get("tools") or ()
    )


def _note(turn: Turn) -> list[Wire]:
    return [{"role": "user", "content": reviewers_words(turn.note)}] if turn.note else []


def _output(call: ToolCall) -> str:
    if call.type == "function":
        return call.output or ""
    count = len(call.images)
    pictures = "1 picture was" if count == 1 else f"{count} pictures were"
    shown = f"[{pictures} shown to the user]" if count else ""
    return "\n".join(filter(None, (call.logs, shown))) or "[no output]"
