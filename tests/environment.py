"""Loaded before the settings: tests keep their state in a folder and a queue of their own, see no
key, and speak to nobody but this machine."""

import atexit
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

for name in list(os.environ):
    if name.startswith(("AZURE_OPENAI_", "OPENAI_")):
        del os.environ[name]

os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="assistant-manager-tests-")
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(os.environ["DATA_DIR"], "hypothesis"))
atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)

# Suites that run side by side share one Redis: none may take another's tasks.
os.environ["REDIS_PREFIX"] = Path(os.environ["DATA_DIR"]).name


def stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """A test that would call a real vendor fails instead, and says whom it would have called.
    Only datagram sockets may be pointed elsewhere: that sends nothing."""
    if event != "socket.connect":
        return
    sock, address = arguments
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type == socket.SOCK_DGRAM:
        return
    host = address[0]
    if host != "localhost" and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise RuntimeError(f"A test tried to connect to {host}: tests stay on this machine.")


sys.addaudithook(stay_here)
