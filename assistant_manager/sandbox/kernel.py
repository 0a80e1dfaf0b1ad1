"""One kernel process as the host sees it: started, given cells, watched, killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from assistant_manager.sandbox.folder import WorkFolder
from assistant_manager.sandbox.launch import Launch, Tier
from assistant_manager.sandbox.pipes import Printed, Tap, cut
from assistant_manager.sandbox.replies import Forged, Lines, Reply, parse
from assistant_manager.sandbox.values import CellResult, KernelFailed, Limits

_LOOK_EVERY = 0.1  # seconds between looks at the work folder while a cell runs
_LOOK_IDLE = 1.0  # ... and between cells, since a cell may leave threads behind
# Seconds a process gets to end by itself once it has hung up. Nearly all are gone at once; a busy
# machine may be slow to say so, and the exit status tells which limit it was.
_GOING = 10.0
_LOST = "Variables and files of this session are lost."
_CPU_SIGNAL = int(signal.SIGXCPU)


@dataclass(frozen=True, slots=True)
class _End:
    """How a cell ended: with a reply, or stopped by a limit, or (neither) with the kernel."""

    reply: Reply | None = None
    limit: str | None = None
    note: str = ""


class Kernel:
    """Use `start` to make one. Not to be shared: one cell at a time."""

    def __init__(self, folder: WorkFolder, limits: Limits) -> None:
        self.folder, self._limits = folder, limits
        self.alive = True
        self._process: asyncio.subprocess.Process | None = None
        self._shown: list[tuple[re.Pattern[str], str]] = []
        self._cells = 0
        self._busy = False
        self._end: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self._limit: str | None = None  # the first one that was hit
        self._lines = Lines()
        self._stdout, self._stderr = Printed(limits.output_bytes), Printed(limits.output_bytes)
        self._police: asyncio.Task[None] | None = None
        self._taps = (
            Tap(lambda data: self._on_print(self._stdout, data)),
            Tap(lambda data: self._on_print(self._stderr, data)),
            Tap(self._on_reply, lambda: self._ended(_End())),
        )

    @classmethod
    async def start(
        cls, tier: Tier, folder: WorkFolder, limits: Limits, *, preload: Sequence[str] = ("sympy",)
    ) -> Kernel:
        """Start a kernel that has locked itself down. Raises KernelFailed, with nothing left over."""
        kernel = cls(folder, limits)
        try:
            await kernel._start(tier, preload)
        except BaseException:
            await kernel.close()
            raise
        return kernel

    async def _start(self, tier: Tier, preload: Sequence[str]) -> None:
        stdout, stderr, replies = (tap.write_end for tap in self._taps)
        with ExitStack() as closing:
            for descriptor in (stdout, stderr, replies):
                closing.callback(os.close, descriptor)
            launch = tier.launch(self.folder.path, self._limits, closing)
            self._shown = _patterns(launch.shown)
            spawning = asyncio.ensure_future(self._spawn(launch, stdout, stderr, replies))
            try:
                self._process = await asyncio.shield(spawning)
            except OSError as error:
                raise KernelFailed(f"could not start: {error}") from error
            except asyncio.CancelledError:
                # Left alone, asyncio would kill the leader of the group only; and who cancels
                # once may do so again.
                while not spawning.done():
                    with contextlib.suppress(asyncio.CancelledError, OSError):
                        await asyncio.shield(spawning)
                if spawning.exception() is None:
                    self._process = spawning.result()
                raise
        self._send({**launch.order, "reply": replies, "preload": list(preload)})
        end = await self._wait(self._limits.start_seconds)
        if end.reply is None or end.reply.failed:
            said = end.reply.failed if end.reply else self._said_at_start(end)
            raise KernelFailed(said or "it ended without a word")

    async def _spawn(
        self, launch: Launch, stdout: int, stderr: int, replies: int
    ) -> asyncio.subprocess.Process:
        program, *arguments = launch.command
        return await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[*launch.descriptors, replies],
            start_new_session=True,  # Ctrl-C in a terminal is for the host
            **launch.options,
        )

    def _said_at_start(self, end: _End) -> str:
        last = self._stderr.text.strip().rpartition("\n")[2]
        return last or end.limit or ""

    async def run(self, code: str, *, fresh: bool) -> CellResult:
        """Run one cell. A kernel that a limit or the code brought down is no longer `alive`."""
        started = time.monotonic()
        if len(code.encode("utf-8", "replace")) > self._limits.code_bytes:
            size = f"{self._limits.code_bytes // 1024} KiB"
            return self._result(
                _End(limit=f"Not run: the code is longer than {size}."), (), started
            )
        before = self.folder.pictures()
        self._cells += 1
        self._end = asyncio.get_running_loop().create_future()
        if self.alive:
            self._send({"cell": self._cells, "code": code})
        else:
            self._ended(_End())
        end = await self._wait(self._limits.wall_seconds)
        images: tuple[bytes, ...] = ()
        if end.reply is not None:
            problem = await asyncio.to_thread(self.folder.problem, self._limits)
            if problem:
                self._stop(problem)
                end = _End(limit=self._limit)
            else:
                images = await asyncio.to_thread(self.folder.read_pictures, before, self._limits)
        elif end.limit is None:
            end = await self._how_it_went()
        result = self._result(end, images, started, fresh=fresh)
        self._stdout.clear()
        self._stderr.clear()
        return result

    async def _wait(self, seconds: float) -> _End:
        """Wait until the cell ends one way or the other, and have all that it printed."""
        self._police = self._police or asyncio.create_task(self._watch())
        self._busy = True
        timer = asyncio.get_running_loop().call_later(
            seconds, lambda: self._stop(f"Stopped after {seconds:g} s.")
        )
        try:
            end = await self._end
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            timer.cancel()
            self._busy = False
        for tap in self._taps[:2]:
            tap.drain(self._limits.flood_bytes)
        return _End(limit=self._limit) if self._limit else end

    async def _watch(self) -> None:
        while self.alive:
            await asyncio.sleep(_LOOK_EVERY if self._busy else _LOOK_IDLE)
            problem = await asyncio.to_thread(self.folder.problem, self._limits)
            if problem:
                self._stop(problem)

    async def _how_it_went(self) -> _End:
        """The kernel hung up. Find out whether the operating system enforced a limit."""
        code = await self._exit_code()
        self.kill()
        # bubblewrap reports a signal as a shell does.
        if code in (-_CPU_SIGNAL, 128 + _CPU_SIGNAL):
            self._stop(f"Stopped: it used {self._limits.cpu_seconds} s of processor time.")
            return _End(limit=self._limit)
        return _End(note=f"The code brought its Python down ({_told(code)}). {_LOST}\n")

    async def _exit_code(self) -> int | None:
        if self._process is None:
            return None
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), _GOING)
        return None

    def _result(
        self, end: _End, images: tuple[bytes, ...], started: float, *, fresh: bool = False
    ) -> CellResult:
        outcome: Literal["ok", "error", "limit"] = "error"
        value, error, limit = None, end.note, end.limit
        if end.reply is not None:
            outcome, value, error = end.reply.outcome, end.reply.value, end.reply.error
            if end.reply.memory:
                limit = f"It needed more than {self._limits.memory_bytes // 2**20} MiB of memory."
        keep = self._limits.output_bytes
        return CellResult(
            outcome="limit" if limit else outcome,
            stdout=self._readable(self._stdout.text),
            stderr=cut(self._readable(self._stderr.text + error), keep),
            value=None if value is None else cut(self._readable(value), keep),
            images=images,
            limit=limit,
            duration=time.monotonic() - started,
            fresh=fresh,
        )

    def _readable(self, text: str) -> str:
        for pattern, name in self._shown:
            text = pattern.sub(name, text)
        return text

    def _send(self, message: Mapping[str, object]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _on_print(self, stream: Printed, data: bytes) -> None:
        stream.add(data)
        if self._stdout.total + self._stderr.total > self._limits.flood_bytes:
            self._stop(f"Stopped after printing {self._limits.flood_bytes // 2**20} MiB.")

    def _on_reply(self, data: bytes) -> None:
        try:
            for line in self._lines.add(data):
                reply = parse(line)
                if self._end.done() or reply.cell != (self._cells or None):
                    raise Forged
                self._ended(_End(reply=reply))
        except Forged:
            self._stop("Stopped: it wrote to the channel that is kept for the kernel's replies.")

    def _stop(self, limit: str) -> None:
        self._limit = self._limit or f"{limit} {_LOST}"
        self.kill()
        self._ended(_End(limit=self._limit))

    def _ended(self, end: _End) -> None:
        if end.reply is None:
            self.alive = False
        if not self._end.done():
            self._end.set_result(end)

    def kill(self) -> None:
        """End the process now. Nothing in it can object."""
        self.alive = False
        if self._process is not None and self._process.returncode is None:
            # The group, because a bwrap killed while it starts leaves a child that waits for it for
            # ever. Not Process.kill, which polls and so may take the exit status from asyncio.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill, wait until it is gone, delete its folder. A cell that was running ends now."""
        self.kill()
        self._ended(_End())
        if self._police is not None:
            self._police.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._police
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()
            await self._hung_up()
        for tap in self._taps:
            tap.close()
        await asyncio.to_thread(self.folder.remove)

    async def _hung_up(self) -> None:
        """Wait for bubblewrap's children, which die just after it and may still be writing."""
        for tap in self._taps:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tap.ended.wait(), _GOING)


def _patterns(shown: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """Longest first; a number at the end must not match the beginning of a longer one."""
    names = sorted(shown, key=len, reverse=True)
    return [(re.compile(re.escape(name) + r"(?!\d)"), shown[name]) for name in names]


def _told(code: int | None) -> str:
    if code is None:
        return "it closed its own channels"
    number = -code if code < 0 else code - 128
    with contextlib.suppress(ValueError):
        if code < 0 or code > 128:
            return f"signal {signal.Signals(number).name}"
    return f"exit status {code}"
