"""Who gets a kernel, who waits, and what is left when everybody has gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from assistant_manager.sandbox import CellResult, Limits, Sandbox, SandboxUnavailable, pool
from assistant_manager.sandbox.folder import Area
from assistant_manager.sandbox.kernel import Kernel
from assistant_manager.sandbox.launch import drops_to
from assistant_manager.sandbox.probe import TIERS
from tests.sandbox import offered
from tests.sandbox.host import Host


def test_cells_of_a_session_run_one_after_the_other(host: Host, shared_sandbox: Sandbox) -> None:
    async def three() -> list[CellResult]:
        cells = ["x = [1]", "import time; time.sleep(0.1); x.append(2)", "x"]
        return await asyncio.gather(*(shared_sandbox.run("order", cell) for cell in cells))

    assert host.do(three())[-1].value == "[1, 2]"


def test_sessions_run_side_by_side(host: Host, make_sandbox, tier: str) -> None:
    """Each cell says that it runs, and ends when all three do."""
    sandbox = make_sandbox(tier=tier, max_kernels=3)
    cell = (
        "import os, time; open('here', 'w').close()\n"
        "while not os.path.exists('go on'): time.sleep(0.02)\n'met'"
    )

    async def three() -> list[CellResult]:
        running = asyncio.gather(*(sandbox.run(name, cell) for name in "abc"))
        while len(here := _left("here", sandbox)) < 3 and not running.done():
            await asyncio.sleep(0.02)
        for file in here:
            file.with_name("go on").touch()
        return await running

    assert [result.value for result in host.do(three())] == ["'met'"] * 3


def test_who_came_first_is_served_first(host: Host, make_sandbox, tier: str) -> None:
    sandbox = make_sandbox(tier=tier, max_kernels=1)
    order: list[str] = []

    async def one(name: str) -> None:
        await sandbox.run(name, "1")
        order.append(name)

    async def all_at_once() -> None:
        await asyncio.gather(*(one(name) for name in "abcd"))

    host.do(all_at_once())

    assert order == ["a", "b", "c", "d"]


def test_an_idle_session_makes_room_and_is_told_when_it_returns(
    host: Host, make_sandbox, tier: str
) -> None:
    sandbox = make_sandbox(tier=tier, max_kernels=2)
    host.run(sandbox, "old", "x = 1")
    host.run(sandbox, "young", "x = 2")

    host.run(sandbox, "new", "x = 3")

    assert host.run(sandbox, "young", "x").value == "2", "the longest unused one went"
    back = host.run(sandbox, "old", "x")
    assert (back.fresh, back.outcome) == (True, "error")


def test_never_more_kernels_than_agreed(
    host: Host, make_sandbox, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Kernel] = []
    alive: list[int] = []

    class Counted(Kernel):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)
            alive.append(sum(kernel.alive for kernel in made))

    monkeypatch.setattr(pool, "Kernel", Counted)
    sandbox = make_sandbox(tier=tier, max_kernels=2, spares=2)

    async def many() -> list[CellResult]:
        return await asyncio.gather(*(sandbox.run(str(n), f"{n} * 2") for n in range(6)))

    assert [result.value for result in host.do(many())] == [str(n * 2) for n in range(6)]
    assert len(made) >= 6
    assert max(alive) == 2
    assert sandbox._alive <= 2


def test_a_session_begins_in_the_warm_spare(host: Host, make_sandbox, tier: str) -> None:
    sandbox = make_sandbox(tier=tier, spares=1, preload=("sympy",))
    host.do(sandbox.ready())
    host.do(_spare_started(sandbox))
    spare = sandbox._spares[0].result()

    result = host.run(sandbox, "s", "import sys; 'sympy' in sys.modules")

    assert sandbox._sessions["s"].kernel is spare
    assert result.value == "True", "its slow import is done already"


def test_a_session_is_remembered_as_long_as_its_kernel_lives(
    host: Host, make_sandbox, tier: str
) -> None:
    sandbox = make_sandbox(tier=tier, max_kernels=1)
    assert not sandbox.remembers("s")
    host.run(sandbox, "s", "1")
    assert sandbox.remembers("s")
    host.run(sandbox, "other", "1")
    assert not sandbox.remembers("s")
    host.run(sandbox, "other", "import os; os._exit(1)")
    assert not sandbox.remembers("other")


def test_an_idle_session_ends_by_itself(host: Host, make_sandbox, tier: str) -> None:
    sandbox = make_sandbox(tier=tier, idle_seconds=0.2)
    host.run(sandbox, "s", "x = 1")

    _until(lambda: not _folders(sandbox))

    assert host.run(sandbox, "s", "1").fresh is True


def test_a_forgotten_session_leaves_nothing(host: Host, make_sandbox, tier: str) -> None:
    sandbox = make_sandbox(tier=tier)
    host.run(sandbox, "s", "x = 1; open('f', 'w').close()")

    host.do(sandbox.forget("s"))

    assert _folders(sandbox) == []
    again = host.run(sandbox, "s", "'x' in globals()")
    assert (again.value, again.fresh) == ("False", False), "a new session of the same name"


def test_forgetting_an_unknown_session_is_fine(host: Host, shared_sandbox: Sandbox) -> None:
    host.do(shared_sandbox.forget("nobody"))


def test_a_cancelled_caller_kills_its_kernel_and_frees_the_slot(
    host: Host, make_sandbox, tier: str
) -> None:
    sandbox = make_sandbox(tier=tier, max_kernels=1)
    host.run(sandbox, "s", "1")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sandbox.run("s", "while True: pass"), 0.3)

    host.do(give_up())

    assert host.run(sandbox, "other", "2").value == "2"
    assert host.run(sandbox, "s", "3").fresh is True


def test_a_kernel_killed_from_outside_between_cells_is_replaced(
    host: Host, make_sandbox, tier: str
) -> None:
    sandbox = make_sandbox(tier=tier)
    host.run(sandbox, "s", "x = 1")
    sandbox._sessions["s"].kernel._process.kill()  # what the system does when memory runs out
    _until(lambda: not sandbox._sessions["s"].kernel.alive)

    result = host.run(sandbox, "s", "2")

    assert (result.value, result.fresh) == ("2", True)


def test_closing_ends_what_runs_and_deletes_all_files(
    host: Host, make_sandbox, tier: str, work_dir: Path
) -> None:
    sandbox = make_sandbox(tier=tier, spares=1)

    async def close_while_running() -> None:
        cell = "open('here', 'w').close()\nwhile True: pass"
        running = asyncio.create_task(sandbox.run("s", cell))
        while not _left("here", sandbox):
            await asyncio.sleep(0.05)
        await sandbox.close()
        with pytest.raises(SandboxUnavailable):
            await running

    host.do(close_while_running())

    assert list(work_dir.iterdir()) == []
    with pytest.raises(SandboxUnavailable, match="has been closed"):
        host.run(sandbox, "s", "1")


def test_a_kernel_that_starts_while_the_sandbox_is_closed_is_given_up(
    host: Host, make_sandbox, tier: str, work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = make_sandbox(tier=tier)
    kernels: list[Kernel] = []

    class Late(Kernel):
        @classmethod
        async def start(cls, *arguments: Any, **options: Any) -> Kernel:
            kernels.append(await super().start(*arguments, **options))
            await sandbox.close()
            return kernels[0]

    monkeypatch.setattr(pool, "Kernel", Late)

    with pytest.raises(SandboxUnavailable, match="closed before the code ran"):
        host.run(sandbox, "s", "while True: pass")

    assert not kernels[0].alive
    host.do(sandbox._finish_chores())
    assert list(work_dir.iterdir()) == []


@pytest.mark.parametrize("cancels", [1, 2])
def test_a_kernel_given_up_while_it_starts_leaves_no_process(
    host: Host, tier: str, work_dir: Path, cancels: int
) -> None:
    """A process that stayed behind would keep the pipes open that end with the last writer."""
    area = Area(work_dir, owner=drops_to())

    async def give_up_after(seconds: float) -> bool:
        kernel = Kernel(area.folder(), Limits())
        starting = asyncio.create_task(kernel._start(TIERS[tier], ()))
        await asyncio.sleep(seconds)
        for _ in range(cancels):
            starting.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({starting})
        await kernel.close()
        return kernel._process is None or all(tap.ended.is_set() for tap in kernel._taps)

    for milliseconds in range(0, 60, 2):
        assert host.do(give_up_after(milliseconds / 1000)), f"after {milliseconds} ms"
    area.close()


HOST_TO_BE_KILLED = """
import asyncio, sys, threading
from pathlib import Path
from assistant_manager.sandbox import Sandbox

