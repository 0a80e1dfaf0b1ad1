"""The same question by the other roads: the terminal, the SDK, the printed line, a browser."""

from __future__ import annotations

import http.client
import json
import subprocess
import time

import pytest
from openai import OpenAI

from tests.acceptance.site import Site, manage

pytestmark = pytest.mark.timeout(300)  # a whole site is started

QUESTION = "I need to solve the equation `3x + 11 = 14`. Can you help me?"


def test_the_terminal_prints_the_answer_and_shows_the_code_beside_it(site: Site) -> None:
    asked = manage(site.environment, "ask", QUESTION)

    assert asked.returncode == 0, asked.stderr
    assert "x = 1" in asked.stdout
    assert "Eq(3*x + 11, 14)" in asked.stderr
    assert "Eq(" not in asked.stdout


def test_the_terminal_answers_in_json_too(site: Site) -> None:
    asked = manage(site.environment, "ask", QUESTION, "--json")
    answer = json.loads(asked.stdout)

    assert answer["status"] == "completed"
    assert "x = 1" in answer["answer"]
    assert answer["run"].startswith("run_")
    assert answer["steps"][0]["type"] == "code_interpreter"


def test_the_terminal_goes_on_in_a_thread(site: Site) -> None:
    first = json.loads(manage(site.environment, "ask", QUESTION, "--json").stdout)
    second = manage(
        site.environment, "ask", "What is 6 * 7?", "--thread", first["thread"], "--json"
    )

    assert json.loads(second.stdout)["thread"] == first["thread"]
    assert "42" in json.loads(second.stdout)["answer"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK says so of every call
def test_the_official_sdk_gets_the_answer(site: Site) -> None:
    with OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        assistant = client.beta.assistants.create(
            model="gpt-4-1106-preview", tools=[{"type": "code_interpreter"}]
        )
        run = client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": QUESTION}]},
        )
        assert run.status == "completed", run.last_error
        newest = client.beta.threads.messages.list(run.thread_id, limit=1).data[0]

    assert newest.content[0].type == "text"
    assert "x = 1" in newest.content[0].text.value


def test_the_printed_line_works_as_pasted(site: Site) -> None:
    line = site.said(r"Try +(curl .+)")

    pasted = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    run = json.loads(pasted.stdout)

    assert run["object"] == "thread.run"
    path = f"{site.url}/v1/threads/{run['thread_id']}/runs/{run['id']}"
    deadline = time.monotonic() + 120
    while run["status"] in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.1)
        again = ["curl", "-s", path, "-H", f"api-key: {site.key}"]
        run = json.loads(subprocess.run(again, capture_output=True, timeout=60).stdout)
    assert run["status"] == "completed", run


def test_the_sign_in_link_works_once(site: Site) -> None:
    path = site.said(r"Open +http://[^/]+(\S+)")

    first, second = visit(site, path), visit(site, path)

    assert "sessionid" in first.cookies
    assert "sessionid" not in second.cookies
    assert visit(site, "/admin/", first.cookies).status == 200
    assert visit(site, "/admin/", second.cookies).status == 302


class Visit:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        response.read()
        self.status = response.status
        self.cookies = "; ".join(
            value.split(";")[0]
            for name, value in response.getheaders()
            if name.lower() == "set-cookie"
        )


def visit(site: Site, path: str, cookies: str = "") -> Visit:
    """One GET, redirects not followed."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Cookie": cookies} if cookies else {})
        return Visit(connection.getresponse())
    finally:
        connection.close()
