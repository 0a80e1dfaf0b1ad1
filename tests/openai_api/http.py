"""Requests exactly as a test says them, and the answers as they came."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.test import Client

PATIENCE = 60
"""Seconds for an answer; nearly all take milliseconds."""


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> Any:
        """The vendor's envelope, checked for its shape: these four keys and no others."""
        assert list(self.body) == ["error"], self.body
        assert set(self.body["error"]) == {"message", "type", "param", "code"}, self.body
        return self.body["error"]


Send = Callable[[str, str, bytes | None, dict[str, str]], Answer]


def in_process(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
    """Through every middleware; no socket, so the test's own transaction is seen."""
    return through(Client(raise_request_exception=False))(method, path, body, headers)


def through(client: Client) -> Send:
    """The same with one client for many requests, which makes its middleware once."""

    def send(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        kind = headers.get("Content-Type", "")
        reply = client.generic(method, path, body or b"", content_type=kind, headers=headers)
        return Answer(reply.status_code, reply.headers, reply.getvalue())

    return send


def on_socket(url: str) -> Send:
    where = urlsplit(url)

    def send(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.headers, reply.read())
        finally:
            connection.close()

    return send


@dataclass
class Door:
    token: str
    send: Send

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = None,
    ) -> Answer:
        """`body` that is neither bytes nor None is sent as JSON. `token` "" sends no key."""
        sent = dict(headers or {})
        token = self.token if token is None else token
        if token and "api-key" not in sent:
            sent.setdefault("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.send(method, path, body, sent)


def multipart(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form; a part is its name, its filename or None, and its bytes."""
    lines = []
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        lines.append(f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode())
        lines.append(content + b"\r\n")
    return b"".join([*lines, b"--b--\r\n"]), {"Content-Type": "multipart/form-data; boundary=b"}
