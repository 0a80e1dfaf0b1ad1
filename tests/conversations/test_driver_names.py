"""A driver's name, and who can tell from it that its process is gone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversations import driver_names
from conversations.driver_names import is_gone, new_name, readable
from conversations.models import DriverHeartbeat, Run

NAMED = "from conversations.driver_names import new_name; print(new_name(), flush=True); input()"
TELLS = "@" in new_name()
"""Whether this system says enough of its processes for anybody to be certain."""
NOBODY = 2**22 + 1
"""The number of no process: one more than Linux gives at most."""


class Neighbour:
    """Another process with a name."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.name = self.process.stdout.readline().strip()

    def die(self) -> None:
        """Killed, and forgotten by its parent."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    neighbour = Neighbour()
    with neighbour.process:
        yield neighbour
        neighbour.process.kill()


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel says, to be changed: we are its only process."""
    root = tmp_path / "proc"
    (root / "self/ns").mkdir(parents=True)
    (root / "self/ns/pid").symlink_to("pid:[4026531836]")
    (root / "self/ns/time").symlink_to("time:[4026531834]")
    (root / "self/status").write_text(f"Name:\tpython\nNSpid:\t{os.getpid()}\n")
    (root / "sys/kernel/random").mkdir(parents=True)
    (root / "sys/kernel/random/boot_id").write_text(f"{uuid.uuid4()}\n")
    (root / str(os.getpid())).mkdir()
    (root / str(os.getpid()) / "stat").write_text(stat())
    monkeypatch.setattr(driver_names, "_PROC", root)
    return root


def stat(*, state: str = "S", threads: int = 7, began: int = 189557) -> str:
    between = " ".join("0" for _ in range(16))
    return f"{os.getpid()} (a ) name) {state} {between} {threads} 0 {began} 3133440 360\n"


def another(name: str, *, pid: int | None = None, place: str | None = None) -> str:
    """`name` as another process, or one in another place, would have it."""
    if pid is not None:
        name = re.sub(r":\d+:", f":{pid}:", name)
    return name if place is None else f"{name.rpartition('.')[0]}.{place}"


# --- names ------------------------------------------------------------------------------


def test_a_name_begins_with_what_people_read_and_no_two_are_the_same(proc: Path) -> None:
    name = new_name()
    assert readable(name).startswith(f"{socket.gethostname()[:40]}:{os.getpid()}:")
    assert name.startswith(f"{readable(name)}@189557.")
    assert name != new_name()


def test_the_longest_name_fits_into_its_columns(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "a" * 64)
    monkeypatch.setattr(os, "getpid", lambda: 2**22)
    (proc / "self/status").write_text(f"NSpid:\t{2**22}\n")
    (proc / str(2**22)).mkdir()
    (proc / str(2**22) / "stat").write_text(stat(began=100 * 365 * 24 * 3600 * 30))
    name = new_name()
    assert "@" in name
    lengths = [
        Run._meta.get_field("leased_by").max_length,
        DriverHeartbeat._meta.get_field("name").max_length,
    ]
    assert all(length is not None and len(name) <= length for length in lengths)


@pytest.mark.parametrize("missing", ["self/status", "self/ns", "sys/kernel/random/boot_id"])
def test_a_system_that_says_too_little_leaves_the_name_without_a_proof(
    proc: Path, missing: str
) -> None:
    proven = new_name()
    path = proc / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert re.fullmatch(r".*:\d+:[0-9a-f]{8}", new_name())
    assert not is_gone(another(proven, pid=NOBODY))


def test_the_proc_of_another_namespace_proves_nothing(proc: Path) -> None:
    proven = new_name()
    (proc / "self/status").write_text(f"NSpid:\t{os.getpid()}\t7\n")
    assert "@" not in new_name()
    assert not is_gone(another(proven, pid=NOBODY))


def test_a_kernel_with_one_clock_for_all_is_enough(proc: Path) -> None:
    (proc / "self/ns/time").unlink()
    assert is_gone(another(new_name(), pid=NOBODY))


# --- who is gone ------------------------------------------------------------------------


