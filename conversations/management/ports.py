"""A port of this machine, and nobody else's."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"
TRIES = 100


class NoFreePort(Exception):
    """Neither the wanted port nor the next ones are free."""


@contextmanager
def reserved_port(wanted: int) -> Iterator[int]:
    """`wanted` or the next free port, kept for us until the end of `with`. Raises NoFreePort.

    The web server binds with SO_REUSEPORT, so two of them would share a port in silence, each
    answering half of the requests. What is taken shows when we bind without that option; then a
    socket bound with it, which never listens, keeps others out and lets our own server in.
    """
    for port in range(wanted, min(wanted + TRIES, 65536)):
        with socket.socket() as look, socket.socket() as holder:
            if not _binds(look, port, socket.SO_REUSEADDR):
                continue
            look.close()
            if not _binds(holder, port, socket.SO_REUSEPORT):
                continue
            holder.set_inheritable(True)  # for the program we become (`keeper.py`)
            yield port
            return
    raise NoFreePort(f"No port from {wanted} on is free.")


def _binds(candidate: socket.socket, port: int, option: int) -> bool:
    candidate.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        candidate.bind((HOST, port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        return False
    return True
