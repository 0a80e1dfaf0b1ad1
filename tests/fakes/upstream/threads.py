"""Threads and their messages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import faults, files, schema
from tests.fakes.upstream.assistants import none_found
from tests.fakes.upstream.call import Call, Refused, listed, new_id, reply

if TYPE_CHECKING:
    from tests.fakes.upstream.runs import Run
    from tests.fakes.upstream.server import Upstream
    from tests.fakes.upstream.state import State

Row = dict[str, Any]


@dataclass(slots=True)
class Thread:
    body: Row
    messages: dict[str, Row] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.body["id"])

    def settle(self, state: State) -> None:
        """Lets the runs come to where the clock says they are."""
        for run in self.runs:
            run.settle(state)

    def active_run(self, state: State) -> Run | None:
        self.settle(state)
        return next((run for run in self.runs if run.active), None)

    def add(self, role: str, content: list[Row], **fields: Any) -> Row:
        now = int(time.time())
        message = {
            "id": new_id("msg_"),
            "object": "thread.message",
            "created_at": now,
            "thread_id": self.id,
            "status": "completed",
            "incomplete_details": None,
            "completed_at": now,
            "incomplete_at": None,
            "role": role,
            "content": content,
            "assistant_id": None,
            "run_id": None,
            "attachments": [],
            "metadata": {},
            **fields,
        }
        self.messages[message["id"]] = message
        return message


def make(state: State, body: Row | None) -> Thread:
    asked = body or {}
    shown = {
        "id": new_id("thread_"),
        "object": "thread",
        "created_at": int(time.time()),
        "metadata": asked.get("metadata") or {},
        "tool_resources": asked.get("tool_resources") or {},
    }
    thread = Thread(shown)
    for message in asked.get("messages") or ():
        take(state, thread, message)
    state.threads[thread.id] = thread
    return thread


def take(state: State, thread: Thread, body: Row) -> Row:
    """A message as a client sends it."""
    for id in faults.file_ids(body):
        files.find(state, id)
    return thread.add(
        body["role"],
        parts(body["content"]),
        attachments=body.get("attachments") or [],
        metadata=body.get("metadata") or {},
    )


def parts(content: str | list[Row]) -> list[Row]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [
        {"type": "text", "text": {"value": part["text"], "annotations": []}}
        if part["type"] == "text"
        else part
        for part in content
    ]


def find(state: State, id: str) -> Thread:
    if id not in state.threads:
        raise none_found("thread", id)
    return state.threads[id]


def find_message(state: State, call: Call) -> tuple[Thread, Row]:
    thread = find(state, call.ids[0])
    thread.settle(state)
    if call.ids[1] not in thread.messages:
        raise none_found("message", call.ids[1])
    return thread, thread.messages[call.ids[1]]


async def create(upstream: Upstream, call: Call) -> web.Response:
    schema.check(call, "CreateThreadRequest")
    return reply(make(upstream.state, call.body).body)


async def retrieve(upstream: Upstream, call: Call) -> web.Response:
    return reply(find(upstream.state, call.ids[0]).body)


async def update(upstream: Upstream, call: Call) -> web.Response:
    thread = find(upstream.state, call.ids[0])
    schema.check(call, "ModifyThreadRequest")
    thread.body.update(call.body or {})
    return reply(thread.body)


async def delete(upstream: Upstream, call: Call) -> web.Response:
    find(upstream.state, call.ids[0])
    del upstream.state.threads[call.ids[0]]
    return reply({"id": call.ids[0], "object": "thread.deleted", "deleted": True})


async def add_message(upstream: Upstream, call: Call) -> web.Response:
    thread = find(upstream.state, call.ids[0])
    if run := thread.active_run(upstream.state):
        raise Refused(400, f"Can't add messages to {thread.id} while a run {run.id} is active.")
    schema.check(call, "CreateMessageRequest")
    return reply(take(upstream.state, thread, call.body))


async def show_messages(upstream: Upstream, call: Call) -> web.Response:
    thread = find(upstream.state, call.ids[0])
    thread.settle(upstream.state)
    run_id = call.request.query.get("run_id")
    rows = [row for row in thread.messages.values() if run_id in (None, row["run_id"])]
    return listed(rows, call.request.query)


async def retrieve_message(upstream: Upstream, call: Call) -> web.Response:
    return reply(find_message(upstream.state, call)[1])


async def update_message(upstream: Upstream, call: Call) -> web.Response:
    _, message = find_message(upstream.state, call)
    schema.check(call, "ModifyMessageRequest")
    message.update(call.body or {})
    return reply(message)


async def delete_message(upstream: Upstream, call: Call) -> web.Response:
    thread, message = find_message(upstream.state, call)
    del thread.messages[message["id"]]
    return reply({"id": message["id"], "object": "thread.message.deleted", "deleted": True})


ROUTES = {
    ("POST", "threads"): create,
    ("GET", "threads/*"): retrieve,
    ("POST", "threads/*"): update,
    ("DELETE", "threads/*"): delete,
    ("POST", "threads/*/messages"): add_message,
    ("GET", "threads/*/messages"): show_messages,
    ("GET", "threads/*/messages/*"): retrieve_message,
    ("POST", "threads/*/messages/*"): update_message,
    ("DELETE", "threads/*/messages/*"): delete_message,
}
