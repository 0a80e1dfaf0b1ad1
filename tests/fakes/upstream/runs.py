"""Runs of a thread. Like responses they are decided by their script and shown by the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import assistants, faults, schema, script, steps, threads
from tests.fakes.upstream.assistants import none_found
from tests.fakes.upstream.call import Call, Refused, listed, new_id, reply
from tests.fakes.upstream.script import Script

if TYPE_CHECKING:
    from tests.fakes.upstream.server import Upstream
    from tests.fakes.upstream.state import State

Row = dict[str, Any]

ACTIVE = ("queued", "in_progress", "requires_action", "cancelling")
QUEUED_SHARE = 0.2
LIFE = 600
"""Seconds until a run expires."""
OVERRIDES: Row = {
    "model": None,
    "instructions": None,
    "tools": None,
    "temperature": None,
    "top_p": None,
    "response_format": None,
    "max_prompt_tokens": None,
    "max_completion_tokens": None,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "metadata": {},
}


@dataclass(slots=True)
class Run:
    body: Row
    script: Script
    thread: threads.Thread
    files: list[Any]
    """What its file search may find."""
    since: float
    steps: list[Row] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    asked_at: float = 0.0
    """When it began to wait for tool outputs."""

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def active(self) -> bool:
        return self.body["status"] in ACTIVE

    def settle(self, state: State) -> None:
        if self.body["status"] == "cancelling":
            self.end("cancelled")
        now, seconds = time.time(), float(self.script.get("seconds", 0))
        patience = self.script.get("patience", LIFE)
        if self.body["status"] == "requires_action" and now >= self.asked_at + patience:
            self.end("expired")
        if self.body["status"] not in ("queued", "in_progress"):
            return
        if now >= self.since + seconds:
            self.finish(state)
        elif now >= self.since + self.script.get("queued", QUEUED_SHARE * seconds):
            self.body |= {"status": "in_progress", "started_at": int(now)}
            steps.show_code(self)

    def finish(self, state: State) -> None:
        self.body["started_at"] = int(time.time())
        if self.script.get("tools") and not self.outputs and self.body["tool_choice"] != "none":
            self.asked_at = time.time()
            calls = steps.call_functions(self)
            action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
            self.body |= {"status": "requires_action", "required_action": action}
            return
        status = str(self.script.get("status", "completed"))
        if status in ("completed", "incomplete") or "answer" in self.script:
            steps.answer(state, self)
        self.end(status)

    def end(self, status: str) -> None:
        """The last move. Usage is told only now, and expiry no more."""
        counted = script.usage(self.script, self.body["instructions"], self.steps)
        ended = {"status": status, "required_action": None, "expires_at": None}
        self.body |= {**ended, "usage": counted and usage(*counted)}
        if f"{status}_at" in self.body:
            self.body[f"{status}_at"] = int(time.time())
        if status == "failed":
            default = {"code": "server_error", "message": "The model failed."}
            self.body["last_error"] = {**default, **(self.script.get("error") or {})}
        if status == "incomplete":
            reason = self.script.get("reason", "max_completion_tokens")
            self.body["incomplete_details"] = {"reason": reason}
        steps.close(self, status)


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


async def create(upstream: Upstream, call: Call) -> web.StreamResponse:
    return await start(upstream, call, "CreateRunRequest")


async def create_with_thread(upstream: Upstream, call: Call) -> web.StreamResponse:
    return await start(upstream, call, "CreateThreadAndRunRequest")


async def start(upstream: Upstream, call: Call, kind: str) -> web.StreamResponse:
    state, body = upstream.state, call.body or {}
    assistant = assistants.find(state, str(body.get("assistant_id")))
    told = script.read(body.get("instructions") or assistant["instructions"])
    if fault := state.meet(call, told):
        return fault
    schema.check(call, kind)
    if body.get("stream"):
        raise Refused(400, "This fake streams no runs.", param="stream")
    thread = (
        threads.find(state, call.ids[0]) if call.ids else threads.make(state, body.get("thread"))
    )
    if busy := thread.active_run(state):
        raise Refused(400, f"Thread {thread.id} already has an active run {busy.id}.")
    for message in body.get("additional_messages") or ():
        threads.take(state, thread, message)
    run = make(state, body, assistant, thread)
    state.count_accepted(call)
    await faults.taken(call)
    return reply(run.body)


def make(state: State, body: Row, assistant: Row, thread: threads.Thread) -> Run:
    now = time.time()
    given = {name: body[name] for name in OVERRIDES if body.get(name) is not None}
    config = {name: assistant[name] for name in OVERRIDES if name in assistant}
    shown = {**OVERRIDES, **config, "metadata": {}, **given}
    more = body.get("additional_instructions")
    shown["instructions"] = "\n".join(filter(None, (shown["instructions"], more)))
    shown |= {
        "id": new_id("run_"),
        "object": "thread.run",
        "created_at": int(now),
        "thread_id": thread.id,
        "assistant_id": assistant["id"],
        "status": "queued",
        "expires_at": int(now) + LIFE,
    }
    shown |= dict.fromkeys(
        ("required_action", "last_error", "incomplete_details", "usage", "started_at")
    )
    shown |= dict.fromkeys(("completed_at", "failed_at", "cancelled_at"))
    found = steps.searched_files(state, assistant, thread)
    run = Run(shown, script.read(shown["instructions"]), thread, found, now)
    thread.runs.append(run)
    state.runs[run.id] = run
    return run


def find(state: State, call: Call) -> Run:
    threads.find(state, call.ids[0])
    run = state.runs.get(call.ids[1])
    if run is None or run.thread.id != call.ids[0]:
        raise none_found("run", call.ids[1])
    run.settle(state)
    return run


async def retrieve(upstream: Upstream, call: Call) -> web.StreamResponse:
    run = find(upstream.state, call)
    return upstream.state.meet(call, run.script, "look_faults") or reply(run.body)


async def show_all(upstream: Upstream, call: Call) -> web.Response:
    thread = threads.find(upstream.state, call.ids[0])
    thread.settle(upstream.state)
    return listed([run.body for run in thread.runs], call.request.query)


async def update(upstream: Upstream, call: Call) -> web.Response:
    run = find(upstream.state, call)
    schema.check(call, "ModifyRunRequest")
    run.body.update(call.body or {})
    return reply(run.body)


async def cancel(upstream: Upstream, call: Call) -> web.StreamResponse:
    run = find(upstream.state, call)
    if fault := upstream.state.meet(call, run.script, "cancel_faults"):
        return fault
    if run.body["status"] not in ("queued", "in_progress", "requires_action"):
        raise Refused(400, f"Cannot cancel run with status '{run.body['status']}'.")
    if not run.script.get("stubborn"):
        run.body |= {"status": "cancelling", "required_action": None}
    return reply({**run.body, "status": "cancelling"})


async def submit(upstream: Upstream, call: Call) -> web.StreamResponse:
    run = find(upstream.state, call)
    if fault := upstream.state.meet(call, run.script, "submit_faults"):
        return fault
    schema.check(call, "SubmitToolOutputsRunRequest")
    if run.body["status"] != "requires_action":
        status = run.body["status"]
        raise Refused(400, f'Runs in status "{status}" do not accept tool outputs.')
    given = {one["tool_call_id"]: one["output"] for one in call.body["tool_outputs"]}
    asked = [one["id"] for one in run.steps[-1]["step_details"]["tool_calls"]]
    if set(given) != set(asked):
        message = f"Expected tool outputs for call_ids {asked}, got {list(given)}"
        raise Refused(400, message)
    steps.take_outputs(run, given)
    run.since = time.time()
    run.body |= {"status": "queued", "required_action": None}
    await faults.taken(call)
    return reply(run.body)


async def show_steps(upstream: Upstream, call: Call) -> web.Response:
    return listed(find(upstream.state, call).steps, call.request.query)


async def retrieve_step(upstream: Upstream, call: Call) -> web.Response:
    for step in find(upstream.state, call).steps:
        if step["id"] == call.ids[2]:
            return reply(step)
    raise none_found("step", call.ids[2])


ROUTES = {
    ("POST", "threads/runs"): create_with_thread,
    ("POST", "threads/*/runs"): create,
    ("GET", "threads/*/runs"): show_all,
    ("GET", "threads/*/runs/*"): retrieve,
    ("POST", "threads/*/runs/*"): update,
    ("POST", "threads/*/runs/*/cancel"): cancel,
    ("POST", "threads/*/runs/*/submit_tool_outputs"): submit,
    ("GET", "threads/*/runs/*/steps"): show_steps,
    ("GET", "threads/*/runs/*/steps/*"): retrieve_step,
}
