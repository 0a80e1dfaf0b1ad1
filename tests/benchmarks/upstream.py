"""A Responses API for benchmarks: as far as the engine asks, and never the limit.

The id of a response says when it was made and when it is done, both in microseconds since 1970, so
that next to nothing is kept and a benchmark can tell from the id alone how long an answer lay
ready. What a run shall cost is asked for in the instructions, as JSON: `{"seconds": 20}` or
`{"seconds": [10, 30]}` for an even spread, and `{"deltas": 200}` for pieces of text on the stream.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

ANSWER = "The solution is **x = 1**: subtract 11 from both sides, then divide by 3. " * 4
RESPONSE: dict[str, Any] = {
    "id": "@id@",
    "object": "response",
    "created_at": "@made@",
    "status": "@status@",
    "background": True,
    "error": None,
    "incomplete_details": None,
    "instructions": "You answer questions about mathematics. " * 40,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "gpt-bench",
    "output": "@output@",
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "auto",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": "@usage@",
    "user": None,
    "metadata": {},
}
PART = {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
MESSAGE = {
    **{"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"},
    "content": [PART],
}
USAGE = {
    **{"input_tokens": 120, "input_tokens_details": {"cached_tokens": 0}},
    **{"output_tokens": 80, "output_tokens_details": {"reasoning_tokens": 0}},
    "total_tokens": 200,
}
WORK_PLACES = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def made_at(id: str) -> float:
    """When the upstream took that response, in seconds since 1970."""
    return int(id[5:19], 16) / 1e6


def done_at(id: str) -> float:
    return int(id[19:33], 16) / 1e6


def _template(status: str) -> str:
    done = status == "completed"
    text = json.dumps(RESPONSE).replace('"@made@"', "@made@").replace("@status@", status)
    text = text.replace('"@output@"', json.dumps([MESSAGE] if done else []))
    return text.replace('"@usage@"', json.dumps(USAGE if done else None))


TEMPLATES = {name: _template(name) for name in ("in_progress", "completed", "cancelled")}


def response(id: str, status: str = "") -> str:
    status = status or ("completed" if time.time() >= done_at(id) else "in_progress")
    return TEMPLATES[status].replace("@id@", id).replace("@made@", str(int(made_at(id))))


class Service:
    """What all connections share: counters, how many answers each attempt was given, and which
    responses somebody has asked about."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.creates: Counter[str] = Counter()
        self.asked_about: set[str] = set()

    def create(self, body: dict[str, Any]) -> tuple[str, int]:
        """The id of a new response, and how many pieces of text its stream has."""
        script = json.loads(body.get("instructions") or "{}")
        seconds = script.get("seconds", 1.0)
        if isinstance(seconds, list):
            seconds = random.uniform(*seconds)
        self.counts["creates"] += 1
        self.creates[(body.get("metadata") or {}).get("am_attempt", "")] += 1
        made = int(time.time() * 1e6)
        deltas = int(script.get("deltas", 1))
        tail = f"{self.counts['creates']:08x}{deltas:04x}"
        return f"resp_{made:014x}{made + int(seconds * 1e6):014x}{tail}", deltas

    def stats(self) -> dict[str, int]:
        twice = sum(1 for times in self.creates.values() if times > 1)
        return {
            **self.counts,
            **{"attempts": len(self.creates), "attempts_created_twice": twice},
            "asked_about": len(self.asked_about),
        }


