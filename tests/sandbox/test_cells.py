"""What a session can do: the same on every tier."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

from assistant_manager.sandbox import Sandbox
from assistant_manager.sandbox.launch import WORK
from tests.sandbox.host import Host, Run

PNG = b"\x89PNG\r\n\x1a\n"


def test_an_equation_is_solved(run: Run) -> None:
    result = run("from sympy import symbols, solve\nx = symbols('x')\nsolve(3*x + 11 - 14, x)")

    assert (result.outcome, result.value, result.text) == ("ok", "[1]", "[1]")


def test_variables_live_from_cell_to_cell(run: Run) -> None:
    run("x = 40")

    result = run("x + 2")

    assert (result.value, result.fresh) == ("42", False)


def test_sessions_do_not_see_each_other(host: Host, shared_sandbox: Sandbox) -> None:
    host.run(shared_sandbox, "one", "x = 1; open('mine.txt', 'w').write('x')")

    other = host.run(shared_sandbox, "other", "import os; (os.listdir('.'), 'x' in globals())")

    assert other.value == "([], False)"


def test_output_value_and_errors_are_told_apart_and_joined_in_this_order(run: Run) -> None:
    result = run("import sys\nprint('said')\nprint('complained', file=sys.stderr)\n6 * 7")

    assert (result.stdout, result.stderr, result.value) == ("said\n", "complained\n", "42")
    assert result.text == "said\n42\ncomplained"


def test_a_statement_at_the_end_shows_no_value(run: Run) -> None:
    assert run("x = 1").value is None


def test_none_shows_no_value(run: Run) -> None:
    assert run("None").value is None


def test_an_error_shows_the_cell_and_nothing_of_our_own(run: Run) -> None:
    result = run("def f():\n    return 1 / 0\nprint('before')\nf()")

    assert (result.outcome, result.stdout) == ("error", "before\n")
    assert 'File "<cell 1>", line 2, in f' in result.stderr
    assert "return 1 / 0" in result.stderr
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "inside" not in result.stderr
    assert result.stderr.count("File ") == 2


def test_an_error_does_not_end_the_session(run: Run) -> None:
    run("x = 5\nraise ValueError('no')")

    assert run("x").value == "5"


def test_texts_name_no_path_of_the_host(run: Run, work_dir: Path) -> None:
    result = run("import json, os\nprint(os.path.abspath('a.txt'))\njson.loads('{')")

    assert result.stdout == f"{WORK}/a.txt\n"
    assert 'File "/python/lib' in result.stderr
    assert "/proc/" not in result.text
    assert str(work_dir) not in result.text


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("print('a\0b')", "null bytes"),
        ("x = '\ud800'", "surrogates not allowed"),
        ("def", "SyntaxError"),
        ("(" * 5000, "SyntaxError"),
        ("return 1", "SyntaxError"),
    ],
    ids=["NUL", "lone surrogate", "half a line", "deep nesting", "stray return"],
)
def test_code_that_is_no_python_is_an_error_of_the_cell(
    run: Run, code: str, complaint: str
) -> None:
    result = run(code)

    assert result.outcome == "error"
    assert complaint in result.stderr
    assert run("1 + 1").value == "2"


def test_empty_code_is_fine(run: Run) -> None:
    assert run("").outcome == "ok"


def test_texts_can_be_stored_whatever_was_printed(run: Run) -> None:
    result = run("import os\nprint('a\\0b\\ud800')\nos.write(1, b'\\xff')\n'\\ud800\\0'")

    assert "\0" not in result.text
    assert result.text.encode().decode() == result.text
    assert result.stdout.startswith("a\N{REPLACEMENT CHARACTER}b\\ud800")


def test_a_repr_with_nul_and_surrogate_can_be_stored(run: Run) -> None:
    result = run("class Odd:\n    __repr__ = lambda self: 'a\\0\\ud800'\nOdd()")

    assert result.value == "a\N{REPLACEMENT CHARACTER}?"


def test_a_repr_that_raises_is_an_error_of_the_cell(run: Run) -> None:
    result = run("class Odd:\n    def __repr__(self): raise ValueError('no repr')\nOdd()")

    assert result.outcome == "error"
    assert "no repr" in result.stderr


def test_an_exception_whose_text_raises_is_still_named(run: Run) -> None:
    result = run("class Odd(Exception):\n    def __str__(self): raise SystemExit\nraise Odd")

    assert result.outcome == "error"
    assert "Odd" in result.stderr


def test_sys_exit_ends_the_cell_and_not_the_session(run: Run) -> None:
    run("x = 3")

    assert run("import sys; sys.exit()").outcome == "ok"
    assert run("sys.exit('bad')").outcome == "error"
    assert run("x").value == "3"


def test_reading_input_finds_its_end(run: Run) -> None:
    assert "EOFError" in run("input()").stderr


def test_a_cell_that_closes_its_streams_spoils_only_itself(run: Run) -> None:
    run("import sys; sys.stdout.close(); sys.stderr = None")

    assert run("print('here')").stdout == "here\n"


def test_threads_work(run: Run) -> None:
    code = """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    squares = list(pool.map(lambda n: n * n, range(5)))
squares
"""
    assert run(code).value == "[0, 1, 4, 9, 16]"


def test_files_live_as_long_as_the_session(run: Run) -> None:
    run("import pathlib; pathlib.Path('data').mkdir(); pathlib.Path('data/a.txt').write_text('1')")

    assert run("open('data/a.txt').read()").value == "'1'"


def test_temporary_files_work(run: Run) -> None:
    code = """
import tempfile, os
with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
    file.write(b'x')
    open(os.path.join(folder, 'y'), 'w').close()
    os.rename(os.path.join(folder, 'y'), os.path.join(folder, 'z'))
"""
    result = run(code)

    assert (result.outcome, result.text) == ("ok", "")


def test_an_open_figure_comes_back_as_a_picture(run: Run) -> None:
    result = run("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")

    assert [image[:8] for image in result.images] == [PNG]
    assert (result.stderr, result.outcome) == ("", "ok")
    assert run("plt.get_fignums()").value == "[]"


def test_a_saved_picture_comes_back_once(run: Run) -> None:
    first = run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('plot.png')")
    second = run("1")

    assert len(first.images) == 1, "open and saved, but the same picture"
    assert second.images == ()


def test_a_picture_is_there_although_the_cell_failed_later(run: Run) -> None:
    result = run("import matplotlib.pyplot as plt\nplt.plot([1])\n1 / 0")

    assert (len(result.images), result.outcome) == (1, "error")


def test_numpy_works(run: Run) -> None:
    code = "import numpy as np\nfloat(np.linalg.solve(np.array([[3.0]]), np.array([3.0]))[0])"

    assert run(code).value == "1.0"


def test_the_libraries_named_are_the_ones_that_import(run: Run, shared_sandbox: Sandbox) -> None:
    for name in ("sympy", "numpy", "pandas", "matplotlib"):
        named = name in shared_sandbox.libraries
        assert named == (importlib.util.find_spec(name) is not None)
        assert (run(f"import {name}").outcome == "ok") == named


def test_the_time_a_cell_took_is_told(run: Run) -> None:
    began = time.monotonic()
    told = run("import time; time.sleep(0.2)").duration

    assert 0.2 < told <= time.monotonic() - began
