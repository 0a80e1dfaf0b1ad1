"""The requests about a response, without the SDK where every answer needs them. Replies are taken as
raw JSON: the SDK's own objects would lose what it does not know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from assistant_manager.engines.clients import Client
from assistant_manager.engines.troubles import Refused, Unreadable

if TYPE_CHECKING:
    from assistant_manager.engines.web import Line, Stream

Response = dict[str, Any]

PATH = "/responses"

COUNTED = {
    *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls"),
    *("reasoning", "text"),
}
"""The fields of a request that bear on the length of its prompt."""


async def create(client: Client, body: Response, *, key: str, seconds: float | None) -> Response:
    """Begin an answer. `key` names the attempt, for gateways that know an Idempotency-Key;
    `seconds` is how long to wait for the reply, None as long as the connection says."""

    async def send(line: Line) -> Response:
        named = {"Idempotency-Key": key}
        return response_in(await line.send("POST", PATH, body=body, headers=named, seconds=seconds))

    return await client.ask(send, creates=True)


async def open_create(line: Line, body: Response, *, key: str) -> Stream:
    """As `create`, listening to what becomes of it."""
    return await line.open("POST", PATH, body=body, headers={"Idempotency-Key": key})


async def open_stream(line: Line, id: str, include: Sequence[str], *, after: int) -> Stream:
    """All events of a response with a number above `after`."""
    query = [("stream", "true"), ("starting_after", str(after)), *_asking_for(include)]
    return await line.open("GET", _path(id), query=query)


async def count_tokens(client: Client, body: Response) -> int:
    """How long the upstream finds the prompt of this request."""
    asked: Any = {name: value for name, value in body.items() if name in COUNTED}
    counted = await client.call(lambda sdk: sdk.responses.input_tokens.count(**asked))
    return counted.input_tokens


async def retrieve(client: Client, id: str, include: Sequence[str] = ()) -> Response | None:
    """None where the upstream has no such response. `include` as in the create: a look that does
    not ask for them gets no results of hosted tools."""

    async def send(line: Line) -> Response | None:
        try:
            return response_in(await line.send("GET", _path(id), query=_asking_for(include)))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    return await client.ask(send)


async def cancel(client: Client, id: str) -> None:
    """Some upstreams refuse it for a response that has ended, or was cancelled before."""
    await client.ask(lambda line: line.send("POST", f"{_path(id)}/cancel"))


async def delete(client: Client, id: str) -> None:
    await client.ask(lambda line: line.send("DELETE", _path(id)))


def _path(id: str) -> str:
    return f"{PATH}/{quote(id, safe='')}"


def _asking_for(include: Sequence[str]) -> list[tuple[str, str]]:
    return [("include[]", name) for name in include]


def response_in(content: bytes) -> Response:
    """Raises Unreadable for anything that is not a response, such as a proxy's page."""
    # Left to guess, `json` takes rubbish for UTF-16 and fails in a way of its own.
    try:
        return checked(json.loads(content.decode(errors="replace")))
    except (ValueError, RecursionError) as error:
        raise Unreadable from error


def checked(value: object) -> Response:
    """`value`, which has what a response must have. Raises Unreadable."""
    if isinstance(value, dict) and all(
        value.get(name) and isinstance(value[name], str) for name in ("id", "status")
    ):
        return value
    raise Unreadable
