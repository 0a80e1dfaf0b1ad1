"""The fake as a process, and the test's hold on it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[3]
PATIENCE = 60
"""Seconds for the fake to answer or stop; it needs a tenth of one."""


@dataclass(frozen=True)
class Upstream:
    url: str
    """Without a prefix: `/v1`, `/openai/v1`, `/openai` and `/api/projects/NAME` all work."""

    def journal(self, method: str = "", path: str = "") -> list[dict[str, Any]]:
        """The requests so far; those of this method whose path ends in `path`, if given."""
        entries: list[dict[str, Any]] = self._get("journal")
        return [
            entry
            for entry in entries
            if entry["path"].endswith(path) and method in ("", entry["method"])
        ]

    def violations(self) -> list[str]:
        """Where requests broke the vendor's schema."""
        return [line for entry in self.journal() for line in entry["violations"]]

    def counts(self) -> dict[str, Any]:
        """Creates: `asked`, `accepted`, `creates_by_run`, …"""
        counts: dict[str, Any] = self._get("counts")
        return counts

    def responses(self) -> list[dict[str, Any]]:
        """The responses that are kept: `id`, `status` and the `attempt` that asked for each."""
        responses: list[dict[str, Any]] = self._get("responses")
        return responses

    def deliveries(self) -> list[dict[str, Any]]:
        """The webhook events sent so far, with the status each was answered with."""
        events: list[dict[str, Any]] = self._get("webhooks")
        return events

    def reset(self) -> None:
        self._post("reset")

    def set_chaos(
        self, rates: dict[str, float] | None = None, *, seed: int = 1, path: str = ""
    ) -> None:
        """Rates from 0 to 1 by fault, for example {"429": 0.1, "cut": 0.05}."""
        self._post("chaos", **(rates or {}), seed=seed, path=path)

    def revoke(self, key: str) -> None:
        self._post("revoke", key=key)

    def retire(self, how: str = "410") -> None:
        """No more Assistants API: `410` says so, `404` says nothing, `` brings it back."""
        self._post("retire", how=how)

    def open_gate(self) -> None:
        """Lets the responses end that their script holds at a gate."""
        self._post("gate")

    def forget(self, id: str) -> None:
        """Loses a response, file, vector store, thread or run."""
        self._post("forget", id=id)

    def set_headers(self, **headers: str) -> None:
        """Sent with every answer from now on; `_` in a name means `-`."""
        self._post("headers", **{name.replace("_", "-"): value for name, value in headers.items()})

    def send_webhooks(self, url: str, secret: str, *, repeat: int = 1, drop: int = 0) -> None:
        """Every event to `url`, `repeat` times, but for the first `drop` events."""
        self._post("webhooks", url=url, secret=secret, repeat=repeat, drop=drop)

    def announce(self, id: str) -> None:
        """The event about a response once more: that it has completed."""
        self._post("announce", id=id)

    def _get(self, name: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/__fake/{name}", timeout=PATIENCE) as reply:
            return json.load(reply)

    def _post(self, name: str, **body: Any) -> None:
        request = urllib.request.Request(
            f"{self.url}/__fake/{name}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=PATIENCE).close()


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.upstream", "--port", "0", "--attached"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Upstream(address(process.stdout))
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


def address(output: IO[str]) -> str:
    """Waits for the first line; a process that dies instead says why on stderr."""
    words = output.readline().split()
    assert words[:2] == ["listening", "on"], "the fake upstream did not start"
    return words[2]
