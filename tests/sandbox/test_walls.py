"""What model-written code must not be able to do: tried for real, on every tier.

The numbers are the traps of the first trials; each was once a way out.
"""

from __future__ import annotations

import os
import platform
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant_manager.sandbox import Sandbox
from tests.sandbox.host import Host, Run

REFUSALS = ("PermissionError", "FileNotFoundError", "ProcessLookupError", "OSError")
X86 = platform.machine() == "x86_64"


def assert_refused(run: Run, code: str, *errors: str) -> None:
    """The code ran into the operating system, not into a mistake of its own."""
    result = run(code)
    last = result.stderr.strip().rpartition("\n")[2]
    assert result.outcome == "error", f"it could: {result.text}"
    assert last.startswith(errors or REFUSALS), last


def system_call(name: str, *arguments: object) -> str:
    """Code that makes a raw call and raises OSError as Python's own functions do."""
    x86, arm64 = _NUMBERS[name]
    return f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in {list(arguments)!r}]
if libc.syscall(ctypes.c_long({x86 if X86 else arm64}), *arguments) < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""


_NUMBERS = {
    "fork": (57, 1079),
    "vfork": (58, 1071),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "ptrace": (101, 117),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "clone3": (435, 435),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "socketpair": (53, 199),
    "personality": (135, 92),
    "seccomp": (317, 277),
    "process_vm_readv": (310, 270),
    "pidfd_open": (434, 434),
    "open_by_handle_at": (304, 265),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "fchmodat2": (452, 452),
    "mlock": (149, 228),
    "openat2": (437, 437),
}


@pytest.fixture
def run(host: Host, shared_sandbox: Sandbox) -> Run:
    """One session for all: whatever they try, it must leave the next one behind the same walls."""
    return lambda code: host.run(shared_sandbox, "walls", code)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that every user of this machine may read."""
    path = tmp_path / "secret"
    path.write_text("secret")
    return path


# 1: the host's environment, command line and files


@pytest.mark.parametrize("process", ["1", "self", "{parent}"])
@pytest.mark.parametrize("file", ["environ", "cmdline", "maps", "mem"])
def test_no_process_can_be_looked_into(run: Run, process: str, file: str) -> None:
    parent = os.getpid()

    assert_refused(run, f"open('/proc/{process.format(parent=parent)}/{file}', 'rb').read()")


def test_the_environment_holds_only_our_own_names(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    names = run("import os; ' '.join(sorted(os.environ))").value

    assert names == (
        "'HOME LANG MKL_NUM_THREADS MPLBACKEND MPLCONFIGDIR OMP_NUM_THREADS "
        "OPENBLAS_NUM_THREADS TMPDIR'"
    )


def test_the_process_was_never_given_the_hosts_environment(
    host: Host, make_sandbox, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os.environ can be tidied; what C code sees is what the process was started with."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    code = "import ctypes; c = ctypes.CDLL(None).getenv; c.restype = ctypes.c_char_p; c(b'{}')"
    sandbox = make_sandbox(tier=tier)

    assert host.run(sandbox, "s", code.format("OPENAI_API_KEY")).value is None
    assert host.run(sandbox, "s", code.format("MPLBACKEND")).value == "b'Agg'"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/etc/hostname", "/etc/shadow", "/proc/version", "/sys/kernel/notes"],
)
def test_files_of_the_host_cannot_be_read(run: Run, path: str) -> None:
    assert_refused(run, f"open({path!r}, 'rb').read()")


def test_a_file_beside_the_work_folder_cannot_be_read(run: Run, secret: Path) -> None:
    assert_refused(run, f"open({str(secret)!r}).read()")


def test_the_project_cannot_be_read(run: Run) -> None:
    project = Path(__file__).resolve().parents[2]

    assert_refused(run, f"open({str(project / 'config' / 'settings.py')!r}).read()")
    assert_refused(run, f"import os; os.listdir({str(project)!r})")
    assert_refused(run, "import assistant_manager", "ModuleNotFoundError")


def test_the_folder_of_another_session_cannot_be_read(
    run: Run, host: Host, shared_sandbox: Sandbox
) -> None:
    # A name of its own: sandboxes of the same machine, other tiers' included, share the area.
    name = f"{uuid.uuid4().hex}.txt"
    host.run(shared_sandbox, "neighbour", f"open({name!r}, 'w').write('private')")
    (mine,) = shared_sandbox._area.path.glob(f"*/{name}")  # type: ignore[union-attr]

    assert_refused(run, f"open({str(mine)!r}).read()")
    assert_refused(run, f"import os; os.listdir({str(mine.parent.parent)!r})")


# 2 and 5: nothing can be written but the work folder, and no memory lies outside the limit


@pytest.mark.parametrize(
    "folder", ["/", "/tmp", "/dev", "/dev/shm", "/run", "/var/tmp", "/usr/lib", "/kernel"]
)
def test_nothing_can_be_written_outside_the_work_folder(run: Run, folder: str) -> None:
    assert_refused(run, f"open('{folder}/probe', 'w')")


def test_python_and_its_packages_are_read_only(run: Run) -> None:
    for module in ("json", "sympy"):
        run(f"import {module}; path = {module}.__file__")
        assert_refused(run, "open(path, 'a')")
        assert_refused(run, "open(path, 'w')")
        assert_refused(run, "import os; os.unlink(path)")
        assert_refused(run, "import os; os.rename(path, 'mine.py')")
        assert_refused(run, "import os; os.truncate(path, 0)")
        assert_refused(run, "os.open(path, os.O_RDONLY | os.O_TRUNC)")


@pytest.mark.parametrize("call", ["memfd_create", "shmget", "mlock"])
def test_memory_outside_the_limit_cannot_be_had(run: Run, call: str) -> None:
    assert_refused(run, system_call(call, b"x" if call == "memfd_create" else 0, 1 << 20, 0o1600))


# 3: one process, for ever


@pytest.mark.parametrize(
    "code",
    [
        "os.fork()",
        "os.forkpty()",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "subprocess.run(['/bin/true'])",
        "multiprocessing.get_context('fork').Process(target=print).start()",
    ],
)
def test_no_process_can_be_started(run: Run, code: str) -> None:
    assert_refused(run, f"import ctypes, multiprocessing, os, subprocess\n{code}")


def test_clone3_is_unknown_so_that_libc_makes_threads_the_old_way(run: Run) -> None:
    result = run(system_call("clone3", b"\0" * 88, 88))

    assert "Function not implemented" in result.stderr
    threads = "import threading; t = threading.Thread(target=print); t.start(); t.join()"
    assert run(threads).outcome == "ok"


# 4: keys, namespaces and other doors of the kernel


@pytest.mark.parametrize("name", sorted(_NUMBERS.keys() - {"clone3"}))
def test_a_call_that_python_does_not_need_is_refused(run: Run, name: str) -> None:
    arguments = {"keyctl": (0, -2, 0), "unshare": (0x10000000,), "socketpair": (1, 1, 0, b"x" * 8)}

    result = run(system_call(name, *arguments.get(name, (0, 0, 0, 0))))

    assert result.stderr.strip().endswith(
        ("Operation not permitted", "Function not implemented")
    ), result.text


def test_a_filter_for_another_machine_cannot_be_slipped_past(run: Run) -> None:
    """On x86-64 the same kernel answers x32 calls, under other numbers."""
    if X86:
        result = run("import ctypes; ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 57))")
        assert (result.outcome, result.value) == ("error", None)
        assert "SIGSYS" in result.stderr
    else:
        assert_refused(run, "import os; os.fork()")


def test_a_thread_cannot_hide_a_new_namespace(run: Run) -> None:
    flags = 0x00010000 | 0x00000100 | 0x00000800 | 0x10000000  # a thread, and CLONE_NEWUSER
    number = 56 if X86 else 220

    assert_refused(
        run,
        f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(ctypes.c_long({number}), ctypes.c_long({flags}), None, None, None, None) < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
""",
        "PermissionError",
    )


