"""Limits end a cell in time, say which one it was, and leave the machine as it was."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from assistant_manager.sandbox import CellResult
from tests.sandbox.host import Host, Run

MIB = 1024 * 1024
Try = Callable[..., CellResult]


@pytest.fixture
def attempt(make_run: Callable[..., Run]) -> Try:
    """Run a cell in a new kernel with some limits of its own."""

    def attempt(code: str, *, seconds: float = 60, **limits: float) -> CellResult:
        return make_run(wall_seconds=seconds, **limits)(code)

    return attempt


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "9**9**9**9",
        "import time; time.sleep(600)",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    ],
    ids=["loop", "number", "sleep", "signals ignored", "regular expression"],
)
def test_a_cell_that_does_not_end_is_ended(attempt: Try, code: str) -> None:
    result = attempt(code, seconds=1)

    assert result.outcome == "limit"
    assert result.limit == "Stopped after 1 s. Variables and files of this session are lost."
    assert 1 <= result.duration < 50


def test_an_endless_interception_of_errors_is_ended(attempt: Try) -> None:
    code = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"

    assert attempt(code, seconds=1).outcome == "limit"


def test_processor_time_is_limited_for_the_whole_life_of_a_kernel(attempt: Try) -> None:
    result = attempt("print('began')\nwhile True: pass", seconds=90, cpu_seconds=2)

    assert result.outcome == "limit"
    assert "2 s of processor time" in result.limit
    assert result.stdout == "began\n", "what it printed before is kept"


def test_too_much_memory_is_refused_and_the_session_goes_on(run: Run) -> None:
    run("x = 1")

    result = run("data = bytearray(10 * 2**30)")

    assert result.outcome == "limit"
    assert result.limit == "It needed more than 2048 MiB of memory."
    assert "MemoryError" in result.stderr
    assert run("x").value == "1"


@pytest.mark.parametrize(
    "code",
    [
        "data = []\nwhile True: data.append(bytearray(2**20))",
        "import numpy\ndata = []\nwhile True: data.append(numpy.ones(2**20))",
        "import mmap\ndata = []\nwhile True: data.append(mmap.mmap(-1, 2**24))",
    ],
)
def test_memory_taken_bit_by_bit_is_limited(attempt: Try, code: str) -> None:
    result = attempt(code, memory_bytes=512 * MIB)

    assert result.outcome in ("limit", "error")
    assert "emory" in result.text


def test_a_flood_of_output_is_stopped_and_its_beginning_kept(attempt: Try) -> None:
    result = attempt("while True: print('y' * 1000)")

    assert result.outcome == "limit"
    assert result.limit.startswith("Stopped after printing 8 MiB.")
    assert result.stdout.startswith("yyy")
    assert len(result.stdout) < 66 * 1024


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_long_output_is_cut_and_says_so(attempt: Try, stream: str) -> None:
    result = attempt(f"import sys; print('y' * 100_000, file=sys.{stream})")

    text = getattr(result, stream)
    assert result.outcome == "ok"
    assert text == "y" * 65536 + "\n[cut here: only the first 64 KiB are kept]\n"


def test_a_long_value_is_cut_and_says_so(attempt: Try) -> None:
    result = attempt("'y' * 100_000")

    assert result.value.endswith("[cut here: only the first 64 KiB are kept]\n")
    assert len(result.value) < 66 * 1024


def test_all_that_was_printed_before_the_end_is_there(attempt: Try) -> None:
    result = attempt("import os\nprint('a' * 60_000)\nos.write(1, b'last')")

    assert result.stdout == "a" * 60_000 + "\nlast"


def test_a_file_cannot_grow_over_its_limit(attempt: Try) -> None:
    result = attempt("open('f', 'wb').write(b'x' * 3_000_000)", file_bytes=MIB)

    assert "File too large" in result.stderr


WAIT = "import time; time.sleep(600)"
"""Nobody but the limit ends the cell; and a machine that stalls is not swamped meanwhile."""

FILL = f"""
print('began')
for n in range(100):
    with open(f'f{{n}}', 'wb') as file:
        file.write(bytes(1_000_000))
{WAIT}
"""


def test_a_work_folder_cannot_be_filled(attempt: Try) -> None:
    result = attempt(FILL, work_bytes=20 * MIB)

    assert result.outcome == "limit"
    assert result.limit.startswith("Stopped: its files grew over 20 MiB.")
    assert result.stdout == "began\n", "what it printed before is kept"


def test_a_short_cell_is_looked_after_too(attempt: Try) -> None:
    result = attempt("open('f', 'wb').write(bytes(3_000_000))", work_bytes=MIB)

    assert result.outcome == "limit"


def test_many_small_files_are_too_many(attempt: Try) -> None:
    result = attempt(f"for n in range(5000): open(f'f{{n}}', 'w').close()\n{WAIT}")

    assert result.outcome == "limit"
    assert result.limit.startswith("Stopped: it made more than 1000 files.")


def test_folders_in_folders_in_folders_are_too_many(attempt: Try) -> None:
    code = "import os\nfor n in range(5000): os.mkdir('d'); os.chdir('d')"

    result = attempt(f"{code}\n{WAIT}")

    assert result.outcome in ("limit", "error")
    assert "it made" in result.text or "File name too long" in result.text


def test_a_folder_that_hides_its_contents_is_refused(attempt: Try) -> None:
    if os.geteuid() == 0:
        code, expected = "import os; os.mkdir('d', 0o300)", "ok"  # root looks in all the same
    else:
        code, expected = "import os; os.mkdir('d', 0o300)", "limit"

    assert attempt(code).outcome == expected


def test_threads_are_limited(attempt: Try) -> None:
    code = """
