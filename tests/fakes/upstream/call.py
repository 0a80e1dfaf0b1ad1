"""One request on its way through the fake, and the ways to answer it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

JSON = {"Content-Type": "application/json"}
SECRETS = ("authorization", "api-key")
CLOSED = 499
CUT = 0


@dataclass(slots=True)
class Entry:
    """What the journal remembers of a request. Made readable only when somebody asks: polls are many."""

    at: float
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None
    status: int | None = None
    """None: still at work. CLOSED: the client left. CUT: the fake hung up."""
    violations: list[str] = field(default_factory=list)

    def read(self) -> dict[str, Any]:
        headers = {name.lower(): value for name, value in self.headers.items()}
        for name in SECRETS:
            if name in headers:
                headers[name] = f"…{headers[name][-4:]}"
        return {
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "query": dict(self.query),
            "headers": headers,
            "body": self.body,
            "status": self.status,
            "violations": self.violations,
        }


@dataclass(slots=True)
class Call:
    request: web.BaseRequest
    entry: Entry
    ids: list[str]
    """What stood in the places of the path that vary."""
    flavour: str
    """`openai`, `azure` or `project`: whose manners to show."""
    headers: Mapping[str, str]
    """To be sent with every answer."""
    body: Any = None
    fault: str | None = None
    script: dict[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """The vendor's error, on its way to the wire."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        type: str = "invalid_request_error",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.error = {"message": message, "type": type, "param": param, "code": code}

    @classmethod
    def at_the_gateway(
        cls, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> Refused:
        """As Azure refuses what does not reach the service: in two words."""
        refused = cls(status, message, headers=headers)
        refused.error = {"code": str(status), "message": message}
        return refused

    def reply(self) -> web.Response:
        return reply({"error": self.error}, self.status, self.headers)


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`value` as JSON; bytes are JSON already."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return web.Response(body=body, status=status, headers={**JSON, **(headers or {})})


def listed(rows: list[dict[str, Any]], query: Mapping[str, str], limit: int = 20) -> web.Response:
    """One page of `rows`, which come oldest first."""
    if query.get("order", "desc") == "desc":
        rows = rows[::-1]
    ids = [row["id"] for row in rows]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    stop = ids.index(query["before"]) if query.get("before") in ids else len(ids)
    end = min(stop, start + int(query.get("limit", limit)))
    page = rows[start:end]
    return reply(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": end < stop,
        }
    )


def not_found(file_id: str) -> Refused:
    return Refused(404, f"No such File object: {file_id}", param="id")


def new_id(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex[:24]}"


def tokens(value: Any) -> int:
    """A small honest number: about one token for four characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return max(1, len(text) // 4)
