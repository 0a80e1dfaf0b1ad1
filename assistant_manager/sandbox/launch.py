"""What the two tiers have in common: how a kernel process is described before it is started."""

from __future__ import annotations

import base64
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from assistant_manager.sandbox import seccomp
from assistant_manager.sandbox.values import KernelFailed, Limits

# Root changes to this user, in the range (65000-65533) that distributions leave unassigned and
# that still exists inside a container with the usual 65,536 users.
SANDBOX_UID = 65123

# Where the vendor's code interpreter has its files, so that code written for that finds them.
WORK = "/mnt/data"

# No site, no user packages, no current folder on the path, no bytecode written, UTF-8 throughout.
PYTHON_FLAGS = ("-S", "-s", "-P", "-B", "-X", "utf8")


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start. `shown` maps what its texts may say of places to what people read."""

    command: Sequence[str]
    order: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)  # keywords of subprocess.Popen
    descriptors: Sequence[int] = ()
    shown: Mapping[str, str] = field(default_factory=dict)


class Tier(Protocol):
    name: str

    def missing(self) -> str | None:
        """Say what this machine lacks to even try, None if nothing."""

    def launch(self, folder: Path, limits: Limits, closing: ExitStack) -> Launch:
        """Describe a kernel working in `folder`. What `closing` holds is closed once it runs."""


def drops_to() -> int | None:
    """The user that kernels must change to, None where we are an ordinary user already."""
    return SANDBOX_UID if os.geteuid() == 0 else None


def boot(inside: str) -> list[str]:
    """The arguments that make Python run our side of the conversation from the folder `inside`."""
    code = f"import sys; sys.path.append({inside!r}); from inside.main import main; main()"
    return [*PYTHON_FLAGS, "-c", code]


def environment(home: str, work: str) -> dict[str, str]:
    """All that a kernel gets to know. The host's own environment is never passed on."""
    return {
        "PYTHONHOME": home,
        "LD_LIBRARY_PATH": f"{home}/lib",
        "HOME": work,
        "TMPDIR": work,
        "MPLCONFIGDIR": f"{work}/.matplotlib",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
    }


def order(limits: Limits, **more: Any) -> dict[str, Any]:
    """The first line a kernel reads: how to lock itself down. See `inside.main.settle`."""
    return {
        "become": None,
        "parent": None,
        "landlock": None,
        "seccomp": base64.b64encode(program()).decode(),
        "limits": {
            "AS": limits.memory_bytes,
            "CPU": limits.cpu_seconds,
            "FSIZE": limits.file_bytes,
            "NOFILE": limits.open_files,
            "NPROC": tasks_of(os.geteuid() if drops_to() is None else SANDBOX_UID) + limits.threads,
            "CORE": 0,
            "MEMLOCK": 0,
            "MSGQUEUE": 0,
        },
        "forget": ["PYTHONHOME", "LD_LIBRARY_PATH", "PWD"],
        "keep": limits.output_bytes,
        **more,
    }


def program(*, launching: bool = False) -> bytes:
    """The seccomp filter for this machine. Raises KernelFailed on one we have no table for."""
    machine = platform.machine()
    try:
        return seccomp.program(machine, launching=launching)
    except KeyError:
        raise KernelFailed(f"no table of system calls for {machine} processors") from None


def tasks_of(uid: int) -> int:
    """How many threads `uid` has now: RLIMIT_NPROC counts them all, and the limit goes on top."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # it ended while we looked
            continue
        if int(fields["Uid"].split()[0]) == uid:
            total += int(fields["Threads"])
    return total
