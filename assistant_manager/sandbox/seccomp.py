"""Which system calls model-written code may make. Everything that is not listed is refused.

An allow-list, because a deny-list forgets: what Python, sympy, numpy, pandas and matplotlib need
is short and known, and a call the kernel gains next year is refused without anybody's doing.

Deliberately absent, since each was found to be a way out or round a limit: new processes and
`exec`; sockets of every kind; `kill` and its siblings (same-user processes include the host);
`chmod`, `chown`, `utime` and xattrs, which Landlock does not cover; `truncate` by path, the same
before Landlock ABI 3; links; `memfd_create` and System V memory, which RLIMIT_AS does not count;
`keyctl`, `bpf`, `perf`, `ptrace`, `io_uring`, namespaces and mounts; `openat2`, whose flags hide
behind a pointer.
"""

from __future__ import annotations

import errno
import os

from assistant_manager.sandbox import bpf
from assistant_manager.sandbox.syscalls import MACHINES

_ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 sendfile copy_file_range
close close_range lseek dup dup2 dup3 pipe pipe2 flock fsync fdatasync ftruncate fallocate fadvise64
stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
getcwd chdir fchdir getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 umask
creat
mmap mprotect munmap mremap msync mincore madvise brk membarrier
poll ppoll select pselect6 pause nanosleep clock_nanosleep getitimer setitimer alarm
clock_gettime clock_getres gettimeofday time times getrusage sysinfo uname getcpu
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
restart_syscall futex set_robust_list get_robust_list set_tid_address rseq arch_prctl
sched_yield sched_getaffinity sched_get_priority_max sched_get_priority_min
getpid getppid gettid getpgrp getpgid getsid getuid geteuid getgid getegid getgroups getresuid
getresgid getrlimit getrandom exit exit_group
"""

# Only until the kernel process has locked itself down, and only under bubblewrap, which applies
# its filter before it executes Python (and to its own process 1, which waits for it). The second
# filter closes these again.
LAUNCHING = ["execve", "wait4", "prctl", "prlimit64", "setgroups", "setresuid", "setresgid"]

_THREAD = 0x00010000 | 0x00000100  # CLONE_THREAD | CLONE_VM
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW*
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # dup, flags and locks; not F_SETOWN, which sends signals
_IOCTL = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # isatty, window size, FIO[N]CLEX, FIONBIO
_PRCTL = (15, 16)  # a thread's name; not PR_SET_PDEATHSIG, which would outlive the host
_ACCESS_AND_TRUNCATE = os.O_ACCMODE | os.O_TRUNC

# libc falls back to an older call only on "no such call", so calls newer than 5.1 get that answer.
_FIRST_NEW_CALL = 424
_X32_BIT = 0x40000000


def _only(argument: int, values: tuple[int, ...]) -> list[bpf.Instruction]:
    """Allow the call when the argument is one of `values`."""
    program = [bpf.load_argument(argument)]
    for value in values:
        program += [bpf.unless_equal(value, 1), bpf.answer(bpf.ALLOW)]
    return [*program, bpf.errno_answer(errno.EPERM)]


def _unless_masked(argument: int, mask: int, value: int) -> list[bpf.Instruction]:
    """Allow the call unless the argument's bits in `mask` are exactly `value`."""
    return [
        bpf.load_argument(argument),
        bpf.masked(mask),
        bpf.unless_equal(value, 1),
        bpf.errno_answer(errno.EPERM),
        bpf.answer(bpf.ALLOW),
    ]


def _threads_only() -> list[bpf.Instruction]:
    return [
        bpf.load_argument(0),
        bpf.masked(_THREAD | _NEW_NAMESPACES),
        bpf.unless_equal(_THREAD, 1),
        bpf.answer(bpf.ALLOW),
        bpf.errno_answer(errno.EPERM),
    ]


def _conditional() -> dict[str, list[bpf.Instruction]]:
    # O_RDONLY | O_TRUNC empties a file without asking Landlock (before ABI 3) for the right to write.
    empties = os.O_RDONLY | os.O_TRUNC
    return {
        "clone": _threads_only(),
        "clone3": [bpf.errno_answer(errno.ENOSYS)],
        "open": _unless_masked(1, _ACCESS_AND_TRUNCATE, empties),
        "openat": _unless_masked(2, _ACCESS_AND_TRUNCATE, empties),
        "fcntl": _only(1, _FCNTL),
        "ioctl": _only(1, _IOCTL),
        "prctl": _only(0, _PRCTL),
        "prlimit64": _only(0, (0,)),  # our own limits, not those of another process
    }


def program(machine: str, *, launching: bool = False) -> bytes:
    """Return the filter for `machine` (as `os.uname()` names it). KeyError: a machine unknown here."""
    known = MACHINES[machine]
    conditional = _conditional()
    allowed = _ALLOWED.split()
    if launching:
        allowed += LAUNCHING
        conditional = {name: block for name, block in conditional.items() if name not in LAUNCHING}
    instructions = [
        bpf.load(bpf.ARCHITECTURE),
        bpf.if_equal(known.audit, 1),
        bpf.answer(bpf.KILL_PROCESS),
        bpf.load(bpf.NUMBER),
        bpf.unless_at_least(_X32_BIT, 1),
        bpf.answer(bpf.KILL_PROCESS),
    ]
    for name in allowed:
        if name in known.numbers:
            instructions += [bpf.unless_equal(known.numbers[name], 1), bpf.answer(bpf.ALLOW)]
    for name, block in conditional.items():
        if name in known.numbers:
            instructions += [bpf.unless_equal(known.numbers[name], len(block)), *block]
    return bpf.assemble(
        [
            *instructions,
            bpf.unless_at_least(_FIRST_NEW_CALL, 1),
            bpf.errno_answer(errno.ENOSYS),
            bpf.errno_answer(errno.EPERM),
        ]
    )
