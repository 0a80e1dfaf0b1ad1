"""HTTP without the vendor's SDK, which costs ten times as much for each request: for those that
every answer needs. Imported late, as the library is large.

What is trusted and which proxy is used is as with the SDK: `SSL_CERT_FILE`, else the machine's own
certificates, and `HTTPS_PROXY` with `NO_PROXY`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from httpcore2 import default_ssl_context
from yarl import URL

from assistant_manager.engines import troubles
from assistant_manager.engines.options import CONNECT_SECONDS
from assistant_manager.engines.troubles import Cut, Refused, Unreached, too_long

IDLE_SECONDS = 4.0
"""How long an open connection waits for its next request: servers hang up after five at the
earliest, and a start sent into a line that is being hung up is lost."""
HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": "assistant-manager",
}
UNREACHED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
FAILURES = (aiohttp.ClientError, TimeoutError, OSError)
Learn = Callable[[Mapping[str, str]], None]
"""Told the headers of each reply."""


def prepare(root: str) -> None:
    """Blocks, the first time: whom to trust is read from all certificates of the machine."""
    _security(root)


@cache
def trusted() -> ssl.SSLContext:
    return default_ssl_context()


class Web:
    """The way to one upstream. Bound to the event loop it is made on."""

    def __init__(self, name: str, root: str, query: Mapping[str, str], learn: Learn) -> None:
        """`name` is the connection's; `root` what all paths begin with; `query` goes with each."""
        self.name, self.root, self.query, self.learn = name, root.rstrip("/"), query, learn
        self.proxy = _proxy(root)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=IDLE_SECONDS, ssl=_security(root)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            # Else it would look through the environment again for each request.
            trust_env=False,
        )

    async def close(self) -> None:
        await self.session.close()


class Stream:
    """A reply that is read as it comes. To be closed, unless it was read to its end."""

    def __init__(self, reply: aiohttp.ClientResponse, name: str) -> None:
        self._reply, self._name = reply, name

    @property
    def has_events(self) -> bool:
        return self._reply.content_type == "text/event-stream"

    async def some(self) -> bytes:
        """What came since, as soon as there is anything; b"" at the end. Raises Cut."""
        try:
            return await self._reply.content.readany()
        except FAILURES as error:
            raise _in_our_words(error) from error

    async def whole(self) -> bytes:
        """Raises Cut, and Rejected as soon as it is too long."""
        chunks, size = [], 0
        while chunk := await self.some():
            size += len(chunk)
            if size > troubles.LONGEST_REPLY:
                raise too_long(self._name, troubles.LONGEST_REPLY)
            chunks.append(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        self._reply.close()


@dataclass(frozen=True, slots=True)
class Line:
    """A Web signed with one key. What goes wrong is raised as Refused, Unreached or Cut."""

    web: Web
    key: Mapping[str, str]
    """The headers that show it."""
    seconds: float
    """How long the upstream may be silent, where a request does not say."""

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """The whole reply."""
        silence = seconds or self.seconds
        stream = await self._sent(method, path, query, body, headers, silence)
        try:
            return await stream.whole()
        finally:
            stream.close()

    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Stream:
        """The reply as it comes, which may be silent for as long as it likes once it has begun."""
        try:
            async with asyncio.timeout(self.seconds):
                return await self._sent(method, path, query, body, headers, None)
        except TimeoutError as error:
            raise Cut from error

    async def _sent(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        silence: float | None,
    ) -> Stream:
        web = self.web
        try:
            reply = await web.session.request(
                method,
                _url(web.root + path, [*web.query.items(), *query]),
                data=None if body is None else json.dumps(body).encode(),
                headers={**self.key, **(headers or {})},
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=CONNECT_SECONDS, sock_read=silence
                ),
                # What people write goes to the address that staff have entered, and to no other.
                allow_redirects=False,
                proxy=web.proxy,
            )
        except FAILURES as error:
            raise _in_our_words(error) from error
        web.learn(reply.headers)
        stream = Stream(reply, web.name)
        if reply.status >= 300:
            try:
                raise Refused(reply.status, reply.headers, _error(await stream.whole()))
            finally:
                stream.close()
        return stream


def _in_our_words(error: Exception) -> Exception:
    return Unreached() if isinstance(error, UNREACHED) else Cut()


def _error(content: bytes) -> Mapping[str, Any]:
    """What an upstream says of its refusal; empty where nobody can read it."""
    try:
        body = json.loads(content.decode(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    said = body.get("error", body) if isinstance(body, dict) else None
    return said if isinstance(said, dict) else {}


def _url(address: str, query: Sequence[tuple[str, str]]) -> URL:
    return URL(f"{address}?{urlencode(query)}" if query else address, encoded=True)


def _security(root: str) -> ssl.SSLContext | bool:
    return trusted() if urlsplit(root).scheme == "https" else True


def _proxy(root: str) -> str | None:
    place = urlsplit(root)
    if proxy_bypass(place.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all") or ""
    return proxy if proxy.startswith("http") else None
