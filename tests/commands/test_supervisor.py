"""The supervisor and its child wrapper, with small Python modules for children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
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
