"""A driver's name says which process it is, so that others on its machine can tell once it is gone.

    web-3:4711:5a1b2c3d@189557.0f3c9a1d2b4e6f80

The host, the process and a lot; behind the @, for programs, the tick in which the process began and
where all this counts. What cannot be told for certain is missing, and then nobody can tell.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_NAME = re.compile(r".*:(?P<pid>[1-9]\d*):[0-9a-f]{8}@(?P<began>\d+)\.(?P<place>[0-9a-f]{16})")
_DOUBTS = (OSError, ValueError, LookupError, OverflowError)
"""What may go wrong where a system does not say what, or as, Linux does."""


class _Process(NamedTuple):
    began: int
    """In ticks since the kernel's start."""
    has_ended: bool
    """Nothing of it runs any more; only its parent has not asked yet how it ended."""


def new_name() -> str:
    """For a driver in this process; 100 characters at most."""
    name = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    try:
        return f"{name}@{_process(os.getpid()).began}.{_place()}"
    except _DOUBTS:
        return name


def readable(name: str) -> str:
    """The part of a name that is for people."""
    return name.partition("@")[0]


def is_gone(name: str) -> bool:
    """Whether that driver's process has ended for certain. False wherever there is any doubt: it is
    on another machine, in another container, or may not be looked at."""
    named = _NAME.fullmatch(name)
    try:
        if named is None or named["place"] != _place():
            return False
        return _has_ended(int(named["pid"]), int(named["began"]))
    except _DOUBTS:
        return False


def _has_ended(pid: int, began: int) -> bool:
    try:
        os.kill(pid, 0)  # /proc may hide the processes of others; this tells of all
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    process = _process(pid)
    return process.has_ended or process.began != began


def _place() -> str:
    """Where an id and a beginning mean one process only: this host, this start of its kernel, our
    namespaces. Raises one of _DOUBTS where that cannot be told.

    A kernel gives the number of a namespace to another one only after all its processes are gone.
    """
    if _ids_in_proc() != [str(os.getpid())]:
        raise ValueError("/proc shows the processes of another namespace.")
    boot = uuid.UUID((_PROC / "sys/kernel/random/boot_id").read_text().strip())
    parts = (socket.gethostname(), str(boot), _namespace("pid"), _namespace("time"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _ids_in_proc() -> list[str]:
    """Our own, in each namespace from that of /proc down to ours."""
    for line in (_PROC / "self/status").read_text(errors="replace").splitlines():
        if line.startswith("NSpid:"):
            return line.split()[1:]
    return []


def _namespace(kind: str) -> str:
    try:
        return str((_PROC / "self/ns" / kind).readlink())
    except FileNotFoundError:
        if kind == "time":  # kernels before 5.6 have one clock for all
            return ""
        raise


def _process(pid: int) -> _Process:
    # The second field is a name in brackets, which may hold anything.
    fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    state, threads, began = fields[0], int(fields[17]), int(fields[19])
    return _Process(began, state in (b"Z", b"X") and threads <= 1)
