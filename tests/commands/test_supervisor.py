"""The supervisor and its child wrapper, with small Python modules for children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from conversations.management.only_one import AlreadyRunning, only_one
from conversations.management.ports import NoFreePort, reserved_port
from conversations.management.supervisor import Child, Supervisor
from tests.acceptance.site import ROOT, all_gone, eventually

SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
STUBBORN = "import os, signal\nprint('up', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)\n"
"""Stands still: nothing in it can obey, nor end it after its own grace."""
PARENT = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"


class Nursery:
    """Children of a supervisor, and what it said."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.supervisor = Supervisor(self.said.append)
        self.folder = folder
        monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{folder}")

    def start(self, name: str, source: str) -> Child:
        (self.folder / f"module_{name}.py").write_text(source)
        log = self.folder / "logs" / f"{name}.log"
        child = Child(name, [f"module_{name}"], folder=self.folder, log=log)
        self.supervisor.start(child)
        return child

    def up(self, child: Child) -> bool:
        return eventually(lambda: "up" in child.last_words())

    def tend_until(self, words: str) -> bool:
        def said() -> bool:
            self.supervisor.tend()
            return any(words in line for line in self.said)

        return eventually(said)


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    made = Nursery(tmp_path, monkeypatch)
    with made.supervisor:
        yield made


def process_of(child: Child) -> psutil.Process:
    assert child.pid is not None
    return psutil.Process(child.pid)


def test_a_stopped_supervisor_leaves_no_child(nursery: Nursery) -> None:
    child = nursery.start("sleeper", SLEEPER)
    assert nursery.up(child)
    process = process_of(child)

    nursery.supervisor.stop()

    assert all_gone([process])


