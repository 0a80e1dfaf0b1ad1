"""REST beside FastAPI with SQLModel: the same work on the same database, one web process each.

Keys are checked, sixteen connections stay open, and two hundred readers follow events at ours
meanwhile. The first line is the floor, which asks no database; were the load generator the limit,
it would show there.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import psutil
from django.conf import settings
from django.db import connection
from django.utils import timezone

from assistant_manager.models import ApiKey
from conversations.models import Run, RunStatus, Thread
from tests.benchmarks.rest_load import CONNECTIONS
from tests.factories import make_assistant, make_message, make_project, make_run
from tests.processes import running

READERS = 200
FOLLOWED = 20
TITLE = f"REST: one web process, {CONNECTIONS} connections, {READERS} readers of events attached"
COLUMNS = (
    *("request", "requests/s", "reference", "ratio", "p50", "p99", "reference p50", "p99"),
    *("CPU a request", "not 200"),
)
SECONDS = 4.0
FRESH = 9000
"""Threads for runs to be created on: each takes one."""


def measure(log: Path, scale: float = 1.0) -> Iterator[Sequence[str]]:
    seconds = max(SECONDS * scale, 0.5)
    project = make_project()
    _, token = ApiKey.objects.issue(project=project, name="bench")
    assistant = make_assistant(project=project)
    for _ in range(19):
        make_assistant(project=project)
    run = make_run(assistant=assistant, status=RunStatus.COMPLETED, expires_at=None, due_at=None)
    for _ in range(19):
        message = make_message(thread=run.thread, text="a word " * 140)
        other = {"thread": run.thread, "status": RunStatus.COMPLETED}
        make_run(assistant=assistant, expires_at=None, due_at=None, **other)
    followed = [
        make_run(assistant=assistant, status=RunStatus.IN_PROGRESS) for _ in range(FOLLOWED)
    ]
    Run.objects.filter(pk__in=[one.pk for one in followed]).update(
        expires_at=timezone.now() + timedelta(days=1)
    )
    threads = Thread.objects.bulk_create(Thread(project=project) for _ in range(2 * FRESH))
    fresh = [f"/v1/threads/{thread.public_id}/runs" for thread in threads]
    base = f"/v1/threads/{run.thread.public_id}"
    said = {"role": "user", "content": "I need to solve `3x + 11 = 14`."}
    cases: list[tuple[str, list[str], object]] = [
        ("GET run", [f"{base}/runs/{run.public_id}"], None),
        ("GET messages (20 of 1 kB)", [f"{base}/messages"], None),
        (
            "POST message",
            [f"/v1/threads/{thread.public_id}/messages" for thread in threads[:64]],
            said,
        ),
        ("POST run", fresh, {"assistant_id": assistant.public_id}),
        ("GET thread", [base], None),
        ("POST thread", ["/v1/threads"], {}),
        ("GET message", [f"{base}/messages/{message.public_id}"], None),
        ("GET runs (20)", [f"{base}/runs"], None),
        ("POST run's metadata", [f"{base}/runs/{run.public_id}"], {"metadata": {"a": "b"}}),
        ("GET assistant", [f"/v1/assistants/{assistant.public_id}"], None),
        ("GET assistants (20)", ["/v1/assistants"], None),
    ]
    with serving(OURS, log) as ours, serving(REFERENCE, log, REFERENCE_URL=_url()) as theirs:
        paths = [
            f"/v1/threads/{one.thread.public_id}/runs/{one.public_id}/events" for one in followed
        ]
        with readers(ours.port, paths, token):
            floor = ours.load([_request("/healthz", token, None)], seconds)
            yield _line("GET /healthz (the floor)", floor, None)
            for name, asked, body in cases:
                halves = (asked[: len(asked) // 2], asked[len(asked) // 2 :])
                mine, other_half = halves if name == "POST run" else (asked, asked)
                result = ours.load([_request(path, token, body) for path in mine], seconds)
                beside = theirs.load([_request(path, token, body) for path in other_half], seconds)
                yield _line(name, result, beside)


Result = dict[str, float]
OURS = ("granian", "--interface", "rsgi", "--no-ws", "--host", "127.0.0.1", "--workers", "1")
OURS += (settings.RSGI_APPLICATION, "--port")
REFERENCE = ("uvicorn", "tests.benchmarks.rest_reference:app", "--no-access-log", "--port")


def _line(name: str, ours: Result, theirs: Result | None) -> Sequence[str]:
    bad = f"{ours['bad']:.0f}" + (f", {theirs['bad']:.0f}" if theirs else "")
    beside = ("–",) * 4
    if theirs:
        beside = (
            f"{theirs['rate']:.0f}",
            f"{ours['rate'] / theirs['rate']:.1f} ×",
            _ms(theirs["p50"]),
            _ms(theirs["p99"]),
        )
    return (
        *(name, f"{ours['rate']:.0f}", beside[0], beside[1], _ms(ours["p50"]), _ms(ours["p99"])),
        *(beside[2], beside[3], f"{ours['cpu'] * 1e6:.0f} µs", bad),
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


class Server:
    def __init__(self, port: int, process: psutil.Process) -> None:
        self.port = port
        self._processes = [process, *process.children(recursive=True)]

    def load(self, requests: list[str], seconds: float) -> Result:
        """After a warm-up. `cpu` is what an answer took of the server's processors, in seconds."""
        warm = requests[: len(requests) // 4] if len(requests) > FRESH // 2 else requests
        _load(self.port, warm, seconds / 4)
        before = self._cpu()
        result = _load(self.port, requests[len(warm) :] or requests, seconds)
        answered = result["good"] + result["bad"]
        return result | {
            "rate": result["good"] / seconds,
            "cpu": (self._cpu() - before) / answered,
        }

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)


def _load(port: int, requests: list[str], seconds: float) -> Result:
    command = [sys.executable, "-m", "tests.benchmarks.rest_load", str(port), str(seconds)]
    told = subprocess.run(
        command, input=json.dumps(requests), capture_output=True, text=True, check=True
    )
    result: Result = json.loads(told.stdout)
    return result


@contextlib.contextmanager
def serving(module: Sequence[str], log: Path, **environment: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with running((*module, str(port)), log, **environment) as process:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise SystemExit("The web server does not start; its log says why.") from None
                time.sleep(0.05)
        yield Server(port, psutil.Process(process.pid))


@contextlib.contextmanager
def readers(port: int, paths: Sequence[str], token: str) -> Iterator[None]:
    """As many as READERS, who stay on the line and have each been told something."""
    with contextlib.ExitStack() as stack:
        for number in range(READERS):
            reader = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            reader.sendall(_request(paths[number % len(paths)], token, None).encode())
            if not reader.recv(4096).startswith(b"HTTP/1.1 200"):
                raise SystemExit("A reader of events was turned away.")
        yield


def _url() -> str:
    """Our database, as SQLAlchemy names it."""
    ours = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{ours['NAME']}"
    where = f"{ours['USER']}:{ours['PASSWORD']}@{ours['HOST']}:{ours['PORT']}"
    return f"postgresql+psycopg://{where}/{ours['NAME']}"


def _request(path: str, token: str, body: object) -> str:
    lines = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token}",
    ]
    if body is not None:
        content = json.dumps(body)
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, "", content])
    return "\r\n".join([*lines, "", ""])
