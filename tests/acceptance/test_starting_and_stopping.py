"""The quickstart as a piece of machinery: it starts, survives, stops, and leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from conversations.management import first_question
from tests.acceptance.site import Site, all_gone, eventually, manage

pytestmark = pytest.mark.timeout(300)  # each starts a whole site, or several

Start = Callable[..., Site]


def healthy(site: Site) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def test_a_check_asks_one_question_and_leaves_nothing_running(environment: dict[str, str]) -> None:
    before = set(psutil.pids())
    done = manage(environment, "quickstart", "--check", "--port", "8300")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "x = 1" in done.stdout
    data = environment["DATA_DIR"]
    left = [p for p in psutil.process_iter() if p.pid not in before and _belongs(p, data)]
    assert eventually(lambda: all_gone(left))


def _belongs(process: psutil.Process, data: str) -> bool:
    try:
        return process.environ().get("DATA_DIR") == data
    except psutil.Error:
        return False


def test_the_next_free_port_is_taken_when_the_first_is_busy(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        site = start("--port", str(port))
        assert port < site.port < port + 100
        assert healthy(site)


def test_it_listens_on_this_machine_only(site: Site) -> None:
    listening: set[str] = set()
    for process in site.family():
        with suppress(psutil.NoSuchProcess):  # a sandbox that ended meanwhile
            listening |= {
                connection.laddr.ip
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    assert listening == {"127.0.0.1"}


def test_ctrl_c_stops_everything_in_bounded_time(start: Start) -> None:
    site = start()
    assert manage(site.environment, "ask", "What is 6 * 7?").returncode == 0  # a warm sandbox
    family = site.family()

    site.process.send_signal(signal.SIGINT)

    assert eventually(lambda: site.process.poll() is not None)
    assert site.process.returncode == 0
    assert eventually(lambda: all_gone(family))


def test_sigterm_stops_everything_too(start: Start) -> None:
    site = start()
    family = site.family()

    assert site.stop(signal.SIGTERM) == 0
    assert eventually(lambda: all_gone(family))


def test_a_killed_worker_comes_back_and_answers(start: Start) -> None:
    site = start()
    worker = site.child("config.worker")

    worker.kill()

    assert eventually(lambda: all_gone([worker]))
    # Over HTTP, for the `ask` command gives up where no worker is known to be alive.
    who = site.said(r"(asst_\w+)")
    answer = first_question.ask(port=site.port, token=site.key, assistant_id=who)
    assert "x = 1" in answer
    site.stop()
    assert "The worker was killed by SIGKILL; starting it again in 0.5 s." in site.printed


def test_a_killed_web_server_comes_back_on_its_port(start: Start) -> None:
    site = start()
    web = site.child("granian")
    own_workers = web.children()

    web.kill()

    assert eventually(lambda: all_gone([web, *own_workers]))
    assert eventually(lambda: healthy(site))


def test_nothing_outlives_a_quickstart_that_was_killed_outright(start: Start) -> None:
    site = start()
    assert manage(site.environment, "ask", "What is 6 * 7?").returncode == 0
    family = site.family()
    assert len(family) >= 3

    site.process.kill()

    assert eventually(lambda: all_gone(family))


def test_once_all_is_ready_little_memory_goes_into_looking_after_it(site: Site) -> None:
    parent = psutil.Process(site.process.pid)

    assert eventually(lambda: parent.memory_info().rss < 40 * 2**20)
    assert "quickstart" in parent.cmdline()


def test_a_second_start_finds_everything_as_it_was(start: Start) -> None:
    first = start()
    asked = manage(first.environment, "ask", "What is 6 * 7?", "--json")
    first.stop()

    second = start()

    assert second.key == first.key
    assert second.printed.count("Open ") == 1
    thread = json.loads(asked.stdout)["thread"]
    again = manage(second.environment, "ask", "What is 7 * 7?", "--thread", thread)
    assert "49" in again.stdout


def test_two_at_once_in_one_folder_are_refused_in_plain_words(start: Start) -> None:
    site = start()

    other = manage(site.environment, "quickstart")

    assert other.returncode == 1
    assert f"A quickstart is already running in {site.environment['DATA_DIR']}" in other.stderr
    assert site.url in other.stderr
    assert "Traceback" not in other.stderr
    assert healthy(site)


def test_without_demo_data_nothing_is_added(start: Start) -> None:
    site = start("--no-demo", "--port", "8400")

    assert "createsuperuser" in site.printed
    assert "am-" not in site.printed
    asked = manage(site.environment, "ask", "What is 6 * 7?")
    assert asked.returncode == 1
    assert "There is no assistant yet" in asked.stderr


def test_all_state_is_private_and_under_one_folder(site: Site) -> None:
    data = Path(site.environment["DATA_DIR"])

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for secret in ("secret_key", "field_encryption_key", "quickstart_api_key"):
        assert stat.S_IMODE((data / secret).stat().st_mode) == 0o600
    opened: set[str] = set()
    for process in site.family():
        with suppress(psutil.NoSuchProcess):
            opened |= {file.path for file in process.open_files() if file.mode not in ("r", "rb")}
    # As root the sandbox gives up root, and its scratch space has to be reachable without it.
    scratch = f"{tempfile.gettempdir()}/assistant-manager-sandbox-"
    assert {
        path for path in opened if not path.startswith((str(data), os.devnull, scratch))
    } == set()


def test_a_database_that_cannot_be_reached_is_said_plainly(environment: dict[str, str]) -> None:
    nowhere = {**environment, "DATABASE_URL": "postgres://postgres@127.0.0.1:1/none"}

    done = manage(nowhere, "quickstart", "--port", "8500")

    assert done.returncode == 1
    assert "The database cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
