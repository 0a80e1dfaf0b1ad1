"""The Responses API: a response is decided when it is asked for, and shown by the clock."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import events, faults, files, output, reasoning, schema, script
from tests.fakes.upstream.call import Call, Refused, new_id, reply, tokens
from tests.fakes.upstream.script import Script

if TYPE_CHECKING:
    from tests.fakes.upstream.server import Upstream
    from tests.fakes.upstream.state import State

OPEN = ("queued", "in_progress")
ANNOUNCED = ("completed", "failed", "cancelled", "incomplete")
QUEUED_SHARE = 0.2
"""The part of its seconds that a background response stays queued."""

ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "model": "fake",
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "background": False,
}


@dataclass(slots=True)
class Response:
    id: str
    script: Script
    body: dict[str, Any]
    items: list[dict[str, Any]]
    """What it was asked: the input, with the items of the responses before it."""
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    created: float
    gate: asyncio.Event
    cancelled: bool = False
    is_streamed: bool = False
    rendered: dict[str, bytes] = field(default_factory=dict)

    @property
    def until(self) -> float:
        return self.created + float(self.script.get("seconds", 0))

    @property
    def is_held(self) -> bool:
        return "gate" in self.script and not self.gate.is_set()

    @property
    def status(self) -> str:
        now = time.time()
        if self.cancelled:
            return "cancelled"
        if self.is_held:
            return "in_progress"
        if now >= self.until:
            return str(self.script.get("status", "completed"))
        started = self.created + QUEUED_SHARE * (self.until - self.created)
        return "in_progress" if now >= started else "queued"

    def json(self, status: str) -> bytes:
        """Written once for each status: polls are many."""
        if status not in self.rendered:
            self.rendered[status] = json.dumps(self.read(status)).encode()
        return self.rendered[status]

    def read(self, status: str) -> dict[str, Any]:
        body = {**self.body, "status": status, "error": None, "incomplete_details": None}
        if status in OPEN or self.cancelled:
            return {**body, "output": [], "usage": None}
        if status == "failed":
            told = self.script.get("error") or {}
            default = {"code": "server_error", "message": "The model failed."}
            shown = self.output if "answer" in self.script else []
            return {**body, "output": shown, "usage": self.usage, "error": {**default, **told}}
        if status == "incomplete":
            body["incomplete_details"] = {"reason": self.script.get("reason", "max_output_tokens")}
        else:
            body["completed_at"] = int(self.until)
        return {**body, "output": self.output, "usage": self.usage}


async def create(upstream: Upstream, call: Call) -> web.StreamResponse:
    state, body = upstream.state, call.body or {}
    if fault := state.meet(call, script.read(body.get("instructions"))):
        return fault
    schema.check(call, "CreateResponse")
    response = make(state, body)
    state.count_accepted(call)
    background = body.get("background") and not response.script.get("synchronous")
    if body.get("store", True) and not response.script.get("synchronous"):
        state.responses[response.id] = response
    if background:
        announce_later(upstream, response)
    await faults.taken(call)
    if body.get("stream") and not response.script.get("mute"):
        response.is_streamed = True
        return await events.stream(upstream, call, response, after=-1)
    if background:
        return reply(response.json("queued"))
    await asyncio.sleep(response.until - time.time())
    return reply(response.json(response.status))


def make(state: State, body: dict[str, Any]) -> Response:
    told = script.read(body.get("instructions"))
    if body.get("background") and not body.get("store", True):
        raise Refused(400, "Background mode requires 'store' to be true.", param="store")
    for id in [*output.store_ids(body), *faults.file_ids(body)]:
        (files.find_store if id.startswith("vs_") else files.find)(state, id)
    items = [*earlier(state, body), *input_items(body)]
    reasoning.check(state, items)
    made = output.compose(state, told, body, items)
    reasoning.remember(state, made)
    now = time.time()
    shown = {name: body.get(name) or default for name, default in ECHOED.items()}
    shown |= {"id": new_id("resp_"), "object": "response", "created_at": int(now)}
    counted = script.usage(told, [body.get("instructions"), items], made)
    spent = counted and usage(*counted)
    return Response(shown["id"], told, shown, items, made, spent, now, state.gate)


def input_items(body: dict[str, Any]) -> list[dict[str, Any]]:
    given = body.get("input") or []
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def earlier(state: State, body: dict[str, Any]) -> list[dict[str, Any]]:
    id = body.get("previous_response_id")
    if not id:
        return []
    if id not in state.responses:
        message = f"Previous response with id '{id}' not found."
        raise Refused(
            400, message, param="previous_response_id", code="previous_response_not_found"
        )
    return [*state.responses[id].items, *state.responses[id].output]


def usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def announce_later(upstream: Upstream, response: Response) -> None:
    def announce() -> None:
        known = upstream.state.responses.get(response.id) is response
        if known and not response.cancelled and response.status in ANNOUNCED:
            upstream.webhooks.announce(response.id, response.status)

    if upstream.webhooks.url is not None:
        wait = response.until - time.time() + 0.01
        asyncio.get_running_loop().call_later(max(wait, 0.01), announce)


def find(state: State, id: str) -> Response:
    if id not in state.responses:
        raise Refused(404, f"Response with id '{id}' not found.", param="id")
    return state.responses[id]


async def retrieve(upstream: Upstream, call: Call) -> web.StreamResponse:
    response = find(upstream.state, call.ids[0])
    if fault := upstream.state.meet(call, response.script, "look_faults"):
        return fault
    query = call.request.query
    if query.get("stream") == "true":
        if not response.is_streamed:
            raise Refused(400, "This response was not created with stream=true.", param="stream")
        after = int(query.get("starting_after", -1))
        return await events.stream(upstream, call, response, after)
    return reply(response.json(response.status))


async def cancel(upstream: Upstream, call: Call) -> web.Response:
    """Twice is as good as once; one that has ended is shown as it is."""
    response = find(upstream.state, call.ids[0])
    if fault := upstream.state.meet(call, response.script, "cancel_faults"):
        return fault
    if not response.body["background"]:
        raise Refused(400, "Cannot cancel a synchronous response.")
    if response.status in OPEN and not response.script.get("stubborn"):
        response.cancelled = True
        upstream.webhooks.announce(response.id, "cancelled")
    return reply(response.json(response.status))


async def delete(upstream: Upstream, call: Call) -> web.Response:
    find(upstream.state, call.ids[0])
    del upstream.state.responses[call.ids[0]]
    return reply({"id": call.ids[0], "object": "response", "deleted": True})


async def input_tokens(upstream: Upstream, call: Call) -> web.Response:
    body = call.body or {}
    count = tokens([body.get("instructions"), body.get("input"), body.get("tools")])
    return reply({"object": "response.input_tokens", "input_tokens": count})


ROUTES = {
    ("POST", "responses"): create,
    ("POST", "responses/input_tokens"): input_tokens,
    ("GET", "responses/*"): retrieve,
    ("DELETE", "responses/*"): delete,
    ("POST", "responses/*/cancel"): cancel,
}
