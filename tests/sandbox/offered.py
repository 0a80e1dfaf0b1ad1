"""Which tiers this machine's operating system offers, asked without the code under test.

If the tests asked our own probe, a bug that breaks a tier would also switch off its tests.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import shutil
import subprocess

_LANDLOCK_CREATE_RULESET, _VERSION = 444, 1


@functools.cache
def tiers() -> tuple[str, ...]:
    if platform.machine() not in ("x86_64", "aarch64"):
        return ()
    found = []
    if _bubblewrap():
        found.append("bubblewrap")
    if _landlock():
        found.append("landlock")
    return tuple(found)


def _bubblewrap() -> bool:
    if shutil.which("bwrap") is None:
        return False
    trial = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def _landlock() -> bool:
    version = ctypes.CDLL(None).syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)
    )
    return version > 0