def test_a_process_that_does_not_exist_is_gone(proc: Path) -> None:
    assert is_gone(another(new_name(), pid=NOBODY))


def test_whoever_is_asked_is_not_gone(proc: Path) -> None:
    assert not is_gone(new_name())


def test_a_process_whose_number_another_has_by_now_is_gone(proc: Path) -> None:
    name = new_name()
    (proc / str(os.getpid()) / "stat").write_text(stat(began=189558))
    assert is_gone(name)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_process_of_which_only_its_end_is_left_is_gone(proc: Path, state: str) -> None:
    name = new_name()
    (proc / str(os.getpid()) / "stat").write_text(stat(state=state, threads=1))
    assert is_gone(name)


def test_a_process_whose_other_threads_still_run_is_not_gone(proc: Path) -> None:
    name = new_name()
    (proc / str(os.getpid()) / "stat").write_text(stat(state="Z", threads=2))
    assert not is_gone(name)


@pytest.mark.parametrize("state", ["R", "S", "D", "T", "t"])
def test_a_process_that_works_waits_or_is_held_up_is_not_gone(proc: Path, state: str) -> None:
    name = new_name()
    (proc / str(os.getpid()) / "stat").write_text(stat(state=state))
    assert not is_gone(name)


@pytest.mark.parametrize("content", ["", "7 (python", "7 (python) S 0 0\n"])
def test_a_process_of_which_nothing_can_be_read_is_not_gone(proc: Path, content: str) -> None:
    name = new_name()
    (proc / str(os.getpid()) / "stat").write_text(content)
    assert not is_gone(name)


def test_a_process_that_is_hidden_is_not_gone(proc: Path) -> None:
    name = new_name()
    shutil.rmtree(proc / str(os.getpid()))
    assert not is_gone(name)


def test_a_process_of_another_user_is_not_gone(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    name = new_name()
    monkeypatch.setattr(os, "kill", refuse)
    assert not is_gone(name)


def test_after_a_restart_of_the_machine_nobody_knows(proc: Path) -> None:
    name = another(new_name(), pid=NOBODY)
    (proc / "sys/kernel/random/boot_id").write_text(f"{uuid.uuid4()}\n")
    assert not is_gone(name)


@pytest.mark.parametrize("kind", ["pid", "time"])
def test_of_another_container_nobody_knows(proc: Path, kind: str) -> None:
    name = another(new_name(), pid=NOBODY)
    (proc / "self/ns" / kind).unlink()
    (proc / "self/ns" / kind).symlink_to(f"{kind}:[4026532999]")
    assert not is_gone(name)


def test_of_another_host_nobody_knows(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = another(new_name(), pid=NOBODY)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert not is_gone(name)


@pytest.mark.parametrize(
    "name", ["", "dead", "here:1", "here:999999999:0123abcd", "here:0:0123abcd@1.0123456789abcdef"]
)
def test_of_a_name_that_proves_nothing_nobody_knows(proc: Path, name: str) -> None:
    assert not is_gone(name)


def test_a_number_that_no_process_can_have_is_nobodys(proc: Path) -> None:
    assert not is_gone(another(new_name(), pid=10**30))


# --- real processes ---------------------------------------------------------------------


def test_a_neighbour_is_gone_once_it_is_killed_and_not_before(neighbour: Neighbour) -> None:
    assert not is_gone(neighbour.name)
    neighbour.die()
    assert is_gone(neighbour.name) is TELLS


def test_a_killed_neighbour_whose_parent_does_not_care_is_gone(neighbour: Neighbour) -> None:
    neighbour.process.kill()
    os.waitid(os.P_PID, neighbour.process.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(neighbour.name) is TELLS


def test_a_neighbour_that_is_frozen_is_not_gone(neighbour: Neighbour) -> None:
    neighbour.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, neighbour.process.pid, os.WSTOPPED | os.WNOWAIT)
    assert not is_gone(neighbour.name)


def test_a_killed_process_of_another_place_is_left_alone(neighbour: Neighbour) -> None:
    neighbour.die()
    assert not is_gone(another(neighbour.name, place="0" * 16))
