"""The way in: which noun a path means, under which prefix, with which key.

One table instead of a router with patterns: thousands of polls a second pass here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from tests.fakes.upstream import (
    assistants,
    chat,
    control,
    faults,
    files,
    responses,
    runs,
    threads,
)
from tests.fakes.upstream.call import CLOSED, Call, Entry, Refused, new_id
from tests.fakes.upstream.state import State
from tests.fakes.upstream.webhooks import Webhooks

Handler = Callable[["Upstream", Call], Awaitable[web.StreamResponse]]

ROUTES: dict[tuple[str, str], Handler] = {
    **responses.ROUTES,
    **chat.ROUTES,
    **files.ROUTES,
    **assistants.ROUTES,
    **threads.ROUTES,
    **runs.ROUTES,
}
PREFIXES = (("/openai/v1/", "azure"), ("/v1/", "openai"), ("/openai/", "azure"))
CREATES = (responses.create, chat.create, runs.create, runs.create_with_thread)
LARGEST_BODY = 600 * 2**20


class Upstream:
    def __init__(self) -> None:
        self.port = 0
        self.state = State()
        self.webhooks = Webhooks()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/__fake/"):
            return await control.handle(self, request)
        entry = Entry(time.time(), request.method, request.path, request.query, request.headers)
        headers = {"x-request-id": new_id("req_"), **self.state.headers}
        try:
            body = await self.take_in(request, entry)
            response = await self.answer(request, body, entry, headers)
        except Refused as refused:
            response = refused.reply()
        except (ConnectionError, asyncio.CancelledError):
            entry.status = CLOSED if entry.status is None else entry.status
            raise
        if not response.prepared:
            response.headers.update(headers)
        entry.status = response.status
        return response

    async def take_in(self, request: web.BaseRequest, entry: Entry) -> Any:
        """The body. The journal has the request only now: who looks finds it whole."""
        try:
            return await read_body(request, entry)
        finally:
            self.state.journal.append(entry)

    async def answer(
        self, request: web.BaseRequest, body: Any, entry: Entry, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        flavour, rest = place(request.path)
        handler, ids = route(request.method, rest)
        call = Call(request, entry, ids, flavour, headers, body)
        self.check_key(call)
        if rest.startswith(("assistants", "threads")):
            assistants.check_manners(self.state, call)
        if handler in CREATES:
            self.state.count_asked(call)
        call.fault = self.state.chaos.draw(request.path)
        response = faults.before(call) or await handler(self, call)
        return await faults.after(call, response)

    def check_key(self, call: Call) -> None:
        key = faults.key_of(call.request.headers)
        if key is None or key in self.state.revoked:
            raise faults.wrong_key(call)


def place(path: str) -> tuple[str, str]:
    """Whose manners to show, and the path behind the prefix."""
    for prefix, flavour in PREFIXES:
        if path.startswith(prefix):
            rest = path[len(prefix) :]
            if rest.startswith("deployments/"):
                rest = rest.split("/", 2)[-1]
            return flavour, rest.rstrip("/")
    if path.startswith("/api/projects/") and path.count("/") > 3:
        return "project", path.split("/", 4)[4].rstrip("/")
    raise unknown_path(path)


def route(method: str, rest: str) -> tuple[Handler, list[str]]:
    """Nouns stand at even places of a path and ids at odd ones, but for a few whole words."""
    if handler := ROUTES.get((method, rest)):
        return handler, []
    words = rest.split("/")
    ids = words[1::2]
    words[1::2] = ["*"] * len(ids)
    if handler := ROUTES.get((method, "/".join(words))):
        return handler, ids
    raise unknown_path(rest, method)


def unknown_path(path: str, method: str = "") -> Refused:
    return Refused(404, f"Invalid URL ({method} {path})")


async def read_body(request: web.BaseRequest, entry: Entry) -> Any:
    if request.content_type.startswith("multipart/"):
        form = dict(await request.post())
        entry.body = {name: getattr(value, "filename", value) for name, value in form.items()}
        return form
    if not request.body_exists:
        return None
    raw = await request.read()
    try:
        entry.body = json.loads(raw) if raw else None
    except ValueError:
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    return entry.body


def make_request(*parts: Any) -> web.BaseRequest:
    """As aiohttp would, but for files of any size the vendor takes."""
    message, payload, protocol, writer, task = parts
    return web.BaseRequest(
        message, payload, protocol, writer, task, protocol._loop, client_max_size=LARGEST_BODY
    )
