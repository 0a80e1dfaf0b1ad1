"""ScriptedEngine: an Engine that says what the test tells it.

The script travels in the assistant's instructions as JSON, so it works wherever the driver lives,
another process included. It keeps no memory: its state carries everything.

Script keys, all optional: `answer` (text), `seconds` (how long the upstream takes), `look_again`
(seconds between looks), `code` (a code cell to show first), `function` (name of a function to
call; the answer then quotes its output), `fail` (reason), `incomplete` (reason), `unavailable`
(how many starts are refused first), `forget` (how many attempts the upstream loses), `bug` (raise something
 unforeseen), `hang` (never answer), `gate` (work until the test opens the gate).
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from assistant_manager.engines.base import (
    ConnectionInfo,
    Engine,
    Found,
    Inspection,
    Item,
    MessageItem,
    Progress,
    Sighting,
    ToolCall,
    ToolCallsItem,
    Turn,
    Usage,
)
from assistant_manager.engines.exceptions import Expired, Rejected, Unavailable

KIND = "scripted"
PATH = "tests.fakes.engine.ScriptedEngine"


class ScriptedEngine(Engine):
    kind = KIND

    starts: Counter[str] = Counter()
    """How often each attempt was started, by `run id:attempt`; for tests in the same process."""
    cancelled: list[str] = []
    gate = threading.Event()
    """Opened by a test in the same process: until then runs with `gate` in their script work on."""
    known: dict[str, str | None] = {}
    """What webhooks may name: the key of the attempt that began it. None: it cannot be asked now."""
    discarded: list[str] = []
    hello: Inspection | Exception = Inspection("Hello.")
    """What comes of saying hello."""

    async def start(self, turn: Turn) -> Progress:
        script = json.loads(turn.instructions or "{}")
        name = f"{turn.run_id}:{turn.attempt}"
        self.starts[name] += 1
        if script.get("hang"):
            await asyncio.sleep(3600)
        if script.get("bug"):
            raise ZeroDivisionError(script["bug"])
        if script.get("fail"):
            raise Rejected(script["fail"])
        if self.starts[name] <= script.get("unavailable", 0):
            raise Unavailable("the upstream is busy", retry_after=0.05)
        outputs = [call.output for item in turn.past for call in getattr(item, "calls", ())]
        state = {
            "script": script,
            "attempt": turn.attempt,
            "until": time.time() + script.get("seconds", 0),
            "outputs": [output for output in outputs if output],
            "note": turn.note,
            "key": turn.attempt_key,
        }
        return Progress("working", state=state, look_again=script.get("look_again", 0.0))

    async def look(self, sighting: Sighting) -> Progress:
        script = sighting.state["script"]
        if sighting.attempt <= script.get("forget", 0):
            raise Expired("never heard of it")
        look_again = script.get("look_again", 0.0)
        return self._now(Progress("working", state=sighting.state, look_again=look_again))

    async def cancel(self, sighting: Sighting) -> None:
        self.cancelled.append(sighting.run_id)

    async def find(self, connection: ConnectionInfo, upstream_id: str) -> Found | None:
        if upstream_id not in self.known:
            return None
        key = self.known[upstream_id]
        if key is None:
            raise Unavailable("the upstream is away")
        return Found(key, {"found": upstream_id})

    async def discard(self, connection: ConnectionInfo, upstream_id: str) -> None:
        self.discarded.append(upstream_id)

    async def inspect(self, connection: ConnectionInfo, model: str) -> Inspection:
        if isinstance(self.hello, Exception):
            raise self.hello
        return self.hello

    def _now(self, progress: Progress) -> Progress:
        state = progress.state
        script = state["script"]
        if time.time() < state["until"] or (script.get("gate") and not self.gate.is_set()):
            return progress
        items: list[Item] = []
        if script.get("code"):
            call = ToolCall(
                id=f"call_{state['key'][:24]}",
                type="code_interpreter",
                input=script["code"],
                logs="1",
            )
            items.append(ToolCallsItem("code", [call], done=True))
        if script.get("function") and not state["outputs"]:
            call = ToolCall(
                id=f"call_{state['key'][:24]}",
                type="function",
                name=script["function"],
                arguments='{"city": "Bern"}',
            )
            items.append(ToolCallsItem("function", [call]))
            return replace(progress, outcome="requires_action", items=items, usage=Usage(7, 3))
        items.append(MessageItem("answer", self._text(state), done=True))
        usage = Usage(prompt_tokens=10, completion_tokens=5)
        if script.get("incomplete"):
            return replace(
                progress,
                outcome="incomplete",
                items=items,
                usage=usage,
                incomplete_reason=script["incomplete"],
            )
        return replace(progress, outcome="completed", items=items, usage=usage)

    @staticmethod
    def _text(state: Any) -> str:
        text = state["script"].get("answer", "x = 1")
        if state["outputs"]:
            text = f"The tools say: {', '.join(state['outputs'])}"
        return f"{text} ({state['note']})" if state["note"] else text
