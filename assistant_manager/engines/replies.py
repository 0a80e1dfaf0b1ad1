"""Replies that the SDK reads, no longer than memory can bear. Imported late, as the library is large."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from assistant_manager.engines import troubles
from assistant_manager.engines.troubles import too_long


class Bounded(httpx2.AsyncByteStream):
    """`stream`, which breaks off with Rejected once it has become too long."""

    def __init__(self, stream: httpx2.AsyncByteStream, name: str, most: int) -> None:
        self._stream, self._name, self._most = stream, name, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._stream:
            read += len(chunk)
            if read > self._most:
                raise too_long(self._name, self._most)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def bound(response: httpx2.Response, name: str) -> None:
    """Have the body of `response`, which nobody has read yet, break off when it is too long."""
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = Bounded(response.stream, name, troubles.LONGEST_REPLY)
