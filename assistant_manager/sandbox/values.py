"""The plain values that enter and leave the sandbox, and its one refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1024 * 1024

STATE_LOST = (
    "Note: this ran in a new kernel. Variables and files of earlier code in this session are gone."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one kernel may use. Bytes and seconds throughout.

    `memory_bytes` bounds address space, and nothing in a kernel can hold memory outside it: no
    child processes, no tmpfs, no memfd. `work_bytes` is watched by the host ten times a second,
    so a fast disk can overshoot it by what it writes in between; `file_bytes` is exact.
    """

    wall_seconds: float = 30.0  # one cell
    cpu_seconds: int = 120  # a kernel's whole life
    memory_bytes: int = 2048 * MIB
    output_bytes: int = 64 * 1024  # kept, of stdout, stderr and the value each
    flood_bytes: int = 8 * MIB  # printed by one cell before it is stopped
    code_bytes: int = 1 * MIB
    file_bytes: int = 64 * MIB
    work_bytes: int = 256 * MIB
    work_files: int = 1000  # folders included
    open_files: int = 64
    threads: int = 64
    images: int = 10
    image_bytes: int = 5 * MIB
    start_seconds: float = 60.0  # until a new kernel says it is ready


@dataclass(frozen=True, slots=True)
class CellResult:
    """What became of one piece of code. Texts hold no NUL and no lone surrogate.

    `outcome` is "error" when the code raised or brought the kernel down, "limit" when a limit
    ended it; `limit` is then a sentence naming that limit. `value` is the repr of the last
    expression, None if there was none. `images` are whole PNGs. `duration` is in seconds.
    `fresh` means an earlier cell of the session ran in another kernel, so its state is lost.
    """

    outcome: Literal["ok", "error", "limit"]
    stdout: str
    stderr: str
    value: str | None
    images: tuple[bytes, ...]
    limit: str | None
    duration: float
    fresh: bool

    @property
    def text(self) -> str:
        """What a person or a model reads: stdout, value, stderr, limit, lost state, in this order."""
        parts = (
            self.stdout,
            self.value,
            self.stderr,
            self.limit,
            STATE_LOST if self.fresh else None,
        )
        return "\n".join(part.rstrip("\n") for part in parts if part)


@dataclass(frozen=True, slots=True)
class TierReport:
    """What the live probe saw of one tier. `reason` says what failed, or what was shown to work."""

    tier: str
    works: bool
    reason: str
    milliseconds: float


class SandboxUnavailable(Exception):
    """No code can be run here. str() is a sentence naming what is missing and what to do."""


class KernelFailed(Exception):
    """A kernel could not be started. str() says why, for the probe's report."""
