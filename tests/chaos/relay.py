"""A line to a server that can be cut, and be away for a while, without the server noticing."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

PIECE = 64 * 1024
USUAL_PORTS = {"http": 80, "redis": 6379}
A_MOMENT = 0.05
CALL_WITHIN = 60
"""Seconds; a call takes a thousandth of one."""


class Relay:
    """Listens on a port of its own and passes everything on to where `url` points."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port_there = self._target.port or USUAL_PORTS[self._target.scheme]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._lines: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """As the one given, but by way of this relay."""
        login, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{login}{at}127.0.0.1:{self._port}"))

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._call(self._cut())

    def leave(self) -> None:
        """Reset every connection and refuse new ones until `come_back`."""
        self._call(self._leave())

    def come_back(self) -> None:
        self._call(self._listen())

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._leave())
        self._call(asyncio.sleep(A_MOMENT))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, doing: Any) -> None:
        asyncio.run_coroutine_threadsafe(doing, self._loop).result(CALL_WITHIN)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._pass_on, "127.0.0.1", self._port, backlog=4096
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def _leave(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            for listening in server.sockets:
                self._loop.remove_reader(listening.fileno())
            # Who has just been let in is counted by the server in a moment, which must be open.
            await asyncio.sleep(A_MOMENT)
            server.close()
        await self._cut()

    async def _cut(self) -> None:
        cut = set(self._lines)
        for line in cut:
            line.transport.abort()
        while cut & self._lines:
            await asyncio.sleep(0.001)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(writer)
        try:
            there = await asyncio.open_connection(self._target.hostname, self._port_there)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(reader, there[1]))
                    both.create_task(_copy(there[0], writer))
            finally:
                there[1].transport.abort()
        except* OSError:
            pass  # either end has gone
        finally:
            writer.transport.abort()
            self._lines.discard(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either end has gone, which ends the other direction as well."""
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()
    raise ConnectionResetError
