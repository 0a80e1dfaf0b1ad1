"""Reading what a kernel writes, without ever waiting for it or storing more than agreed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

_CHUNK = 64 * 1024


class Tap:
    """The host's end of a pipe that a kernel writes to."""

    def __init__(
        self, on_data: Callable[[bytes], None], on_end: Callable[[], None] | None = None
    ) -> None:
        self._on_data, self._on_end = on_data, on_end
        self.ended = asyncio.Event()  # every process that could write has gone or hung up
        self._read, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        self._open = True
        asyncio.get_running_loop().add_reader(self._read, self._ready)

    def drain(self, most: int) -> None:
        """Take what is in the pipe now, up to about `most` bytes.

        What a kernel wrote before its reply is in the pipe by the time the reply is read.
        """
        taken = 0
        while self._open and taken < most and (size := self._ready()):
            taken += size

    def close(self) -> None:
        """Stop reading. The writing end is the business of whoever started the kernel."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._read)
            os.close(self._read)

    def _ready(self) -> int:
        try:
            data = os.read(self._read, _CHUNK)
        except BlockingIOError:
            return 0
        if data:
            self._on_data(data)
        else:
            self.close()
            self.ended.set()
            if self._on_end is not None:
                self._on_end()
        return len(data)


class Printed:
    """What a cell prints on one stream: all of it counted, the beginning kept."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.clear()

    def clear(self) -> None:
        self._kept, self.total = bytearray(), 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        self._kept += data[: self._keep - len(self._kept)]

    @property
    def text(self) -> str:
        text = clean(self._kept.decode("utf-8", "replace"))
        return text if self.total <= self._keep else text + cut_note(self._keep)


def clean(text: str) -> str:
    """Replace what cannot be stored or sent: NUL (PostgreSQL) and lone surrogates (UTF-8)."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def cut(text: str, keep: int) -> str:
    return text if len(text) <= keep else text[:keep] + cut_note(keep)


def cut_note(keep: int) -> str:
    return f"\n[cut here: only the first {keep // 1024} KiB are kept]\n"
