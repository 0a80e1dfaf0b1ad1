"""Load on one web server, from a process of its own, as lean as Python allows.

    python -m tests.benchmarks.rest_load PORT SECONDS < requests

Standard input holds a JSON list of whole requests, each asked in turn over sixteen connections.
Says how many were answered 200 and how many otherwise, and after how many seconds half of them and
99 of 100 were.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import cast

CONNECTIONS = 16


class Client(asyncio.Protocol):
    """One connection: the next request as soon as the last was answered."""

    def __init__(self, requests: Iterator[bytes], deadline: float) -> None:
        self._requests, self._deadline = requests, deadline
        self._received = b""
        self.done = asyncio.get_running_loop().create_future()
        self.times: list[float] = []
        self.bad = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(received) < end + 4 + length:
            return
        self.times.append(time.perf_counter() - self._began)
        if not head.startswith(b"http/1.1 200"):
            self.bad += 1
        self._received = b""
        self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _ask(self) -> None:
        self._began = time.perf_counter()
        if self._began > self._deadline:
            self._transport.close()
        else:
            self._transport.write(next(self._requests))


async def load(port: int, seconds: float, requests: list[bytes]) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    turn, deadline = itertools.cycle(requests), time.perf_counter() + seconds
    clients: list[Client] = []
    for _ in range(CONNECTIONS):
        _, client = await loop.create_connection(lambda: Client(turn, deadline), "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    times = sorted(itertools.chain.from_iterable(client.times for client in clients))
    bad = sum(client.bad for client in clients)
    return {
        "good": len(times) - bad,
        "bad": bad,
        "p50": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)],
    }


def main() -> None:
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    requests = [request.encode() for request in json.load(sys.stdin)]
    print(json.dumps(asyncio.run(load(int(sys.argv[1]), float(sys.argv[2]), requests))))


if __name__ == "__main__":
    main()
