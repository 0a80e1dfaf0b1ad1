"""What stands in for the driver: an event loop in a thread of its own, as in a worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from assistant_manager.sandbox import CellResult, Sandbox

T = TypeVar("T")
Run = Callable[[str], CellResult]


class Host:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T], *, seconds: float = 100) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def run(self, sandbox: Sandbox, session: str, code: str) -> CellResult:
        return self.do(sandbox.run(session, code))

    def close(self) -> None:
        self.do(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