async def main():
    sandbox = Sandbox(tier=sys.argv[1], work_dir=Path(sys.argv[2]))
    await sandbox.run("idle", "open('idle', 'w').close()")
    await sandbox.run("busy", "open('busy', 'w').close()")
    print("started", flush=True)
    await sandbox.run("busy", "while True: pass")

thread = threading.Thread(target=asyncio.run, args=(main(),))
thread.start()
thread.join()
"""


@pytest.mark.chaos
def test_a_host_killed_with_9_leaves_no_process_and_the_next_one_clears_up(
    host: Host, make_sandbox, tier: str, work_dir: Path
) -> None:
    command = [sys.executable, "-c", HOST_TO_BE_KILLED, tier, str(work_dir)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "started\n"
        kernels = _descendants(victim.pid)
        assert len(kernels) >= 2
        victim.send_signal(signal.SIGKILL)

    _until(lambda: not any(_running(pid) for pid in kernels))
    assert len(list(work_dir.glob("*/*/busy"))) == 1, "the folder is still there"
    sandbox = make_sandbox(tier=tier)
    host.do(sandbox.ready())
    assert list(work_dir.glob("*/*/busy")) == []


def test_a_kernel_that_will_not_start_is_a_refusal_in_plain_words(host: Host, make_sandbox) -> None:
    sandbox = make_sandbox(
        tier=offered.tiers()[0], limits=Limits(memory_bytes=2**25), preload=("sympy",)
    )

    with pytest.raises(SandboxUnavailable, match="could not start a kernel"):
        host.run(sandbox, "s", "1")


def test_a_work_dir_that_cannot_be_made_is_a_refusal_in_plain_words(
    host: Host, make_sandbox, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    sandbox = make_sandbox(work_dir=tmp_path / "file" / "work")

    with pytest.raises(SandboxUnavailable, match="the sandbox's folder is unusable"):
        host.run(sandbox, "s", "1")


def _folders(sandbox: Sandbox) -> list[Path]:
    return list(sandbox._area.path.glob("*/")) if sandbox._area else []


def _left(name: str, sandbox: Sandbox) -> list[Path]:
    """The files of this name that cells have made, in whichever session."""
    return list(sandbox._area.path.glob(f"*/{name}")) if sandbox._area else []


async def _spare_started(sandbox: Sandbox) -> None:
    await asyncio.wait(sandbox._spares)


def _until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def _descendants(pid: int) -> set[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, waiting = set(), {pid}
    while waiting:
        waiting = {child for child, parent in parents.items() if parent in waiting}
        found |= waiting
    return found


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def test_files_lie_in_a_new_kernel_and_again_in_the_next(
    host: Host, make_sandbox, tier: str
) -> None:
    sandbox = make_sandbox(tier=tier)
    files = {"a b.csv": lambda: b"1;2", "ü.txt": lambda: b""}
    look = "import os; open('a b.csv').read(), sorted(os.listdir())"
    first = host.do(sandbox.run("files", look, files))
    assert first.value == "('1;2', ['a b.csv', 'ü.txt'])"
    host.do(sandbox.run("files", "open('a b.csv', 'a').write(';3')", files))
    assert "1;2;3" in host.do(sandbox.run("files", look, files)).value, "laid once only"
    host.do(sandbox.run("files", "os._exit(1)", files))
    again = host.do(sandbox.run("files", look, files))
    assert (again.value, again.fresh) == (first.value, True)


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "..", ""])
def test_a_file_never_lies_elsewhere(host: Host, make_sandbox, tier: str, name: str) -> None:
    sandbox = make_sandbox(tier=tier)
    with pytest.raises(ValueError, match="no name of a file"):
        host.do(sandbox.run("files", "1", {name: lambda: b""}))


def test_a_session_begins_anew_after_a_file_that_could_not_be_read(
    host: Host, make_sandbox, tier: str
) -> None:
    def unreadable() -> bytes:
        raise OSError("gone")

    sandbox = make_sandbox(tier=tier)
    with pytest.raises(OSError, match="gone"):
        host.do(sandbox.run("files", "1", {"a": unreadable}))
    result = host.do(sandbox.run("files", "import os; os.listdir()", {"a": lambda: b""}))
    assert (result.value, result.fresh) == ("['a']", False)


def test_who_goes_while_files_are_laid_leaves_nothing(
    host: Host, make_sandbox, tier: str, work_dir: Path
) -> None:
    sandbox = make_sandbox(tier=tier)
    reading, go_on = threading.Event(), threading.Event()

    def slow() -> bytes:
        reading.set()
        go_on.wait(60)
        return b"1"

    async def give_up() -> None:
        running = asyncio.create_task(sandbox.run("s", "1", {"a": slow, "b": lambda: b"2"}))
        await asyncio.to_thread(reading.wait, 60)
        running.cancel()
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        await asyncio.wait([running])
        assert running.cancelled()
        await sandbox.forget("s")
        await sandbox._finish_chores()

    host.do(give_up())
    assert not [path for path in work_dir.glob("*/*") if path.is_dir()]
    assert host.run(sandbox, "s", "2").value == "2"


def test_a_file_that_code_has_left_is_fetched_by_name(host: Host, make_sandbox, tier: str) -> None:
    sandbox = make_sandbox(tier=tier)
    source = "import os; open('out.txt', 'w').write('left'); os.symlink('/etc/passwd', 'link')"
    host.run(sandbox, "files", f"{source}; os.mkdir('folder')")

    def fetched(name: str, session: str = "files") -> bytes | None:
        return host.do(sandbox.fetch(session, name))

    assert fetched("out.txt") == b"left"
    for name in ("link", "folder", "none", "../out.txt", "/etc/passwd", "..", ""):
        assert fetched(name) is None, name
    assert fetched("out.txt", "another session") is None
