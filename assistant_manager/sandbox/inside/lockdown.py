"""The kernel process gives up its rights, for good, before it sees any model-written code.

Plain ctypes, because this must work with nothing but Python. Rules: landlock(7), prctl(2),
seccomp(2). Every function raises OSError when the operating system refuses.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2

# The same numbers on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

# LANDLOCK_ACCESS_FS_*, LANDLOCK_ACCESS_NET_* and LANDLOCK_SCOPE_*
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << n for n in range(6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_FILESYSTEM_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many an ABI knows; later ones: 16
_NETWORK_SINCE, _SCOPE_SINCE = 4, 6

_READ = _READ_FILE | _READ_DIR
_WORK = (
    _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)
RIGHTS = {"read": _READ, "work": _WORK, "device": _READ_FILE | _WRITE_FILE}
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(what: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def _prctl(what: str, option: int, *arguments: object) -> None:
    values = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    _checked(what, _libc.prctl(option, *values))


def become(uid: int) -> None:
    """Change to `uid` (user and group) for good, losing every capability."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def die_with(parent: int | None) -> None:
    """Have the operating system kill us when the thread that started us ends.

    Must follow `become`: a change of user clears the wish. `parent` is the process that should
    still be there, None inside a process namespace, where it has no number.
    """
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def limit(limits: Mapping[str, int]) -> None:
    """Set rlimits by their names without RLIMIT_, never above what we were given."""
    for name, wanted in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            wanted = min(wanted, most)
        # SIGXCPU comes one second before SIGKILL and tells the host which limit it was.
        hard = wanted + 1 if name == "CPU" and wanted != most else wanted
        resource.setrlimit(kind, (wanted, hard))


def no_new_privileges() -> None:
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def landlock(rules: Sequence[tuple[str, str]]) -> int:
    """Deny the file system but for `rules`, (path, name in RIGHTS) pairs; return the ABI used."""
    abi = _checked(
        "Landlock is missing or switched off in this kernel",
        _libc.syscall(
            ctypes.c_long(_LANDLOCK_CREATE_RULESET),
            None,
            ctypes.c_size_t(0),
            ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION),
        ),
    )
    handled = (1 << _FILESYSTEM_BITS.get(abi, 16)) - 1
    attributes = struct.pack(
        "=QQQ",
        handled,
        0b11 if abi >= _NETWORK_SINCE else 0,  # TCP bind and connect
        0b11 if abi >= _SCOPE_SINCE else 0,  # abstract Unix sockets and signals
    )
    # An older kernel accepts a longer struct as long as what it does not know is zero.
    ruleset = _checked(
        "landlock_create_ruleset",
        _libc.syscall(
            ctypes.c_long(_LANDLOCK_CREATE_RULESET),
            attributes,
            ctypes.c_size_t(len(attributes)),
            ctypes.c_uint32(0),
        ),
    )
    for path, right in rules:
        _allow(ruleset, path, RIGHTS[right] & handled)
    _checked(
        "landlock_restrict_self",
        _libc.syscall(
            ctypes.c_long(_LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0)
        ),
    )
    os.close(ruleset)
    return abi


def _allow(ruleset: int, path: str, access: int) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - pathlib is not worth its start-up time here
            access &= _FILE_RIGHTS
        rule = struct.pack("=Qi", access, target)
        _checked(
            "landlock_add_rule",
            _libc.syscall(
                ctypes.c_long(_LANDLOCK_ADD_RULE),
                ctypes.c_int(ruleset),
                ctypes.c_int(_LANDLOCK_RULE_PATH_BENEATH),
                rule,
                ctypes.c_uint32(0),
            ),
        )
    finally:
        os.close(target)


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter on this thread and all that it will start. Needs no_new_privileges."""
    wanted = _Program(len(program) // 8, program)
    _prctl("PR_SET_SECCOMP", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(wanted))
