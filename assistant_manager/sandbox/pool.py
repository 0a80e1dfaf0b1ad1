"""The sandbox of one process: whose kernel is whose, and how many there are."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from assistant_manager.sandbox.choice import Choice
from assistant_manager.sandbox.folder import Area, WorkFolder
from assistant_manager.sandbox.kernel import Kernel
from assistant_manager.sandbox.launch import Tier, drops_to
from assistant_manager.sandbox.packages import offered
from assistant_manager.sandbox.probe import TierName
from assistant_manager.sandbox.values import CellResult, KernelFailed, Limits, SandboxUnavailable

Files: TypeAlias = Mapping[str, Callable[[], bytes]]
"""How to read a file, by the name that cells open it with. Called in a thread."""

_NO_FILES: Files = MappingProxyType({})
_IDLE = 120.0  # seconds that a session's kernel waits for its next cell
_REMEMBERED = 10_000  # sessions of which we know that they once had a kernel


class _Session:
    """One caller's state, lost when `kernel` is None though it `began`."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()  # keeps the cells of a session in order
        self.kernel: Kernel | None = None
        self.began = self.running = False
        self.callers = 0
        self.used = 0.0
        self.expiry: asyncio.TimerHandle | None = None


class Sandbox:
    """Runs code for many sessions, each in a kernel of its own, at most `max_kernels` alive.

    All methods belong to one event loop. Make one for a process; `close` it at the end.
    """

    def __init__(
        self,
        *,
        work_dir: Path,
        tier: TierName = "auto",
        limits: Limits | None = None,
        max_kernels: int = 4,
        spares: int = 1,
        preload: Sequence[str] = ("sympy",),
        idle_seconds: float = _IDLE,
    ) -> None:
        """`spares`: how many kernels to start ahead of need, within `max_kernels`.

        `preload`: what a new kernel imports before its first cell, if it is installed.
        """
        self._work_dir, self._limits = work_dir, limits or Limits()
        self._max, self._spares_wanted, self._idle = max_kernels, spares, idle_seconds
        self._choice, self._preload = Choice(tier), preload
        self._permits = asyncio.Semaphore(max_kernels)  # lets callers in as they came
        self._opening = asyncio.Lock()
        self._area: Area | None = None
        self._sessions: dict[str, _Session] = {}
        self._spares: list[asyncio.Task[Kernel]] = []
        self._chores: set[asyncio.Task[None]] = set()
        self._alive = 0  # kernels that exist or are being started
        self._closed = False

    @property
    def libraries(self) -> tuple[str, ...]:
        """Which of sympy, numpy, pandas and matplotlib a cell can import."""
        return offered()

    async def ready(self) -> str:
        """Choose the tier and start the spares now rather than at the first cell.

        Returns the tier's name. Raises SandboxUnavailable.
        """
        tier, area = await self._choose()
        self._keep_spares(tier, area)
        return tier.name

    async def run(self, session: str, code: str, files: Files = _NO_FILES) -> CellResult:
        """Run `code` in the session's kernel, after whatever it was given before.

        `files` are laid into the work folder of a new kernel, so that they are there again when
        the one before was lost. Waits, first come first served, while `max_kernels` cells are
        running; no limit counts that time. Cancelling kills the kernel. Raises
        SandboxUnavailable, and what reading a file raises.
        """
        mine = self._sessions.setdefault(session, _Session())
        mine.callers += 1
        try:
            async with mine.lock, self._permits:
                tier, area = await self._choose()
                result = await self._run(mine, code, files, tier, area)
            self._keep_spares(tier, area)
            return result
        finally:
            mine.callers -= 1
            self._rest(session, mine)

    def remembers(self, session: str) -> bool:
        """Whether the session's variables and files are still there."""
        mine = self._sessions.get(session)
        return mine is not None and mine.kernel is not None and mine.kernel.alive

    async def fetch(self, session: str, name: str) -> bytes | None:
        """A file that the session's code has left, by its name; None where there is none, or its
        kernel is gone."""
        mine = self._sessions.get(session)
        if mine is None:
            return None
        async with mine.lock:
            if mine.kernel is None:
                return None
            return await asyncio.to_thread(mine.kernel.folder.read, name, self._limits)

    async def forget(self, session: str) -> None:
        """End the session: kill its kernel and delete its files. An unknown one is fine."""
        mine = self._sessions.pop(session, None)
        if mine is not None:
            self._drop(mine)
            await self._finish_chores()

    async def close(self) -> None:
        """Kill everything and delete all files. Cells running now raise SandboxUnavailable."""
        self._closed = True
        for session in self._sessions.values():
            self._drop(session)
        for spare in self._spares:
            spare.cancel()
        await asyncio.gather(*self._spares, return_exceptions=True)
        for spare in self._spares:
            if not spare.cancelled() and spare.exception() is None:
                self._discard(spare.result())
        self._spares.clear()
        await self._finish_chores()
        if self._area is not None:
            area, self._area = self._area, None
            await asyncio.to_thread(area.close)

    async def _choose(self) -> tuple[Tier, Area]:
        async with self._opening:
            if self._closed:
                raise SandboxUnavailable("Code cannot be run: the sandbox has been closed.")
            if self._area is None:
                try:
                    self._area = await asyncio.to_thread(Area, self._work_dir, owner=drops_to())
                except OSError as error:
                    sentence = f"Code cannot be run: the sandbox's folder is unusable ({error})."
                    raise SandboxUnavailable(sentence) from error
            area = self._area
        return await self._choice.tier(area), area

    async def _run(
        self, mine: _Session, code: str, files: Files, tier: Tier, area: Area
    ) -> CellResult:
        mine.running = True
        try:
            if mine.kernel is not None and not mine.kernel.alive:
                self._drop(mine)
            fresh = mine.kernel is None and mine.began
            if mine.kernel is None:
                mine.kernel = await self._new_kernel(tier, area)
                self._give_up_if_closed(mine)
                await self._lay(files, mine, mine.kernel.folder)
                self._give_up_if_closed(mine)
            mine.began = True
            result = await mine.kernel.run(code, fresh=fresh)
        finally:
            mine.running = False
            if mine.kernel is not None and not mine.kernel.alive:
                self._drop(mine)
        if self._closed:
            raise SandboxUnavailable("The sandbox was closed while the code ran.")
        return result

    def _give_up_if_closed(self, mine: _Session) -> None:
        """`close` does not see a kernel that is still starting, so nothing else would stop it."""
        if self._closed:
            self._drop(mine)
            raise SandboxUnavailable("The sandbox was closed before the code ran.")

    async def _lay(self, files: Files, mine: _Session, folder: WorkFolder) -> None:
        """A kernel that lacks some of its files is given up: its session may begin again."""
        given_up = threading.Event()

        def lay() -> None:
            for name, read in files.items():
                if not given_up.is_set():
                    folder.write(name, read())

        laying = asyncio.ensure_future(asyncio.to_thread(lay))
        try:
            await asyncio.shield(laying)
        except BaseException:
            given_up.set()
            try:  # nothing may be laid into a folder that is being deleted
                await asyncio.gather(laying, return_exceptions=True)
            finally:
                self._drop(mine)
            raise

    async def _new_kernel(self, tier: Tier, area: Area) -> Kernel:
        """A warm spare if there is one, else a new kernel in a slot that is free or made free.

        There is such a slot: whoever gets here holds one of `max_kernels` permits, so fewer than
        `max_kernels` others run a cell, and any kernel that does not is a spare or idle.
        """
        while self._spares:
            kernel = await self._spare()
            if kernel is not None:
                return kernel
        if self._alive >= self._max:
            self._evict()
        try:
            return await self._start(tier, area)
        except (KernelFailed, OSError) as error:
            self._choice.doubt()
            raise SandboxUnavailable(f"The sandbox could not start a kernel: {error}.") from error

    async def _spare(self) -> Kernel | None:
        """Take the first spare, waiting until it has started. None if it failed to, or died."""
        spare = self._spares.pop(0)
        try:
            await asyncio.wait({spare})
        except asyncio.CancelledError:
            self._spares.insert(0, spare)
            raise
        if spare.cancelled() or spare.exception() is not None:
            return None
        kernel = spare.result()
        if kernel.alive:
            return kernel
        self._discard(kernel)
        return None

    def _start(self, tier: Tier, area: Area) -> Coroutine[Any, Any, Kernel]:
        self._alive += 1  # at once: nobody else may take the slot before the coroutine runs
        return self._started(tier, area)

    async def _started(self, tier: Tier, area: Area) -> Kernel:
        try:
            folder = await asyncio.to_thread(area.folder)
            return await Kernel.start(tier, folder, self._limits, preload=self._preload)
        except BaseException:
            self._alive -= 1
            raise

    def _keep_spares(self, tier: Tier, area: Area) -> None:
        self._spares = [spare for spare in self._spares if not _failed(spare)]
        while (
            not self._closed and len(self._spares) < self._spares_wanted and self._alive < self._max
        ):
            self._spares.append(asyncio.create_task(self._start(tier, area)))

    def _evict(self) -> None:
        """Make a slot free at the cost of an idle session: nobody's next cell, longest unused."""
        idle = [s for s in self._sessions.values() if s.kernel is not None and not s.running]
        self._drop(min(idle, key=lambda session: (session.callers > 0, session.used)))

    def _rest(self, name: str, session: _Session) -> None:
        """Note when the session was last used, and look at it again when it has been idle."""
        if session.callers:
            return
        if self._sessions.get(name) is not session:  # forgotten meanwhile
            self._drop(session)
            return
        if not session.began:
            del self._sessions[name]
            return
        self._sessions[name] = self._sessions.pop(name)  # the dict keeps the order of use
        session.used = time.monotonic()
        loop = asyncio.get_running_loop()
        session.expiry = loop.call_later(self._idle, self._expire, session)
        if len(self._sessions) > _REMEMBERED:
            self._drop(self._sessions.pop(next(iter(self._sessions))))

    def _expire(self, session: _Session) -> None:
        if not session.callers and time.monotonic() - session.used >= self._idle:
            self._drop(session)

    def _drop(self, session: _Session) -> None:
        if session.expiry is not None:
            session.expiry.cancel()
        if session.kernel is not None:
            kernel, session.kernel = session.kernel, None
            self._discard(kernel)

    def _discard(self, kernel: Kernel) -> None:
        """Kill now, clean up in the background."""
        kernel.kill()
        self._alive -= 1
        chore = asyncio.create_task(kernel.close())
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _finish_chores(self) -> None:
        while self._chores:
            await asyncio.gather(*self._chores)


def _failed(spare: asyncio.Task[Kernel]) -> bool:
    return spare.done() and (spare.cancelled() or spare.exception() is not None)
