"""A response as server-sent events, at the pace of its clock; a second listener may join late."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import faults
from tests.fakes.upstream.call import Call

if TYPE_CHECKING:
    from tests.fakes.upstream.responses import Response
    from tests.fakes.upstream.server import Upstream

BEGINNING = 2
"""Events that come at once."""
SCATTERED = 7
"""Bytes."""
PIECE = 8
"""Characters of the answer in one event."""
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


async def stream(
    upstream: Upstream, call: Call, response: Response, after: int
) -> web.StreamResponse:
    """Every event with a sequence number above `after`."""
    told = list(tell(response))
    wait = (response.until - response.created) / max(1, len(told) - BEGINNING)
    trouble, place = upstream.state.stream_trouble(response.script)
    opened = await open_stream(call)
    put = scattered if response.script.get("scattered") else whole
    if trouble == "empty":
        await opened.write_eof()
        return opened
    for number, event in enumerate(told):
        at = response.created + wait * max(0, number + 1 - BEGINNING)
        if at > time.time():
            await asyncio.sleep(at - time.time())
        if response.cancelled:
            event = {"type": "response.cancelled", "response": response.read("cancelled")}
        if number > after:
            await put(opened, {**event, "sequence_number": number})
        if response.cancelled:
            break
        if call.fault == "cut_middle" and number >= len(told) // 2:
            faults.hang_up(call)
        if trouble and number == max(place, after + 1):
            await TROUBLES[trouble](call, opened)
        if number == response.script.get("gate"):
            await response.gate.wait()
    await opened.write_eof()
    return opened


async def open_stream(call: Call) -> web.StreamResponse:
    await faults.taken(call)
    opened = web.StreamResponse(headers={**HEADERS, **call.headers})
    await opened.prepare(call.request)
    return opened


async def send(opened: web.StreamResponse, data: Any) -> None:
    await opened.write(f"data: {json.dumps(data)}\n\n".encode())


def written(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


async def whole(opened: web.StreamResponse, event: dict[str, Any]) -> None:
    await opened.write(written(event))


async def scattered(opened: web.StreamResponse, event: dict[str, Any]) -> None:
    """In pieces that end anywhere, inside lines and characters too, with line ends of the web."""
    data = written(event).replace(b"\n", b"\r\n")
    for at in range(0, len(data), SCATTERED):
        await opened.write(data[at : at + SCATTERED])
        await asyncio.sleep(0)


async def cut(call: Call, opened: web.StreamResponse) -> None:
    faults.hang_up(call)


async def stall(call: Call, opened: web.StreamResponse) -> None:
    """Says nothing more, and does not hang up."""
    await asyncio.sleep(3600)


async def end_early(call: Call, opened: web.StreamResponse) -> None:
    await opened.write_eof()
    faults.hang_up(call)


async def talk_nonsense(call: Call, opened: web.StreamResponse) -> None:
    await opened.write(b'event: response.completed\ndata: {"type": "response.comp\n\n')


async def report_error(call: Call, opened: web.StreamResponse) -> None:
    await opened.write(
        written({"type": "error", "code": "server_error", "message": "Oh.", "param": None})
    )
    faults.hang_up(call)


TROUBLES = {
    "cut": cut,
    "stall": stall,
    "eof": end_early,
    "garbage": talk_nonsense,
    "error": report_error,
}


def tell(response: Response) -> Iterator[dict[str, Any]]:
    last = str(response.script.get("status", "completed"))
    yield {"type": "response.created", "response": response.read("queued")}
    yield {"type": "response.in_progress", "response": response.read("in_progress")}
    for index, item in enumerate(response.read(last)["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        begun = {**item, "status": "in_progress"} if "status" in item else item
        empty: dict[str, Any] = {"content": []} if item["type"] == "message" else {}
        added = {"type": "response.output_item.added", "output_index": index}
        yield {**added, "item": {**begun, **empty}}
        yield from MIDDLE.get(item["type"], nothing)(item, place)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{last}", "response": response.read(last)}


def nothing(item: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from ()


def words(item: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {**place, "content_index": 0}
    part = item["content"][0]
    kind = part["type"]
    key = "text" if kind == "output_text" else "refusal"
    empty = {**part, key: "", **({"annotations": []} if key == "text" else {})}
    logprobs: dict[str, Any] = {"logprobs": []} if key == "text" else {}
    yield {"type": "response.content_part.added", **place, "part": empty}
    for piece in pieces(part[key]):
        yield {"type": f"response.{kind}.delta", **place, "delta": piece, **logprobs}
    yield {"type": f"response.{kind}.done", **place, key: part[key], **logprobs}
    yield {"type": "response.content_part.done", **place, "part": part}


def arguments(item: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind = "response.function_call_arguments"
    for piece in pieces(item["arguments"]):
        yield {"type": f"{kind}.delta", **place, "delta": piece}
    yield {"type": f"{kind}.done", **place, "name": item["name"], "arguments": item["arguments"]}


def pieces(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


MIDDLE = {"message": words, "function_call": arguments}
