"""The files that a chat model's code may open, whatever users have called them."""

from __future__ import annotations

import pytest

from assistant_manager.engines.base import TurnFile
from assistant_manager.engines.chat.material import code_files
from assistant_manager.engines.exceptions import Rejected
from tests.engines.turns import make_turn


def laid(*names: str, size: int = 1) -> list[str]:
    files = {
        f"file-{number}": TurnFile(f"file-{number}", name, size, lambda: b"1")
        for number, name in enumerate(names)
    }
    resources = {"code_interpreter": {"file_ids": list(files)}}
    return list(code_files(make_turn(files=files, tool_resources=resources)))


def test_files_for_code_have_names_that_lead_nowhere() -> None:
    hostile = ["../x", "/etc/x", "a/b", "n\0ul", "..", ".hidden", "a\nb", "\ud800"]
    for name in laid(*hostile):
        assert name
        assert not name.startswith(".")
        assert not set(name) & {"/", "\0", "\n", "\ud800"}


def test_files_of_one_name_are_told_apart() -> None:
    names = laid("a.csv", "a.csv", "file-3-a.csv", "a.csv")
    assert names == ["a.csv", "file-1-a.csv", "file-3-a.csv", "file-3-file-3-a.csv"]


@pytest.mark.parametrize("letter", ["x", "ü", "😀", "長"])
def test_a_long_name_is_cut_and_keeps_its_ending(letter: str) -> None:
    for name in laid(f"{letter * 300}.csv", f"{letter * 300}.csv"):
        assert name.endswith(".csv")
        assert len(name.encode()) <= 255


def test_more_files_than_code_can_hold_are_refused_in_words() -> None:
    with pytest.raises(Rejected, match="500 of 128 MiB"):
        laid(*(f"{number}.csv" for number in range(501)))
    with pytest.raises(Rejected, match="2 files of 200 MiB"):
        laid("a", "b", size=100 * 2**20)