class Connection(asyncio.Protocol):
    def __init__(self, service: Service) -> None:
        self.service = service
        self.buffer = b""
        self.timers: list[asyncio.TimerHandle] = []
        self.streams = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.service.counts["connections"] += 1
        self.service.counts["connections_open"] += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.service.counts["connections_open"] -= 1
        self._stream_ends()
        for timer in self.timers:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = 0
            if (at := head.lower().find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            method, target, _ = head.split(b" ", 2)
            path, _, query = target.decode().partition("?")
            self._answer(method.decode(), path, query, body)

    def _answer(self, method: str, path: str, query: str, body: bytes) -> None:
        if path.startswith("/bench/"):
            if path == "/bench/mark":
                self.service.asked_about.clear()
            self._reply(json.dumps(self.service.stats()))
            return
        counts = self.service.counts
        id = path.rpartition("/responses/")[2].partition("/")[0]
        match method:
            case "POST" if path.endswith("/cancel"):
                counts["cancels"] += 1
                self._reply(response(id, "cancelled"))
            case "POST":
                asked = json.loads(body)
                id, _ = self.service.create(asked)
                if asked.get("stream"):
                    self._stream(id, after=-1)
                else:
                    self._reply(response(id))
            case "GET" if "stream=true" in query:
                self.service.asked_about.add(id)
                after = next(
                    (int(part[15:]) for part in query.split("&") if part[:15] == "starting_after="),
                    -1,
                )
                self._stream(id, after)
            case "GET":
                self.service.asked_about.add(id)
                counts["looks"] += 1
                self._reply(response(id))
            case _:
                counts["deletes"] += 1
                self._reply(json.dumps({"id": id, "object": "response", "deleted": True}))

    def _reply(self, text: str) -> None:
        body = text.encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + body)

    # --- streams --------------------------------------------------------------------------

    def _stream(self, id: str, after: int) -> None:
        """All events after number `after`: what is past at once, the rest when its time comes."""
        self.service.counts["streams"] += 1
        self.service.counts["streams_open"] += 1
        self.streams = True
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        deltas = int(id[-4:], 16)
        number, now = 0, time.time()
        made, done = made_at(id), done_at(id)
        loop = asyncio.get_running_loop()
        batches: list[tuple[float, list[dict[str, Any]]]] = [
            (made, [{"type": f"response.{name}", "response": "@"} for name in BEGIN]),
            *(
                (made + (done - made) * (part + 1) / (deltas + 1), [delta])
                for part, delta in enumerate(_deltas(deltas))
            ),
            (done, [*END, {"type": "response.completed", "response": "@"}]),
        ]
        self.timers.clear()
        for when, events in batches:
            numbered = list(enumerate(events, start=number))
            number += len(events)
            wanted = [(place, event) for place, event in numbered if place > after]
            if when <= now:
                self._send(id, wanted)
            else:
                self.timers.append(loop.call_later(when - now, self._send, id, wanted))

    def _send(self, id: str, events: list[tuple[int, dict[str, Any]]]) -> None:
        lines = []
        for number, event in events:
            kind = event["type"]
            text = json.dumps({"type": kind, "sequence_number": number, **event})
            if "response" in event:
                status = "completed" if kind == "response.completed" else "in_progress"
                text = text.replace('"@"', response(id, status))
            lines.append(f"event: {kind}\ndata: {text}\n\n")
        data = "".join(lines).encode()
        ended = events and events[-1][1]["type"] == "response.completed"
        last = b"0\r\n\r\n" if ended else b""
        self.transport.write(b"%x\r\n%b\r\n%b" % (len(data), data, last) if data else last)
        if ended:
            self._stream_ends()

    def _stream_ends(self) -> None:
        self.service.counts["streams_open"] -= self.streams
        self.streams = False


BEGIN = ("created", "in_progress")
END: list[dict[str, Any]] = [
    {"type": "response.output_text.done", **WORK_PLACES, "text": ANSWER, "logprobs": []},
    {"type": "response.content_part.done", **WORK_PLACES, "part": PART},
    {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
]


def _deltas(count: int) -> Iterator[dict[str, Any]]:
    size = max(1, len(ANSWER) // max(1, count))
    for number in range(count):
        piece = ANSWER[number * size : (number + 1) * size]
        yield {"type": "response.output_text.delta", **WORK_PLACES, "delta": piece, "logprobs": []}


# --- the process ----------------------------------------------------------------------------


async def _serve(certificate: str) -> None:
    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    service = Service()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(service), "127.0.0.1", 0, backlog=4096, ssl=tls
    )
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", default="", help="a file with key and certificate")
    with suppress(ImportError):  # not on Windows
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_serve(parser.parse_args().certificate))


@dataclass(frozen=True)
class Upstream:
    port: int
    certificate: Path | None = None
    """Served over TLS with this one."""
    pid: int = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.certificate else ''}://127.0.0.1:{self.port}"

    def mark(self) -> None:
        """Count `asked_about`, the responses that somebody looked at or listens to, from here on."""
        self.stats("mark")

    def stats(self, name: str = "stats") -> Counter[str]:
        trust = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        with urlopen(f"{self.url}/bench/{name}", timeout=30, context=trust) as reply:
            return Counter(json.load(reply))


@contextmanager
def running_upstream(certificate: Path | None = None) -> Iterator[Upstream]:
    words = [sys.executable, "-m", "tests.benchmarks.upstream"]
    words += ["--certificate", str(certificate)] if certificate else []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Upstream(int(process.stdout.readline().split()[-1]), certificate, process.pid)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
