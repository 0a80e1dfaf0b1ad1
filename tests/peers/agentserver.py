"""Microsoft's host for agents, which serves the Responses API: `python -m tests.peers.agentserver`.

What is asked decides what happens: with the word "slow" it takes ten minutes, with "fail" it raises,
with "weather" it calls a function first; else the question comes back as an echo.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PREFIX = "/openai/v1"
"""As on Azure."""
PATIENCE = 90
"""Seconds to start or stop; it needs one."""
SLOW_SECONDS = 600


class Peer:
    """The process, and the socket it listens on, which outlives it."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}{PREFIX}"
        self._start()

    def _start(self) -> None:
        number = self._socket.fileno()
        with (self._state / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.peers.agentserver", "--fd", str(number)],
                cwd=ROOT,
                pass_fds=[number],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # It would else keep its state at home, and tell Microsoft how it fares.
                env={
                    **os.environ,
                    "AGENTSERVER_STATE_ROOT": str(self._state),
                    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
                    "OTEL_SDK_DISABLED": "true",
                },
            )
        # The kernel holds the request until somebody listens.
        urllib.request.urlopen(self._root + "/readiness", timeout=PATIENCE).close()

    @property
    def _root(self) -> str:
        return self.url.removesuffix(PREFIX)

    def kill_and_start_again(self) -> None:
        """With the same state, at the same address."""
        self._process.kill()
        self._process.communicate()
        self._start()

    def status_of(self, id: str) -> str:
        """Of the response, as the peer tells it; "" where it has none."""
        try:
            with urllib.request.urlopen(f"{self.url}/responses/{id}", timeout=PATIENCE) as reply:
                return str(json.load(reply)["status"])
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                raise
            return ""

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._socket.close()


def make_host() -> Any:
    from azure.ai.agentserver.responses import (
        ResponseEventStream,
        ResponsesAgentServerHost,
        ResponsesServerOptions,
    )

    # So long may its disk take to store an answer that is to be deleted.
    options = ResponsesServerOptions(default_model="peer", shutdown_grace_period_seconds=30)
    host = ResponsesAgentServerHost(prefix=PREFIX, options=options, configure_observability=None)

    async def answer(request: Any, context: Any, cancelled: asyncio.Event) -> AsyncIterator[Any]:
        out = ResponseEventStream(response_id=context.response_id, request=request)
        yield out.emit_created()
        yield out.emit_in_progress()
        text = await context.get_input_text()
        returned = [
            item["output"]
            for item in await context.get_input_items()
            if item.get("type") == "function_call_output"
        ]
        if "slow" in text:
            await asyncio.wait([asyncio.ensure_future(cancelled.wait())], timeout=SLOW_SECONDS)
        if cancelled.is_set():
            return
        if "fail" in text:
            raise RuntimeError("It was asked to fail.")
        if "weather" in text and not returned:
            made = out.output_item_function_call("get_weather", "call_1", '{"place": "Bern"}')
        else:
            made = out.output_item_message(" ".join(["echo:", text, *returned]))
        for event in made:
            yield event
        yield out.emit_completed()

    @host.response_handler
    async def handler(request: Any, context: Any, cancelled: asyncio.Event) -> AsyncIterator[Any]:
        async for event in answer(request, context, cancelled):
            yield event

    return host


async def serve(fd: int) -> None:
    from hypercorn.asyncio import serve as listen
    from hypercorn.config import Config

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin, stop.set)  # its end: the starter died
    config = Config()
    config.bind = [f"fd://{fd}"]
    config.graceful_timeout = 1
    await listen(make_host(), config, shutdown_trigger=stop.wait)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.peers.agentserver")
    parser.add_argument("--fd", type=int, required=True, help="the socket to listen on")
    asyncio.run(serve(parser.parse_args().fd))
