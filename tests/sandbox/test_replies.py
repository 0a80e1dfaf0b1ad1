"""A cell can write to the channel on which its kernel replies. Nothing it writes may harm the host."""

from __future__ import annotations

import json

import pytest

from assistant_manager.sandbox import Sandbox
from assistant_manager.sandbox.replies import LONGEST, Forged, Lines, parse
from tests.sandbox.host import Host, Run

WRITE_TO_ALL = """
import os
for descriptor in range(3, 64):
    try:
        os.write(descriptor, {data})
    except OSError:
        pass
"""


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"junk",
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 100_000,
        b"null",
        b"[]",
        b'"text"',
        b'{"cell": "1"}',
        b'{"cell": true}',
        b'{"cell": 1, "value": 5}',
        b'{"cell": 1, "error": ["x"]}',
        b"cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    with pytest.raises(Forged):
        parse(line)


def test_texts_of_a_reply_are_cleaned() -> None:
    assert parse(b'{"cell": 1, "value": "a\\u0000\\ud800"}').value == "a\N{REPLACEMENT CHARACTER}?"


def test_a_line_without_end_is_not_collected_for_ever() -> None:
    lines = Lines()
    for _ in range(LONGEST // 1000):
        assert lines.add(b"x" * 1000) == []

    with pytest.raises(Forged):
        lines.add(b"x" * 1000)


@pytest.mark.parametrize(
    "data",
    [
        "b'junk\\n'",
        "b'{}\\n'",
        'b\'{"cell": 1, "outcome": "ok"}\\n{"cell": 2, "outcome": "ok"}\\n\'',
        "b'\\x80\\x04\\x95' + b'\\n'",
    ],
    ids=["junk", "empty", "a reply ahead of time", "a pickle"],
)
def test_a_forged_reply_ends_the_kernel_at_the_latest_with_the_next_cell(
    host: Host, shared_sandbox: Sandbox, data: str
) -> None:
    first = host.run(shared_sandbox, data, WRITE_TO_ALL.format(data=data))
    second = host.run(shared_sandbox, data, "'real'")
    third = host.run(shared_sandbox, data, "'real'")

    assert third.value == "'real'"
    assert "limit" in (first.outcome, second.outcome) or second.fresh


def test_a_flood_on_the_channel_ends_the_kernel(run: Run) -> None:
    code = f"while True:\n    {WRITE_TO_ALL.format(data='bytes(65536)').replace(chr(10), chr(10) + '    ')}"

    result = run(code)

    assert result.outcome == "limit"
    assert "the channel that is kept for the kernel's replies" in result.limit


def test_a_forged_reply_can_only_lie_about_its_own_cell(run: Run) -> None:
    forged = json.dumps({"cell": 1, "outcome": "ok", "value": "a lie"})

    result = run(WRITE_TO_ALL.format(data=f"{forged + chr(10)!r}.encode()"))

    assert result.value in ("a lie", None)
    assert result.outcome in ("ok", "limit")
