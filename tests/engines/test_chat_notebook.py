"""The kernel of a chat run: given up to others when they need it, and made again as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant_manager.engines.chat.notebook import Notebook
from assistant_manager.sandbox import Sandbox
from tests.engines.conftest import Await
from tests.engines.turns import make_turn


@pytest.fixture
def narrow(wait_for: Await, tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox with room for one kernel: whoever runs code takes it from the one before."""
    sandbox = Sandbox(work_dir=tmp_path, max_kernels=1, spares=0, preload=())
    yield sandbox
    wait_for(sandbox.close())


def test_variables_outlive_a_kernel_that_others_needed(narrow: Sandbox, wait_for: Await) -> None:
    async def by_turns() -> str | None:
        notebook = Notebook(narrow, make_turn())
        await notebook.run("n = [1]")
        for _ in range(2):
            await narrow.run("others", "1")
            result = await notebook.run("n.append(len(n) + 1); n")
            assert not result.fresh
        return result.value

    assert wait_for(by_turns()) == "[1, 2, 3]"


def test_files_outlive_a_kernel_that_others_needed(narrow: Sandbox, wait_for: Await) -> None:
    async def by_turns() -> bytes:
        notebook = Notebook(narrow, make_turn())
        await notebook.run("_ = open('out.csv', 'w').write('1')")
        await narrow.run("others", "1")
        files = await notebook.linked("sandbox:/mnt/data/out.csv")
        return files["out.csv"].content

    assert wait_for(by_turns()) == b"1"


def test_what_a_cell_itself_has_lost_is_not_made_again(narrow: Sandbox, wait_for: Await) -> None:
    async def crash() -> tuple[bool, str | None]:
        notebook = Notebook(narrow, make_turn())
        await notebook.run("n = 1")
        await notebook.run("import os; os._exit(1)")
        result = await notebook.run("'n' in globals()")
        return result.fresh, result.value

    assert wait_for(crash()) == (True, "False")
