"""Our web server as it runs: threads for requests, the event loop for those who wait for news."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection

from assistant_manager.models import Project
from conversations.models import Run, RunEvent, RunStatus
from tests import factories
from tests.openai_api.http import Door, multipart, on_socket
from tests.processes import running

pytestmark = pytest.mark.django_db(transaction=True)

GRANIAN = ("granian", "--interface", "rsgi", "--no-ws", "--host", "127.0.0.1", "--workers", "1")
LIMIT = 60.0


@dataclass
class Web:
    port: int
    process: psutil.Process

    def follow(self, run: Run, token: str, **headers: str) -> Reader:
        where = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        path = f"/v1/threads/{run.thread.public_id}/runs/{run.public_id}/events"
        where.request("GET", path, headers={"api-key": token, **headers})
        return Reader(where, where.getresponse())

    @property
    def threads(self) -> int:
        return sum(child.num_threads() for child in self.process.children(recursive=True))


@dataclass
class Reader:
    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse

    def types(self, count: int) -> list[str]:
        """Of the next so many events."""
        found: list[str] = []
        while len(found) < count:
            line = self.response.readline()
            assert line, "The stream ended."
            if line.startswith(b"event: "):
                found.append(line.decode().removeprefix("event: ").strip())
        return found

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with socket.socket() as place:
        # Kept for as long as the server runs, which may share it, so that nobody else is given it.
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        yield from serving(port, tmp_path / "web.log")


def serving(port: int, log: Path) -> Iterator[Web]:
    command = (*GRANIAN, "--port", str(port), settings.RSGI_APPLICATION)
    with running(command, log) as process:
        web = Web(port, psutil.Process(process.pid))
        wait_until(lambda: answers(port))
        yield web


def answers(port: int) -> bool:
    try:
        return on_socket(f"http://127.0.0.1:{port}")("GET", "/healthz", None, {}).status == 200
    except OSError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def door(web: Web, token: str) -> Door:
    return Door(token, on_socket(f"http://127.0.0.1:{web.port}"))


@pytest.fixture
def run(project: Project) -> Run:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    RunEvent.objects.append(run, "thread.run.created", {"status": "queued"})
    return run


def test_many_readers_hold_no_threads_and_hear_of_what_others_do(
    web: Web, door: Door, token: str, run: Run
) -> None:
    reader = web.follow(run, token)
    assert reader.types(1) == ["thread.run.created"]
    one = web.threads
    others = [web.follow(run, token) for _ in range(5 * settings.WEB_THREADS)]
    for other in others:
        assert other.types(1) == ["thread.run.created"]
    assert web.threads < one + len(others) // 4
    assert door("GET", "/v1/assistants").status == 200
    for other in others:
        other.close()
    run.move(RunStatus.IN_PROGRESS)
    late = web.follow(run, token, **{"Last-Event-ID": "1"})
    assert late.types(1) == reader.types(1) == ["thread.run.in_progress"]
    run.move(RunStatus.COMPLETED)
    for left in (reader, late):
        assert left.types(1) == ["thread.run.completed"]
        assert b"event" not in left.response.read()
        left.close()


def test_when_the_last_reader_goes_the_watch_goes_too(web: Web, token: str, run: Run) -> None:
    quiet = web.threads
    reader = web.follow(run, token)
    reader.types(1)
    assert web.threads > quiet
    reader.close()
    # One thread stays, to be used again; it holds no connection.
    wait_until(lambda: web.threads <= quiet + 1)


def test_readers_do_not_keep_a_server_from_stopping(web: Web, token: str, run: Run) -> None:
    reader = web.follow(run, token)
    reader.types(1)
    web.process.terminate()
    reader.response.read()
    web.process.wait(timeout=LIMIT)
    reader.close()


@pytest.mark.parametrize("length", ["said", "in chunks"])
def test_long_bodies_arrive_whole(door: Door, web: Web, length: str) -> None:
    content = bytes(range(256)) * 4096
    parts = (("purpose", None, b"assistants"), ("file", "a.bin", content))
    body, headers = multipart(*parts)
    if length == "said":
        made = door("POST", "/v1/files", body, headers=headers).body
    else:
        where = http.client.HTTPConnection("127.0.0.1", web.port, timeout=LIMIT)
        sent = iter([body[:100_000], body[100_000:]])
        headers |= {"Authorization": f"Bearer {door.token}"}
        where.request("POST", "/v1/files", sent, headers, encode_chunked=True)
        made = json.loads(where.getresponse().read())
        where.close()
    assert made["bytes"] == len(content)
    assert door("GET", f"/v1/files/{made['id']}/content").content == content


def test_headers_come_as_they_were_sent(door: Door, run: Run) -> None:
    assert door("GET", "/v1/assistants").headers["x-request-id"].startswith("req_")
    spoofed = {"api_key": door.token}
    assert door("GET", "/v1/assistants", headers=spoofed, token="").status == 401
    assert door("GET", "/v1/assistants?colour=a%20b").error["param"] == "colour"
    page = door("GET", "/admin/login/?next=%C3%A9", token="")
    assert page.status == 200
    assert "csrftoken=" in page.headers["set-cookie"]
    style = door("GET", "/static/conversations/shell.css", token="")
    assert style.status == 200
    assert int(style.headers["content-length"]) == len(style.content)
    assert door("HEAD", "/static/conversations/shell.css", token="").content == b""


def lose_connections() -> None:
    """As when the database is started anew; there is no such thing with SQLite."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            # Waits for them to be gone: one that is only told to go may still answer.
            "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            [int(LIMIT * 1000)],
        )


def test_a_lost_connection_to_the_database_costs_one_refusal_a_thread_at_most(door: Door) -> None:
    assert door("GET", "/v1/assistants").status == 200
    lose_connections()
    seen: list[int] = []
    all_is_well = [200] * 2 * settings.WEB_THREADS
    while seen[-len(all_is_well) :] != all_is_well:
        seen.append(door("GET", "/v1/assistants").status)
        assert seen[-1] in (200, 503)
        assert seen.count(503) <= settings.WEB_THREADS
