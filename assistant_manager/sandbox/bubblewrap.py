"""The first tier: bubblewrap's namespaces, with our seccomp filter and rlimits inside.

Nothing of the host is there but the interpreter, the packages and shared libraries, read-only, and
the work folder. There is no /proc, so no other process can be looked at, and no tmpfs that could be
filled: the root and /dev are made read-only. Rules: bwrap(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from assistant_manager.sandbox import launch
from assistant_manager.sandbox.packages import Library, library
from assistant_manager.sandbox.values import Limits

HOME, PACKAGES = "/python", "/packages"
_INSIDE = "/kernel"


class Bubblewrap:
    name = "bubblewrap"

    def missing(self) -> str | None:
        if shutil.which("bwrap") is None:
            return "the bwrap program is not installed (Debian, Ubuntu, Fedora: package bubblewrap)"
        return None

    def launch(self, folder: Path, limits: Limits, closing: ExitStack) -> launch.Launch:
        program = shutil.which("bwrap") or "bwrap"
        here = library()
        packages = [f"{PACKAGES}/{number}" for number in range(len(here.packages))]
        # By descriptor, so that no process list shows the host's paths.
        filter_fd = _readable(launch.program(launching=True), closing)
        arguments = [
            *_walls(program),
            *_places(here, packages, folder),
            *(word for name, value in launch.environment(HOME, launch.WORK).items()
              for word in ("--setenv", name, value)),
            "--chdir", "/",
            "--seccomp", str(filter_fd),
        ]  # fmt: skip
        arguments_fd = _readable("\0".join(arguments).encode() + b"\0", closing)
        python = f"{HOME}/bin/python"
        return launch.Launch(
            command=[program, "--args", str(arguments_fd), python, *launch.boot(_INSIDE)],
            order=launch.order(
                limits,
                become=launch.drops_to(),
                packages=packages,
                inside=_INSIDE,
                work=launch.WORK,
            ),
            # bwrap itself is process 1 in there: what it does not have, nobody can read.
            options={"env": {}},
            descriptors=[filter_fd, arguments_fd],
        )


def _walls(program: str) -> list[str]:
    arguments = ["--die-with-parent", "--new-session", "--hostname", "sandbox"]
    arguments += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    if launch.drops_to() is not None:
        # Real root needs no user namespace, and outside one it can become a user who owns nothing.
        return [*arguments, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    uid = str(launch.SANDBOX_UID)
    arguments += ["--unshare-user", "--uid", uid, "--gid", uid]
    # Since 0.8. The filter refuses nested namespaces anyhow; this is a second lock.
    return [*arguments, "--disable-userns"] if "--disable-userns" in _help(program) else arguments


def _places(here: Library, packages: list[str], folder: Path) -> list[str]:
    shown = [(here.executable, f"{HOME}/bin/python"), (here.inside / "inside", f"{_INSIDE}/inside")]
    shown += [(here.home / name, f"{HOME}/{name}") for name in here.lib]
    shown += zip(here.packages, packages, strict=True)
    shown += [(path, str(path)) for path in here.system if not path.is_symlink()]
    arguments = [word for source, target in shown for word in _bound("--ro-bind", source, target)]
    for path in here.system:
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        arguments += _bound("--dev-bind", Path(device), device)
    return [*arguments, *_bound("--bind", folder, launch.WORK), "--remount-ro", "/"]


def _bound(how: str, source: Path, target: str) -> list[str]:
    # Left to itself, bwrap makes the parent of a bound file with mode 0700.
    return ["--dir", str(Path(target).parent), how, str(source), target]


@cache
def _help(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout  # noqa: S603


def _readable(data: bytes, closing: ExitStack) -> int:
    """Return a descriptor from which `data` can be read."""
    descriptor = os.memfd_create("sandbox")
    closing.callback(os.close, descriptor)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