def test_a_child_that_ignores_the_end_is_killed_with_its_own_children(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conversations.management.supervisor.GRACE_SECONDS", 0.0)
    child = nursery.start("stubborn", PARENT + STUBBORN)
    assert nursery.up(child)
    family = [process_of(child), *process_of(child).children()]
    assert len(family) == 2

    nursery.supervisor.stop()

    assert eventually(lambda: all_gone(family))


def test_a_dead_child_is_started_again_and_spoken_of(nursery: Nursery) -> None:
    child = nursery.start("sleeper", SLEEPER)
    first = process_of(child)
    first.kill()

    assert nursery.tend_until("was killed by SIGKILL; starting it again in 0.5 s.")
    assert child.pid is None
    assert eventually(lambda: bool(nursery.supervisor.tend()) or child.pid is not None)
    assert child.pid != first.pid


def test_a_child_that_keeps_dying_is_given_longer_and_longer_pauses(nursery: Nursery) -> None:
    nursery.start("broken", "raise SystemExit(3)\n")

    assert nursery.tend_until("again in 1 s")

    assert [line.split("; ")[1] for line in nursery.said] == [
        "starting it again in 0.5 s.",
        "starting it again in 1 s.",
    ]
    assert nursery.said[0].startswith("The broken stopped with exit code 3")


def test_what_a_dead_child_left_behind_goes_too(nursery: Nursery) -> None:
    child = nursery.start("parent", PARENT + SLEEPER)
    assert nursery.up(child)
    left = process_of(child).children()
    assert len(left) == 1

    process_of(child).kill()

    assert nursery.tend_until("was killed")
    assert eventually(lambda: all_gone(left))


def test_a_child_goes_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    source = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from conversations.management.supervisor import Child, Supervisor
child = Child("sleeper", ["sleeper"], folder=Path({str(tmp_path)!r}), log=Path("log"))
Supervisor(print).start(child)
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", source],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.send_signal(signal.SIGKILL)

        assert eventually(lambda: all_gone([child]))


def test_a_long_log_is_set_aside_at_the_start(nursery: Nursery) -> None:
    log = nursery.folder / "logs" / "sleeper.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * 5_000_001)

    child = nursery.start("sleeper", SLEEPER)

    assert nursery.up(child)
    assert log.stat().st_size < 100
    assert log.with_suffix(".log.1").stat().st_size == 5_000_001


def test_a_reserved_port_lets_its_own_server_in_and_nobody_else() -> None:
    with reserved_port(8600) as port, reserved_port(port) as other:
        assert other > port
        with socket.socket() as plain, pytest.raises(OSError, match="in use"):
            plain.bind(("127.0.0.1", port))
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                pass


def test_a_released_port_is_free_again() -> None:
    own = 20_000 + os.getpid() % 10_000  # a suite beside this one may take another at any moment
    with reserved_port(own) as port:
        pass
    with reserved_port(port) as again:
        assert again == port


def test_no_port_beyond_the_last_is_tried() -> None:
    with pytest.raises(NoFreePort), reserved_port(65536):
        pass


def test_a_folder_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with only_one(file) as note:
        note("http://127.0.0.1:8000")
        with pytest.raises(AlreadyRunning, match="http://127"), only_one(file):
            pass
    with only_one(file):
        pass


class Kept:
    """A program that started a child, a sleeper, and has become a keeper."""

    def __init__(self, folder: Path, *, first: str = "") -> None:
        """`first` is what the program does just before it becomes the keeper."""
        (folder / "module_sleeper.py").write_text(SLEEPER)
        source = KEPT.format(folder=str(folder), first=first)
        self.process = subprocess.Popen(
            [sys.executable, "-c", source, "prepares"],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.child = psutil.Process(int(self.process.stdout.readline()))

    def has_become_keeper(self) -> bool:
        words = psutil.Process(self.process.pid).cmdline()
        return "conversations.management.keeper" in words and words[-1] == "prepares"

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ended(self) -> tuple[int, str]:
        """The exit code, and what was said last."""
        assert self.process.stdout
        said = self.process.stdout.read().strip()
        return self.process.wait(), said

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


KEPT = """
import os, signal
from pathlib import Path
from conversations.management.keeper import become_keeper
from conversations.management.only_one import only_one
from conversations.management.stopping import Stopping
from conversations.management.supervisor import Child, Supervisor
folder = Path({folder!r})
child = Child("sleeper", ["module_sleeper"], folder=folder, log=folder / "sleeper.log")
with only_one(folder / "lock"), Stopping() as stopping, Supervisor(print) as supervisor:
    supervisor.start(child)
    print(child.pid, flush=True)
    {first}
    become_keeper(supervisor, stopping, folder=Path({str_root!r}))
    print("Stopped before.", flush=True)
""".replace("{str_root!r}", repr(str(ROOT)))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    with ExitStack() as stack:

        def start(**how: str) -> Kept:
            made = Kept(tmp_path, **how)
            stack.callback(made.close)
            return made

        yield start


def test_a_keeper_stays_the_parent_of_the_same_child_and_stops_it(
    kept: Callable[..., Kept],
) -> None:
    keeper = kept()
    assert eventually(keeper.has_become_keeper)
    assert keeper.child.ppid() == keeper.process.pid

    keeper.process.send_signal(signal.SIGINT)

    assert keeper.ended() == (0, "Stopping.")
    assert all_gone([keeper.child])


def test_a_keeper_starts_a_dead_child_again(kept: Callable[..., Kept]) -> None:
    keeper = kept()
    assert eventually(keeper.has_become_keeper)

    keeper.child.kill()

    assert keeper.line() == "The sleeper was killed by SIGKILL; starting it again in 0.5 s."
    parent = psutil.Process(keeper.process.pid)
    assert eventually(lambda: bool(parent.children()))
    [again] = parent.children()
    assert again.pid != keeper.child.pid
    keeper.process.terminate()
    assert keeper.ended() == (0, "Stopping.")
    assert all_gone([again])


def test_a_child_goes_when_its_keeper_is_killed(kept: Callable[..., Kept]) -> None:
    keeper = kept()
    assert eventually(keeper.has_become_keeper)

    keeper.process.kill()

    assert eventually(lambda: all_gone([keeper.child]))


def test_a_keeper_still_holds_the_lock(kept: Callable[..., Kept], tmp_path: Path) -> None:
    keeper = kept()
    assert eventually(keeper.has_become_keeper)

    with pytest.raises(AlreadyRunning), only_one(tmp_path / "lock"):
        pass

    keeper.process.terminate()
    keeper.ended()
    with only_one(tmp_path / "lock"):
        pass


def test_a_stop_that_comes_while_the_program_changes_is_obeyed(
    kept: Callable[..., Kept],
) -> None:
    keeper = kept(
        first="signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); "
        "os.kill(os.getpid(), signal.SIGTERM)"
    )

    assert keeper.ended() == (0, "Stopping.")
    assert all_gone([keeper.child])


def test_a_stop_that_came_before_makes_no_keeper(kept: Callable[..., Kept]) -> None:
    keeper = kept(first="os.kill(os.getpid(), signal.SIGHUP)")

    assert keeper.ended() == (0, "Stopped before.")
    assert all_gone([keeper.child])


def test_a_keeper_imports_nothing_but_the_standard_library() -> None:
    source = (
        "import sys\nimport conversations.management.keeper\n"
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r})\n{source}"],
        capture_output=True,
        text=True,
    )

    assert set(done.stdout.split()) == {"conversations", "__main__"}, done.stderr