# 6: what Landlock does not cover


@pytest.mark.parametrize(
    "code",
    [
        "os.chmod('f', 0o777)",
        "os.fchmod(os.open('f', os.O_RDONLY), 0o777)",
        "os.chown('f', -1, -1)",
        "os.utime('f')",
        "os.setxattr('f', 'user.x', b'')",
        "os.symlink('/etc/passwd', 'l')",
        "os.link('f', 'l')",
        "os.mkfifo('p')",
        "os.mknod('n')",
        "os.kill(os.getppid(), 0)",
        "os.kill(os.getpid(), 9)",
        "os.killpg(0, 0)",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.sched_setaffinity(0, {0})",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(0, fcntl.F_SETSIG, 9)",
        "fcntl.ioctl(0, 0x5412, b'x')",
    ],
)
def test_what_landlock_does_not_cover_is_refused_too(run: Run, code: str) -> None:
    run("import fcntl, os, resource; open('f', 'w').close()")

    assert_refused(run, code, "PermissionError", *(["OSError"] if "mknod" in code else []))


def test_a_kernel_cannot_wish_to_outlive_its_host(run: Run) -> None:
    code = "import ctypes; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)"

    assert run(code).value == "-1"


def test_limits_cannot_be_raised(run: Run) -> None:
    assert_refused(
        run,
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "ValueError",
        "PermissionError",
    )


# the network


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def test_no_network_is_reached(run: Run, listener: socket.socket) -> None:
    port = listener.getsockname()[1]

    assert_refused(run, f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)")
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET"])
def test_no_socket_can_be_made(run: Run, family: str) -> None:
    assert_refused(run, f"import socket; socket.socket(socket.{family})", "PermissionError")


# who it runs as


def test_nothing_runs_as_root(run: Run) -> None:
    assert run("import os; 0 in os.getresuid() + os.getresgid()").value == "False"


def test_root_hands_its_work_to_the_sandbox_user(run: Run) -> None:
    expected = 65123 if os.geteuid() == 0 else os.geteuid()
    seen = int(run("import os; os.getuid()").value)

    assert seen in {expected, 65123}, "bubblewrap shows its own number for an ordinary user"
    assert seen != 0
    assert run("import os; os.getgroups()").value in {"[]", "[65534]", repr(os.getgroups())}


def test_the_root_user_cannot_be_had_back(run: Run) -> None:
    assert_refused(run, "import os; os.setuid(0)", "PermissionError")
