"""Serves until SIGTERM. The first line says where."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from aiohttp import web

from tests.fakes.upstream.server import Upstream, make_request


async def serve(port: int, attached: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    if attached:
        loop.add_reader(sys.stdin, stop.set)
    upstream = Upstream()
    runner = web.ServerRunner(
        web.Server(
            upstream.handle,
            request_factory=make_request,
            handler_cancellation=True,
            access_log=None,
        ),
        shutdown_timeout=0.1,
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
    await site.start()
    upstream.port = runner.addresses[0][1]
    sys.stdout.write(f"listening on http://127.0.0.1:{upstream.port}\n")
    sys.stdout.flush()
    await stop.wait()
    await upstream.webhooks.close()
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.upstream")
    parser.add_argument("--port", type=int, default=0, help="0: the kernel chooses")
    parser.add_argument(
        "--attached", action="store_true", help="stop when standard input ends: the starter died"
    )
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.attached))
