"""What a test may ask of the fake itself, under /__fake/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream.call import reply
from tests.fakes.upstream.faults import Chaos
from tests.fakes.upstream.state import State

if TYPE_CHECKING:
    from tests.fakes.upstream.server import Upstream


async def handle(upstream: Upstream, request: web.BaseRequest) -> web.Response:
    name = request.path.removeprefix("/__fake/")
    if request.method == "GET":
        return reply(LOOKS[name](upstream))
    body = await request.json() if request.body_exists else {}
    CHANGES[name](upstream, body)
    return reply({})


def journal(upstream: Upstream) -> list[dict[str, Any]]:
    return [entry.read() for entry in upstream.state.journal]


def counts(upstream: Upstream) -> dict[str, Any]:
    """Creates that arrived (`asked`) and those that were carried out (`accepted`)."""
    state = upstream.state
    return {
        "asked": state.asked.total(),
        "accepted": state.accepted.total(),
        "asked_by_run": dict(state.asked),
        "creates_by_run": dict(state.accepted),
        "creates_by_attempt": dict(state.attempts),
    }


def responses(upstream: Upstream) -> list[dict[str, Any]]:
    """Those that are kept, and whose they are."""
    return [
        {
            "id": response.id,
            "status": response.status,
            "attempt": response.body["metadata"].get("am_attempt"),
        }
        for response in upstream.state.responses.values()
    ]


def deliveries(upstream: Upstream) -> list[dict[str, Any]]:
    return upstream.webhooks.deliveries


def reset(upstream: Upstream, body: dict[str, Any]) -> None:
    upstream.state = State()
    upstream.webhooks.reset()


def chaos(upstream: Upstream, body: dict[str, Any]) -> None:
    seed = int(body.pop("seed", 1))
    path = str(body.pop("path", ""))
    upstream.state.chaos = Chaos(body, seed, path)


def revoke(upstream: Upstream, body: dict[str, Any]) -> None:
    upstream.state.revoked.add(body["key"])


def retire(upstream: Upstream, body: dict[str, Any]) -> None:
    upstream.state.retired = body.get("how", "410")


def open_gate(upstream: Upstream, body: dict[str, Any]) -> None:
    upstream.state.gate.set()


def headers(upstream: Upstream, body: dict[str, Any]) -> None:
    upstream.state.headers = body


def webhooks(upstream: Upstream, body: dict[str, Any]) -> None:
    upstream.webhooks.subscribe(**body)


def announce(upstream: Upstream, body: dict[str, Any]) -> None:
    """Sends the event about a response now, whether or not it was sent or lost before."""
    upstream.webhooks.announce(body["id"], "completed")


def forget(upstream: Upstream, body: dict[str, Any]) -> None:
    """Loses what has this id, as an upstream does after its time of keeping."""
    state = upstream.state
    for rows in (state.responses, state.files, state.vector_stores, state.threads, state.runs):
        rows.pop(body["id"], None)


LOOKS = {"journal": journal, "counts": counts, "responses": responses, "webhooks": deliveries}
CHANGES = {
    "reset": reset,
    "chaos": chaos,
    "revoke": revoke,
    "retire": retire,
    "gate": open_gate,
    "headers": headers,
    "webhooks": webhooks,
    "announce": announce,
    "forget": forget,
}
