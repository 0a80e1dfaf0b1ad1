"""The vendor's quickstart, word for word, with real curl: only host, key and ids are replaced."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.site import Site

DOCUMENT = (Path(__file__).parent / "quickstart.md").read_text()
CALLS = dict(
    re.findall(r"^## ([^\n]+)\n\n```console\n(.+?)```$", DOCUMENT, re.MULTILINE | re.DOTALL)
)
pytestmark = pytest.mark.timeout(300)  # a whole site is started

HOST = "https://YOUR_RESOURCE_NAME.openai.azure.com/openai"


class Reader:
    """Somebody who pastes the document's calls into a shell."""

    def __init__(self, base_url: str, key: str) -> None:
        self.replaced = {HOST: base_url}
        self.key = key

    def paste(self, title: str) -> dict[str, Any]:
        command = CALLS[title]
        for printed, real in self.replaced.items():
            command = command.replace(printed, real)
        done = subprocess.run(
            ["sh"],
            input=command,
            env={**os.environ, "AZURE_OPENAI_API_KEY": self.key, "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert "error" not in answer, answer
        return answer

    def run_until_ended(self) -> dict[str, Any]:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            run = self.paste("Retrieve the status of the run")
            if run["status"] not in ("queued", "in_progress"):
                return run
            time.sleep(0.2)
        raise AssertionError(f"still {run['status']}")


def test_the_document_has_its_traps() -> None:
    assert len(CALLS) == 6  # and the status is asked for again and again
    assert '"assistant_id": "asst_abc123",\n  }' in CALLS["Run the thread"]
    assert CALLS["Assistant response"].endswith("\\\n")
    assert "api-version" not in CALLS["Create a thread"]


@pytest.mark.parametrize("door", ["/openai", "/v1", "/openai/v1"])
def test_the_calls_of_the_document_end_in_x_equals_1(site: Site, door: str) -> None:
    reader = Reader(site.url + door, site.key)

    assistant = reader.paste("Create an assistant")
    assert assistant["name"] == "Math Assist"
    assert assistant["tools"] == [{"type": "code_interpreter"}]
    reader.replaced["asst_abc123"] = assistant["id"]
    thread = reader.paste("Create a thread")
    reader.replaced["thread_abc123"] = thread["id"]
    question = reader.paste("Add a user question to the thread")
    assert question["role"] == "user"
    run = reader.paste("Run the thread")
    assert run["status"] == "queued"
    reader.replaced["run_abc123"] = run["id"]

    run = reader.run_until_ended()

    assert run["status"] == "completed", run
    messages = reader.paste("Assistant response")["data"]
    assert [message["role"] for message in messages] == ["assistant", "user"]
    assert "x = 1" in messages[0]["content"][0]["text"]["value"]
    assert python_that_ran(site, door, run) == [("Eq(3*x + 11, 14)", "[1]")]


def python_that_ran(site: Site, door: str, run: dict[str, Any]) -> list[tuple[str, str]]:
    """The equation in the source, and the output, of each code step."""
    url = f"{site.url}{door}/threads/{run['thread_id']}/runs/{run['id']}/steps"
    done = subprocess.run(
        ["curl", "-s", "--noproxy", "*", url, "-H", f"api-key: {site.key}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = []
    for step in json.loads(done.stdout)["data"]:
        for call in step["step_details"].get("tool_calls", []):
            source = call["code_interpreter"]["input"]
            equation = re.search(r"Eq\(.+\)", source)
            logs = call["code_interpreter"]["outputs"][0]["logs"]
            found.append((equation.group() if equation else source, logs.strip()))
    return found
