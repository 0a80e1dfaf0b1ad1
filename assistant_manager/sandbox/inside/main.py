"""The kernel process: locks itself down, then runs the cells it is sent.

Standard input brings JSON lines, the first one an order that says how to lock down; replies go as
JSON lines to a descriptor named in the order. Standard output and error belong to the cells and
are read by the host as they come, so what a stopped cell printed is not lost.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from . import lockdown
from .cells import Cells

Json = Mapping[str, Any]


def main() -> None:
    requests = os.fdopen(os.dup(0), "rb")
    order = json.loads(requests.readline())
    try:
        settle(order)
        for name in order["preload"]:
            if importlib.util.find_spec(name) is not None:
                __import__(name)
    except Exception as error:
        send(order["reply"], {"failed": f"{type(error).__name__}: {error}"})
        return
    send(order["reply"], {"ready": True})
    cells = Cells(keep=order["keep"])
    for request in received(requests):
        own_streams()
        reply = cells.run(request["cell"], request["code"])
        flush()
        send(order["reply"], {"cell": request["cell"], **reply})


def settle(order: Json) -> None:
    """Give up every right, in the one sequence in which each step is still possible."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    if order["become"] is not None:
        lockdown.become(order["become"])
    refuse_root()
    os.chdir(order["work"])
    lockdown.die_with(order["parent"])
    lockdown.limit(order["limits"])
    lockdown.no_new_privileges()
    if order["landlock"] is not None:
        lockdown.landlock([(path, right) for path, right in order["landlock"]])
    lockdown.filter_calls(base64.b64decode(order["seccomp"]))
    sys.path[:] = [*(path for path in sys.path if path != order["inside"]), *order["packages"], ""]
    sys.argv, sys.executable, sys.dont_write_bytecode = [""], "", True
    for name in order["forget"]:
        os.environ.pop(name, None)
    warnings.filterwarnings("ignore", message=".*non-interactive.*")  # plt.show() is fine here


def refuse_root() -> None:
    if 0 in os.getresuid():
        raise PermissionError("refusing to run code as root")


def own_streams() -> None:
    """Give each cell fresh streams on the real descriptors, whatever an earlier one did to its own."""
    sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), encoding="utf-8")
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        for descriptor in (1, 2)
    )


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112 - a cell closed or replaced it; there is nobody to tell
            continue


def received(requests: io.BufferedReader) -> Iterator[Json]:
    """Yield requests until the host is gone."""
    while line := requests.readline():
        yield json.loads(line)


def send(descriptor: int, message: Json) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
