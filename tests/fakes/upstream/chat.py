"""Chat Completions: one request, one answer, whole or in pieces."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import events, faults, script
from tests.fakes.upstream.call import Call, Refused, new_id, reply
from tests.fakes.upstream.script import Script

if TYPE_CHECKING:
    from tests.fakes.upstream.server import Upstream

Message = dict[str, Any]
FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}
MARKER = re.compile(r"【[^】]*】")


async def create(upstream: Upstream, call: Call) -> web.StreamResponse:
    state, body = upstream.state, call.body or {}
    told = script.read(instructions(body.get("messages") or []))
    if fault := state.meet(call, told):
        return fault
    check(body)
    state.count_accepted(call)
    message = compose(told, body)
    await faults.taken(call)
    counted = script.usage(told, body["messages"], message)
    if counted and (most := body.get("max_completion_tokens") or body.get("max_tokens")):
        told, message, counted = shortened(told, message, counted, most)
    if body.get("stream"):
        return await stream(call, told, message, counted)
    await asyncio.sleep(told.get("seconds", 0))
    if told.get("status") == "failed":
        raise failure(told)
    ended = {"index": 0, "message": message, "logprobs": None}
    ended["finish_reason"] = finish(told, message)
    whole = {**head(body, "chat.completion"), "choices": [ended]}
    return reply({**whole, "usage": usage(*counted)} if counted else whole)


def shortened(
    told: Script, message: Message, counted: tuple[int, int], most: int
) -> tuple[Script, Message, tuple[int, int]]:
    """Not longer than so many tokens, each of four characters."""
    text = message["content"] or ""
    if len(text) <= 4 * most:
        return told, message, (counted[0], min(counted[1], most))
    cut = {**message, "content": text[: 4 * most]}
    return {**told, "status": "incomplete"}, cut, (counted[0], most)


def instructions(messages: list[Message]) -> str:
    """The first system message or, for servers that have none, the first user message."""
    for roles in (("system", "developer"), ("user",)):
        for message in messages:
            if message.get("role") in roles:
                return script.text_of(message.get("content"))
    return ""


def check(body: dict[str, Any]) -> None:
    """What the vendor refuses most: no model, no messages, calls without their outputs."""
    for name in ("model", "messages"):
        if not body.get(name):
            raise Refused(400, f"Missing required parameter: '{name}'.", param=name)
    waiting: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise Refused(400, f"Invalid parameter: {text}", param="messages")
            waiting.discard(message["tool_call_id"])
        elif waiting:
            break
        else:
            waiting = {made["id"] for made in message.get("tool_calls") or ()}
    if waiting:
        text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        raise Refused(400, f"{text}Missing: {', '.join(sorted(waiting))}", param="messages")


def compose(told: Script, body: dict[str, Any]) -> Message:
    outputs = outputs_by_function(body["messages"])
    made = [] if body.get("tool_choice") == "none" else wanted(told, body, outputs)
    if made:
        calls = [tool_call(name, arguments) for name, arguments in made]
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": calls}
    own = [text for name, text in outputs if name not in hosted(told)]
    text = script.answer(told, own)
    if told.get("refusal"):
        return {"role": "assistant", "content": None, "refusal": text}
    searched = "".join(text for name, text in outputs if name == "file_search")
    printed = [text for name, text in outputs if name == hosted(told)[0]]
    text = " ".join([text, *printed]) + "".join(MARKER.findall(searched))
    return {"role": "assistant", "content": text, "refusal": None}


def hosted(told: Script) -> tuple[str, str]:
    """The functions that stand in for the hosted tools this API lacks."""
    return told.get("code_function", "python"), "file_search"


def wanted(
    told: Script, body: dict[str, Any], outputs: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The functions to call now, those for hosted tools first."""
    offered = {tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool}
    called = [name for name, _ in outputs]
    calls: list[tuple[str, str]] = []
    python = hosted(told)[0]
    rounds_left = called.count(python) < told.get("code_rounds", 1)
    if told.get("code") and python in offered and rounds_left:
        calls.append((python, json.dumps({"code": told["code"]})))
    if told.get("citations") and "file_search" in offered and "file_search" not in called:
        calls.append(("file_search", json.dumps({"queries": ["what is it about"]})))
    if told.get("tools") and all(name in hosted(told) for name in called):
        calls += [(tool["name"], script.arguments(tool)) for tool in told["tools"]]
    return calls


def outputs_by_function(messages: list[Message]) -> list[tuple[str, str]]:
    names = {
        made["id"]: made["function"]["name"]
        for message in messages
        for made in message.get("tool_calls") or ()
    }
    return [
        (names[message["tool_call_id"]], script.text_of(message["content"]))
        for message in messages
        if message["role"] == "tool"
    ]


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": new_id("call_"), "type": "function", "function": function}


def finish(told: Script, message: Message) -> str | None:
    if "finish" in told:
        return told["finish"]
    if told.get("status") == "incomplete":
        return FINISH.get(told.get("reason", "max_output_tokens"), "length")
    if told.get("status", "completed") != "completed":
        return str(told["status"])
    return "tool_calls" if message.get("tool_calls") else "stop"


def failure(told: Script) -> Refused:
    error = told.get("error") or {}
    message = error.get("message", "The model failed.")
    return Refused(500, message, type="server_error", code=error.get("code"))


def head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": new_id("chatcmpl-"),
        "object": kind,
        "created": int(time.time()),
        "model": body["model"],
        "system_fingerprint": None,
    }


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


async def stream(
    call: Call, told: Script, message: Message, counted: tuple[int, int] | None
) -> web.StreamResponse:
    deltas = [{"role": "assistant", "content": ""}, *pieces(message)]
    shape = head(call.body, "chat.completion.chunk")
    opened = await events.open_stream(call)
    for number, delta in enumerate(deltas):
        await asyncio.sleep(told.get("seconds", 0) / len(deltas))
        await events.send(opened, {**shape, "choices": [choice(delta)]})
        if call.fault == "cut_middle" and number >= len(deltas) // 2:
            faults.hang_up(call)
    if told.get("status") == "failed":
        await events.send(opened, {"error": failure(told).error})
    else:
        last = choice({}, finish(told, message))
        await events.send(opened, {**shape, "choices": [last]})
        if counted and (call.body.get("stream_options") or {}).get("include_usage"):
            await events.send(opened, {**shape, "choices": [], "usage": usage(*counted)})
    await opened.write(b"data: [DONE]\n\n")
    await opened.write_eof()
    return opened


def choice(delta: Message, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def pieces(message: Message) -> Iterator[Message]:
    for key in ("content", "refusal"):
        for piece in events.pieces(message[key] or ""):
            yield {key: piece}
    for index, made in enumerate(message.get("tool_calls") or ()):
        function = {"name": made["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{**made, "index": index, "function": function}]}
        for piece in events.pieces(made["function"]["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


async def models(upstream: Upstream, call: Call) -> web.Response:
    named = {"id": "fake", "object": "model", "created": 0, "owned_by": "tests"}
    return reply({"object": "list", "data": [named]})


ROUTES = {
    ("POST", "chat/completions"): create,
    ("GET", "models"): models,
}
