"""An assembler for the few classic BPF instructions that a seccomp filter needs.

Jumps are relative and at most 255 long, so programs are built from short blocks that end in an
answer instead of one long chain with a common exit. Rules: linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import struct

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand

LOAD, AND, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]
NUMBER, ARCHITECTURE = 0, 4


def load(offset: int) -> Instruction:
    return (LOAD, 0, 0, offset)


def load_argument(index: int) -> Instruction:
    """Load the lower half of a system call's argument (both machines are little-endian)."""
    return load(16 + 8 * index)


def answer(value: int) -> Instruction:
    return (RETURN, 0, 0, value)


def errno_answer(error: int) -> Instruction:
    return answer(_ERRNO | error)


def masked(bits: int) -> Instruction:
    return (AND, 0, 0, bits)


def unless_equal(value: int, skip: int) -> Instruction:
    """Skip `skip` instructions unless the loaded word is `value`."""
    return (JUMP_EQUAL, 0, skip, value)


def if_equal(value: int, skip: int) -> Instruction:
    """Skip `skip` instructions if the loaded word is `value`."""
    return (JUMP_EQUAL, skip, 0, value)


def unless_at_least(value: int, skip: int) -> Instruction:
    return (JUMP_GREATER_OR_EQUAL, 0, skip, value)


def assemble(program: list[Instruction]) -> bytes:
    """Return the program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
