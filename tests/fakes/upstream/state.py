"""Everything the fake remembers, until a reset."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import faults
from tests.fakes.upstream.call import Call, Entry

if TYPE_CHECKING:
    from tests.fakes.upstream.files import File, VectorStore
    from tests.fakes.upstream.responses import Response
    from tests.fakes.upstream.threads import Run, Thread

JOURNAL_LENGTH = 20_000
"""Enough for any test; a benchmark must not fill the memory."""


class State:
    def __init__(self) -> None:
        self.journal: deque[Entry] = deque(maxlen=JOURNAL_LENGTH)
        self.chaos = faults.Chaos({})
        self.headers: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.retired: str | None = None
        self.gate = asyncio.Event()
        self.used: Counter[tuple[str, str]] = Counter()
        self.asked: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()

        self.responses: dict[str, Response] = {}
        self.thoughts: dict[str, str] = {}
        """The reasoning item that must come before the item with this id; see reasoning.py."""
        self.files: dict[str, File] = {}
        self.vector_stores: dict[str, VectorStore] = {}
        self.assistants: dict[str, dict[str, Any]] = {}
        self.threads: dict[str, Thread] = {}
        self.runs: dict[str, Run] = {}

    def meet(self, call: Call, script: dict[str, Any], kind: str = "faults") -> web.Response | None:
        """Lets the script's next fault of this kind happen. Not None: that is the reply."""
        call.script = script
        planned = script.get(kind)
        if not planned:
            return None
        place = (script["id"], kind)
        if self.used[place] >= len(planned):
            return None
        call.fault = planned[self.used[place]] or call.fault
        self.used[place] += 1
        return faults.before(call)

    def stream_trouble(self, script: dict[str, Any]) -> tuple[str, int]:
        """What befalls the next stream that is opened, and after which event; "": nothing."""
        planned = script.get("stream_faults") or ()
        place = (script.get("id", ""), "stream_faults")
        number = self.used[place]
        self.used[place] += 1
        told = planned[number] if number < len(planned) else None
        name, _, after = (told or "").partition(":")
        return name, int(after or 0)

    def count_asked(self, call: Call) -> None:
        self.asked[run_of(call)] += 1

    def count_accepted(self, call: Call) -> None:
        self.accepted[run_of(call)] += 1
        if attempt := metadata_of(call).get("am_attempt"):
            self.attempts[attempt] += 1


def metadata_of(call: Call) -> dict[str, Any]:
    return (call.body or {}).get("metadata") or {}


def run_of(call: Call) -> str:
    """Whose work a create is. Empty: it does not say."""
    return str(
        metadata_of(call).get("am_run")
        or call.request.headers.get("x-am-run")
        or (call.body or {}).get("user")
        or ""
    )
