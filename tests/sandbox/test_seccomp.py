"""The filter as a program: run on a small interpreter, so arm64 is tested on any machine."""

from __future__ import annotations

import errno
import struct

import pytest

from assistant_manager.sandbox import bpf, seccomp
from assistant_manager.sandbox.syscalls import MACHINES

EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
CLONE = {"x86_64": 56, "aarch64": 220}


def decide(program: bytes, number: int, *arguments: int, audit: int) -> int:
    """What the kernel would answer: an interpreter of the instructions in linux/filter.h."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number if number < 2**31 else number - 2**32, audit, 0, *padded)
    instructions = list(struct.iter_unpack("=HBBI", program))
    word = position = 0
    while True:
        code, if_true, if_false, operand = instructions[position]
        position += 1
        if code == bpf.LOAD:
            (word,) = struct.unpack_from("=I", data, operand)
        elif code == bpf.AND:
            word &= operand
        elif code == bpf.JUMP_EQUAL:
            position += if_true if word == operand else if_false
        elif code == bpf.JUMP_GREATER_OR_EQUAL:
            position += if_true if word >= operand else if_false
        elif code == bpf.RETURN:
            return operand
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


def answer(machine: str, number: int, *arguments: int, launching: bool = False) -> int:
    program = seccomp.program(machine, launching=launching)
    return decide(program, number, *arguments, audit=MACHINES[machine].audit)


def named(machine: str, name: str, *arguments: int, launching: bool = False) -> int:
    return answer(machine, MACHINES[machine].numbers[name], *arguments, launching=launching)


def test_what_python_needs_is_allowed(machine: str) -> None:
    for name in ("read", "write", "mmap", "futex", "exit_group", "getrandom", "close_range"):
        assert named(machine, name) == bpf.ALLOW


def test_all_that_is_not_listed_is_refused(machine: str) -> None:
    listed = set(MACHINES[machine].numbers.values())

    for number in set(range(1000)) - listed:
        assert answer(machine, number) in (EPERM, ENOSYS), number


@pytest.mark.parametrize(
    ("name", "x86", "arm64"),
    [
        ("execve", 59, 221),
        ("execveat", 322, 281),
        ("socket", 41, 198),
        ("connect", 42, 203),
        ("kill", 62, 129),
        ("ptrace", 101, 117),
        ("mount", 165, 40),
        ("unshare", 272, 97),
        ("setns", 308, 268),
        ("bpf", 321, 280),
        ("keyctl", 250, 219),
        ("memfd_create", 319, 279),
        ("fchmodat", 268, 53),
        ("setresuid", 117, 147),
        ("io_uring_setup", 425, 425),
        ("pidfd_send_signal", 424, 424),
        ("openat2", 437, 437),
    ],
)
def test_dangerous_calls_are_refused(machine: str, name: str, x86: int, arm64: int) -> None:
    assert answer(machine, x86 if machine == "x86_64" else arm64) in (EPERM, ENOSYS)


def test_another_architecture_is_fatal(machine: str) -> None:
    program = seccomp.program(machine)

    assert decide(program, 0, audit=0x40000003) == bpf.KILL_PROCESS  # 32-bit x86


def test_x32_numbers_are_fatal() -> None:
    assert answer("x86_64", 0x40000000) == bpf.KILL_PROCESS
    assert answer("x86_64", 0xFFFFFFFF) == bpf.KILL_PROCESS


def test_threads_may_be_made_and_processes_may_not(machine: str) -> None:
    thread = 0x3D0F00  # what glibc's pthread_create asks for

    assert answer(machine, CLONE[machine], thread) == bpf.ALLOW
    assert answer(machine, CLONE[machine], 17) == EPERM  # fork: SIGCHLD only
    assert answer(machine, CLONE[machine], thread | 0x10000000) == EPERM  # CLONE_NEWUSER
    assert answer(machine, 435, thread) == ENOSYS  # clone3


def test_a_file_may_be_truncated_only_by_opening_it_for_writing(machine: str) -> None:
    write_truncate, read_truncate = 0o1001, 0o1000

    assert named(machine, "openat", 0, 0, write_truncate) == bpf.ALLOW
    assert named(machine, "openat", 0, 0, 0) == bpf.ALLOW
    assert named(machine, "openat", 0, 0, read_truncate) == EPERM


def test_limits_may_be_set_only_for_oneself(machine: str) -> None:
    assert named(machine, "prlimit64", 0) == bpf.ALLOW
    assert named(machine, "prlimit64", 1) == EPERM


def test_a_descriptor_may_not_be_made_to_send_signals(machine: str) -> None:
    assert named(machine, "fcntl", 0, 3) == bpf.ALLOW  # F_GETFL
    assert named(machine, "fcntl", 0, 8) == EPERM  # F_SETOWN
    assert named(machine, "fcntl", 0, 10) == EPERM  # F_SETSIG


def test_only_the_launching_filter_lets_a_program_be_executed(machine: str) -> None:
    for name in ("execve", "setresuid", "setgroups"):
        assert named(machine, name) == EPERM
        assert named(machine, name, launching=True) == bpf.ALLOW
    assert named(machine, "prctl", 22) == EPERM
    assert named(machine, "prctl", 22, launching=True) == bpf.ALLOW


def test_every_name_in_the_tables_is_used(machine: str) -> None:
    """A number that is never allowed would be a typing error in one of the two lists."""
    for name, number in MACHINES[machine].numbers.items():
        answers = {
            answer(machine, number, argument, argument, launching=True)
            for argument in (0, 3, 0x5401, 0x3D0F00)
        }
        assert bpf.ALLOW in answers or name == "clone3", name


def test_an_unknown_machine_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        seccomp.program("riscv64")
