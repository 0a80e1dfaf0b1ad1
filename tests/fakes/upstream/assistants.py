"""The Assistants API: the assistants, and its manners at the door."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import schema, script
from tests.fakes.upstream.call import Call, Refused, listed, new_id, reply

if TYPE_CHECKING:
    from tests.fakes.upstream.server import Upstream
    from tests.fakes.upstream.state import State

Row = dict[str, Any]

DEFAULTS: Row = {
    "name": None,
    "description": None,
    "instructions": None,
    "tools": [],
    "tool_resources": {},
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
    "response_format": "auto",
}


def check_manners(state: State, call: Call) -> None:
    """Retired is retired, and OpenAI's own door insists on the version header."""
    if state.retired == "410":
        message = "The Assistants API has been shut down. Please use the Responses API."
        raise Refused(410, message, code="assistants_api_deprecated")
    if state.retired == "404":
        raise Refused.at_the_gateway(404, "Resource not found")
    beta = call.request.headers.get("OpenAI-Beta", "")
    if call.flavour == "openai" and "assistants=v2" not in beta:
        raise Refused(
            400,
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try "
            "again by setting the header 'OpenAI-Beta: assistants=v2'.",
            code="invalid_beta",
        )


def none_found(noun: str, id: str) -> Refused:
    return Refused(404, f"No {noun} found with id '{id}'.")


def find(state: State, id: str) -> Row:
    if id not in state.assistants:
        raise none_found("assistant", id)
    return state.assistants[id]


async def create(upstream: Upstream, call: Call) -> web.StreamResponse:
    schema.check(call, "CreateAssistantRequest")
    told = script.read(call.body.get("instructions"))
    if fault := upstream.state.meet(call, told, "assistant_faults"):
        return fault
    body: Row = {"id": new_id("asst_"), "object": "assistant", "created_at": int(time.time())}
    upstream.state.assistants[body["id"]] = {**DEFAULTS, **body, **call.body}
    return reply(upstream.state.assistants[body["id"]])


async def show_all(upstream: Upstream, call: Call) -> web.Response:
    return listed(list(upstream.state.assistants.values()), call.request.query)


async def retrieve(upstream: Upstream, call: Call) -> web.Response:
    return reply(find(upstream.state, call.ids[0]))


async def update(upstream: Upstream, call: Call) -> web.Response:
    assistant = find(upstream.state, call.ids[0])
    schema.check(call, "ModifyAssistantRequest")
    assistant.update(call.body or {})
    return reply(assistant)


async def delete(upstream: Upstream, call: Call) -> web.Response:
    find(upstream.state, call.ids[0])
    del upstream.state.assistants[call.ids[0]]
    return reply({"id": call.ids[0], "object": "assistant.deleted", "deleted": True})


ROUTES = {
    ("POST", "assistants"): create,
    ("GET", "assistants"): show_all,
    ("GET", "assistants/*"): retrieve,
    ("POST", "assistants/*"): update,
    ("DELETE", "assistants/*"): delete,
}
