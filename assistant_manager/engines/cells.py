"""Code run in our own sandbox, as the code-interpreter steps that the wire knows."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from django.conf import settings

from assistant_manager.engines.base import GeneratedFile, ToolCall, ToolCallsItem
from assistant_manager.ids import ALPHABET, LENGTH
from assistant_manager.sandbox import CellResult, Sandbox, SandboxUnavailable


class Workplace:
    """Where one engine has its code run: the sandbox of its event loop, which all engines there
    share, so that `SANDBOX_MAX_KERNELS` holds for a process.

    Made when the first of them needs it, closed with the last. One that is given stays its
    giver's to close.
    """

    def __init__(self, given: Sandbox | None = None) -> None:
        self._shared = None if given is None else _Shared(given)
        self._is_given = given is not None

    def open(self) -> Sandbox:
        """The sandbox; nothing is started yet."""
        if self._shared is None:
            loop = asyncio.get_running_loop()
            self._shared = _shared.get(loop) or _Shared(_new_sandbox())
            self._shared.users += 1
            _shared[loop] = self._shared
        return self._shared.sandbox

    async def warm_up(self) -> None:
        with suppress(SandboxUnavailable):  # the run that needs it will say so
            await self.open().ready()

    async def forget(self, session: str) -> None:
        """End a session, if there is a sandbox that may know it."""
        if self._shared is not None:
            await self._shared.sandbox.forget(session)

    async def close(self) -> None:
        if self._shared is None or self._is_given:
            return
        shared, self._shared = self._shared, None
        shared.users -= 1
        if not shared.users:
            del _shared[asyncio.get_running_loop()]
            await shared.sandbox.close()


@dataclass(slots=True)
class _Shared:
    sandbox: Sandbox
    users: int = 0


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


def _new_sandbox() -> Sandbox:
    return Sandbox(
        tier=settings.SANDBOX_TIER,
        work_dir=settings.SANDBOX_DIR,
        max_kernels=settings.SANDBOX_MAX_KERNELS,
    )


def call_id(attempt_key: str, key: str) -> str:
    """The same for the same attempt, so that recording a call twice finds the first."""
    number = int.from_bytes(hashlib.sha256(f"{attempt_key}:{key}".encode()).digest())
    letters = []
    for _ in range(LENGTH):
        number, at = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[at])
    return "call_" + "".join(letters)


def code_item(
    attempt_key: str, key: str, source: str, result: CellResult | None = None
) -> ToolCallsItem:
    """One cell's step: without logs while it runs, with them once `result` is there."""
    id = call_id(attempt_key, key)
    if result is None:
        return ToolCallsItem(key, [ToolCall(id, "code_interpreter", input=source)])
    images = [
        GeneratedFile(f"{id}-{number}.png", content)
        for number, content in enumerate(result.images, start=1)
    ]
    notes = {"stderr": result.stderr, "seconds": round(result.duration, 3), "limit": result.limit}
    call = ToolCall(
        id, "code_interpreter", input=source, logs=result.text, images=images, notes=notes
    )
    return ToolCallsItem(key, [call], done=True)