import threading, time
threading.stack_size(32 * 1024)
started = 0
try:
    for _ in range(5000):
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        started += 1
except RuntimeError as error:
    print(error)
started < 500
"""
    # Few, because they count for all kernels of the machine: others would find none left to start.
    result = attempt(code, threads=8)

    assert (result.stdout, result.value) == ("can't start new thread\n", "True")


def test_open_files_are_limited(attempt: Try) -> None:
    result = attempt("files = [open('/dev/null') for _ in range(1000)]")

    assert "Too many open files" in result.stderr


def test_too_long_a_code_is_not_run(attempt: Try) -> None:
    result = attempt("#" * 2_000_000)

    assert (result.outcome, result.limit) == (
        "limit",
        "Not run: the code is longer than 1024 KiB.",
    )


def test_pictures_are_limited_in_number_and_size(attempt: Try) -> None:
    code = """
for n in range(12):
    open(f'{n}.png', 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + bytes([n]))
open('big.png', 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + bytes(6_000_000))
open('text.png', 'wb').write(b'no picture')
"""
    images = attempt(code).images

    assert len(images) == 10
    assert all(len(image) == 9 for image in images)


# 9: what is lost is said


def test_after_a_kill_the_next_cell_says_that_state_is_lost(
    host: Host, make_sandbox, tier: str
) -> None:
    sandbox = make_sandbox(tier=tier)
    host.run(sandbox, "s", "x = 1; open('f', 'w').close()")

    killed = host.run(sandbox, "s", "while True: print('y' * 1000)")
    after = host.run(sandbox, "s", "import os; print(os.listdir('.')); x")
    later = host.run(sandbox, "s", "1")

    assert "Variables and files of this session are lost." in killed.text
    assert (killed.fresh, after.fresh, later.fresh) == (False, True, False)
    assert after.stdout == "[]\n"
    assert "NameError" in after.stderr
    assert after.text.endswith("Variables and files of earlier code in this session are gone.")


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os._exit(0)", "exit status 0"),
        ("import os; os._exit(3)", "exit status 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; os.abort()", "signal SIG"),
    ],
)
def test_a_cell_that_brings_its_python_down_is_told_how(attempt: Try, code: str, how: str) -> None:
    result = attempt(code)

    assert result.outcome == "error"
    assert how in result.stderr
    assert "Variables and files of this session are lost." in result.text


def test_a_cell_that_closes_every_descriptor_is_an_error(
    attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_manager.sandbox.kernel._GOING", 0.5)

    result = attempt(f"import os; os.closerange(0, 100)\n{WAIT}")

    assert result.outcome == "error"
    assert "it closed its own channels" in result.stderr


def test_a_cell_can_empty_its_folder_but_not_delete_it(run: Run) -> None:
    run("open('f', 'w').close()")

    result = run("import os, shutil; shutil.rmtree(os.getcwd())")

    assert "Error" in result.stderr
    assert run("open('g', 'w').close(); os.listdir('.')").value == "['g']"
