"""The second tier: Landlock, seccomp and rlimits, with nothing to install.

The process sees the host's file system but can open only what its rules name. It is handed the
folders as descriptors and calls them /proc/self/fd/N: so an unprivileged user gets at a Python
that lives in root's home, and texts hold no path of the host. Known rest: whether a path exists
can be asked. Rules: landlock(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from assistant_manager.sandbox import launch
from assistant_manager.sandbox.packages import Library, library
from assistant_manager.sandbox.values import Limits

_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


class Landlock:
    name = "landlock"

    def missing(self) -> str | None:
        return None if os.uname().sysname == "Linux" else "Landlock exists on Linux only"

    def launch(self, folder: Path, limits: Limits, closing: ExitStack) -> launch.Launch:
        here = library()
        handed = [here.executable, here.home, here.inside, folder, *here.packages]
        descriptors = [_opened(path, closing) for path in handed]
        executable, home, inside, work, *packages = (f"/proc/self/fd/{n}" for n in descriptors)
        return launch.Launch(
            command=["python", *launch.boot(inside)],
            order=launch.order(
                limits,
                parent=os.getpid(),
                landlock=list(_rules(here, home, inside, work, packages)),
                packages=packages,
                inside=inside,
                work=work,
            ),
            options={
                "executable": executable,
                "env": launch.environment(home, work),
                **_as_user(launch.drops_to()),
            },
            descriptors=descriptors,
            shown={
                home: "/python",
                work: launch.WORK,
                str(folder): launch.WORK,
                **{path: f"/packages/{n}" for n, path in enumerate(packages)},
            },
        )


def _rules(
    here: Library, home: str, inside: str, work: str, packages: list[str]
) -> Iterator[tuple[str, str]]:
    for path in (*(f"{home}/{name}" for name in here.lib), *packages, f"{inside}/inside"):
        yield path, "read"
    for system in here.system:
        yield str(system), "read"
    for device in _DEVICES:
        yield device, "device"
    yield work, "work"


def _as_user(uid: int | None) -> dict[str, object]:
    return {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}


def _opened(path: Path, closing: ExitStack) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    closing.callback(os.close, descriptor)
    return descriptor
