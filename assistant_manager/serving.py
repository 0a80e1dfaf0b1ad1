"""Our own web server's door: Django in a few threads, answers that go on for long on its event loop.

Django serves two to three times as much from threads as from coroutines, but a reader who waits
for news must not hold a thread. Here both share one process and one port: every request is
answered by Django in a thread, and where the answer is a `Following`, the loop goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core import signals
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

logger = logging.getLogger(__name__)

IN_MEMORY = 64 * 1024
"""Bytes. A body of up to this length is read before a thread is taken; a longer one by it."""
BLOCK = 64 * 1024
TRUSTED_FOR = 1.0
"""Seconds for which a database connection that has just worked is not tried out again."""


class Following(StreamingHttpResponse):
    """An answer that goes on while there is news. Servers other than ours send what there is
    `so_far` and close; their readers come back for more."""

    def __init__(
        self, so_far: Iterable[bytes], follow: Callable[[], AsyncGenerator[bytes]], **options: Any
    ) -> None:
        super().__init__(so_far, **options)
        self.follow = follow


class Application(BaseHandler):
    """What a server of the RSGI protocol is given, such as granian."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()
        self._threads: int = settings.WEB_THREADS
        self._waiting: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._following: set[asyncio.Task[None]] = set()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stop_streams_on_sigterm(loop)
        for number in range(self._threads):
            name = f"web-{number}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(self._threads):
            self._waiting.put(None)

    def _stop_streams_on_sigterm(self, loop: asyncio.AbstractEventLoop) -> None:
        """The server waits for answers under way, and a stream would keep it waiting."""
        servers = signal.getsignal(signal.SIGTERM)

        def stop(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._stop_streams)
            if callable(servers):
                servers(number, frame)

        signal.signal(signal.SIGTERM, stop)

    def _stop_streams(self) -> None:
        for task in self._following:
            task.cancel()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        loop = asyncio.get_running_loop()
        environ = _environ(scope)
        environ["wsgi.input"] = await _body(environ, protocol, loop)
        call = _Call(environ, protocol, loop, loop.create_future())
        self._waiting.put(call)
        following = await call.answered
        if following is not None:
            task = asyncio.ensure_future(_follow(following, protocol))
            self._following.add(task)
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._following.discard(task)

    def _serve(self) -> None:
        used = 0.0
        while call := self._waiting.get():
            following = None
            try:
                following = self._answer(call, trusting=time.monotonic() - used < TRUSTED_FOR)
            except Exception:
                logger.exception("%s could not be answered", call.environ["PATH_INFO"])
            used = time.monotonic()
            call.over(following)

    def _answer(self, call: _Call, *, trusting: bool) -> Following | None:
        """Answer, unless that goes on: then it is returned for the loop to follow."""
        set_script_prefix("")
        signals.request_started.send(sender=type(self), environ=call.environ)
        if trusting:
            for connection in connections.all(initialized_only=True):
                cast(Any, connection).health_check_done = True
        response = self.get_response(WSGIRequest(call.environ))
        if isinstance(response, Following):
            return response
        try:
            call.send(response)
        finally:
            response.close()
        return None


@dataclass(frozen=True)
class _Call:
    """A request on its way through a thread."""

    environ: dict[str, Any]
    protocol: Any
    loop: asyncio.AbstractEventLoop
    answered: asyncio.Future[Following | None]

    def send(self, response: HttpResponseBase) -> None:
        status, headers = response.status_code, _headers(response)
        if not response.streaming:
            # Straight from this thread: the loop need not be woken for it.
            self.protocol.response_bytes(status, headers, cast(Any, response).content)
            return
        transport = self.protocol.response_stream(status, headers)
        for block in _blocks(response):
            asyncio.run_coroutine_threadsafe(_send(transport, block), self.loop).result()

    def over(self, following: Following | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has stopped
            self.loop.call_soon_threadsafe(self._set, following)

    def _set(self, following: Following | None) -> None:
        if not self.answered.done():
            self.answered.set_result(following)


async def _send(transport: Any, block: bytes) -> None:
    await transport.send_bytes(block)


async def _follow(response: Following, protocol: Any) -> None:
    """Send until there is no more to come, or nobody there to read it."""
    transport = protocol.response_stream(response.status_code, _headers(response))

    async def send_all() -> None:
        async with contextlib.aclosing(response.follow()) as blocks:
            async for block in blocks:
                await transport.send_bytes(block)

    async def wait_for_the_end() -> None:
        await protocol.client_disconnect()

    tasks = {asyncio.ensure_future(send_all()), asyncio.ensure_future(wait_for_the_end())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _headers(response: HttpResponseBase) -> list[tuple[str, str]]:
    cookies = [cookie.OutputString() for cookie in response.cookies.values()]
    return [*response.items(), *(("Set-Cookie", cookie) for cookie in cookies)]


def _blocks(response: HttpResponseBase) -> Iterator[bytes]:
    file = getattr(response, "file_to_stream", None)
    if file is None:
        yield from cast(StreamingHttpResponse, response)
        return
    while block := file.read(BLOCK):
        yield block


def _environ(scope: Any) -> dict[str, Any]:
    """The request as WSGI says it. Names with an underscore are left out: a client could pass one
    off as a header that a proxy sets."""
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode(errors="surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        if "_" in name:
            continue
        variable = name.upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = f"HTTP_{variable}"
        if variable in environ:
            value = f"{environ[variable]}{'; ' if name == 'cookie' else ','}{value}"
        environ[variable] = value
    if scope.authority and "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority
    return environ


async def _body(
    environ: dict[str, Any], protocol: Any, loop: asyncio.AbstractEventLoop
) -> BinaryIO:
    length = environ.get("CONTENT_LENGTH")
    if length is None and "HTTP_TRANSFER_ENCODING" not in environ:
        return io.BytesIO()
    if length is not None and length.isdigit() and int(length) <= IN_MEMORY:
        return io.BytesIO(await protocol())
    return io.BufferedReader(_LongBody(protocol, loop), BLOCK)


class _LongBody(io.RawIOBase):
    """Read by a thread while the loop receives it."""

    def __init__(self, protocol: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = aiter(protocol)
        self._loop = loop
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(self._next())
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def _next(self) -> bytes:
        async def receive() -> bytes:
            # Not anext() with a default: on Python 3.11 that crashes with awaitables of Rust.
            try:
                return cast(bytes, await self._chunks.__anext__())
            except StopAsyncIteration:
                return b""

        try:
            return asyncio.run_coroutine_threadsafe(receive(), self._loop).result()
        except RuntimeError as error:
            raise OSError("The client went away before it had said everything.") from error
