"""CopilotKit's stand-in for model servers, a Node program: answers from `aimock.json`."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NODE = HERE / "node"
PROGRAM = NODE / "node_modules/.bin/llmock"
PATIENCE = 60
"""Seconds to start or stop; it needs one."""


@dataclass(frozen=True)
class Aimock:
    url: str

    def journal(self) -> list[dict[str, Any]]:
        """The requests for a completion so far, with the bodies they had."""
        with urllib.request.urlopen(f"{self.url}/__aimock/journal", timeout=PATIENCE) as reply:
            entries: list[dict[str, Any]] = json.load(reply)
        return [entry for entry in entries if entry["path"].endswith("/chat/completions")]

    def misbehave(self, **rates: float) -> None:
        """From now on: rateLimitRate, dropRate, disconnectRate, malformedRate, each from 0 to 1."""
        self._send("POST", json.dumps(rates).encode())

    def behave(self) -> None:
        self._send("DELETE", None)

    def _send(self, method: str, body: bytes | None) -> None:
        request = urllib.request.Request(
            f"{self.url}/__aimock/chaos",
            data=body,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=PATIENCE).close()


def installed() -> Path:
    """The program, at the locked version; fetched once, whichever process comes first."""
    with (NODE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not PROGRAM.exists():
            npm = ["npm", "ci", "--silent", "--no-audit", "--no-fund"]
            subprocess.run([*npm, "--prefix", str(NODE)], check=True)
    return PROGRAM


@contextmanager
def running_aimock(log: Path) -> Iterator[Aimock]:
    """Serves until the end of the block, on a port that the kernel chose."""
    fixtures = str(HERE / "aimock.json")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [installed(), "-p", "0", "-f", fixtures, "--validate-on-load", "--strict"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        yield Aimock(address(process.stdout))
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def address(output: Any) -> str:
    """Reads until it says where it listens; a process that dies instead ends the reading."""
    for line in output:
        if found := re.search(r"listening on (http://\S+)", line):
            return found[1]
    raise AssertionError("aimock did not start")
