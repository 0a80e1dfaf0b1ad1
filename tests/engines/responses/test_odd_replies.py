"""Replies that no specification knows: the answer goes without the part, or the run fails by name."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from assistant_manager.engines import troubles
from assistant_manager.engines.base import Progress, Usage
from assistant_manager.engines.exceptions import EngineError, Rejected, Unknown
from assistant_manager.engines.responses import ResponsesEngine
from tests.engines.conftest import Await
from tests.engines.responses.conftest import Ask
from tests.engines.turns import answer_of

ANSWER: dict[str, Any] = {
    "id": "resp_1",
    "status": "completed",
    "created_at": 1,
    "model": "fake",
    "metadata": {"am_attempt": "attempt-1"},
    "tools": [{"type": "code_interpreter"}],
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "status": "completed",
            "code": "6 * 7",
            "outputs": [
                {"type": "logs", "logs": "42"},
                {"type": "image", "url": "data:image/png;base64,AAAA"},
            ],
        },
        {"type": "file_search_call", "id": "fs_1", "results": [{"file_id": "f", "text": "t"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "content": [
                {
                    "type": "output_text",
                    "text": "It is 42.",
                    "annotations": [{"type": "file_citation", "file_id": "f", "index": 3}],
                }
            ],
        },
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


class Handler(BaseHTTPRequestHandler):
    """Says `body` to whatever is asked."""

    protocol_version = "HTTP/1.1"
    body = b""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815 - the library's own name

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def start(
    address: str,
    responses: ResponsesEngine,
    ask: Ask,
    wait_for: Await,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Progress]:
    """A start whose reply is `reply`, bytes or what becomes JSON."""

    def start(reply: Any) -> Progress:
        body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        monkeypatch.setattr(Handler, "body", body)
        turn = ask()
        odd = replace(turn, connection=replace(turn.connection, base_url=address))
        return wait_for(responses.start(odd))

    return start


def changed(value: Any, *path: str | int) -> dict[str, Any]:
    """The answer with `value` at that place."""
    answer = copy.deepcopy(ANSWER)
    place: Any = answer
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return answer


MESSAGE, PART = ("output", 3), ("output", 3, "content", 0)


def test_the_answer_is_one_as_it_stands(start: Callable[..., Progress]) -> None:
    progress = start(ANSWER)
    assert progress.outcome == "requires_action"
    assert answer_of(progress) == "It 【1†f】is 42."


@pytest.mark.parametrize(
    "path",
    [
        *(("usage",), ("created_at",), ("metadata",), ("tools",)),
        *((*MESSAGE, "status"), (*PART, "annotations"), ("output", 1, "outputs")),
        *(("output", 1, "code"), ("output", 2, "results"), ("output", 1, "outputs", 1, "url")),
        *((*PART, "annotations", 0, "index"), (*PART, "annotations", 0, "file_id")),
    ],
)
def test_null_says_nothing(start: Callable[..., Progress], path: tuple[str | int, ...]) -> None:
    progress = start(changed(None, *path))
    assert progress.outcome == "requires_action"
    assert "42." in answer_of(progress)


@pytest.mark.parametrize("url", ["http://[bad", "https://a:b:c/", 7, "", "data:,x", "\ud83d"])
def test_a_picture_without_an_address_is_left_out(
    start: Callable[..., Progress], url: object
) -> None:
    progress = start(changed(url, "output", 1, "outputs", 1, "url"))
    assert progress.outcome == "requires_action"
    assert progress.items[0].calls[0].images == []  # type: ignore[union-attr]


@pytest.mark.parametrize("usage", ["many", 7, [], {"input_tokens": "1"}, {"output_tokens": 1e30}])
def test_tokens_that_are_no_numbers_count_nothing(
    start: Callable[..., Progress], usage: object
) -> None:
    assert start(changed(usage, "usage")).usage in (None, Usage())


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (7, ("output",)),
        ([None], ("output",)),
        ([{}], ("output",)),
        ("text", (*MESSAGE, "content")),
        (7, (*PART, "text")),
        ({}, ("output", 4, "call_id")),
        (None, ("output", 4, "arguments")),
        ([{}], ("output", 1, "outputs")),
    ],
)
def test_an_answer_that_cannot_be_read_fails_the_run_and_names_the_upstream(
    start: Callable[..., Progress], value: object, path: tuple[str | int, ...]
) -> None:
    with pytest.raises(Rejected, match="“Responses fake” sent an answer that cannot be read"):
        start(changed(value, *path))


@pytest.mark.parametrize(
    "reply",
    [
        {"error": {"message": "No."}},
        {**ANSWER, "status": None},
        {**ANSWER, "id": 7},
        [ANSWER],
        b"",
        b"\xff\xfe{",
        b"[" * 200_000,
        b'{"id": "resp_1", "status": "queued", "created_at": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_response_leaves_open_whether_there_is_one(
    start: Callable[..., Progress], reply: object
) -> None:
    with pytest.raises(Unknown, match="sent a reply that is not what was asked for"):
        start(reply)


@pytest.mark.parametrize(
    "value", [{"tools": 7}, {"tools": [{}]}, {"model": [1]}, {"created_at": "soon"}]
)
def test_a_webhooks_response_that_cannot_be_read_is_none_of_ours(
    responses: ResponsesEngine,
    ask: Ask,
    address: str,
    wait_for: Await,
    monkeypatch: pytest.MonkeyPatch,
    value: dict[str, Any],
) -> None:
    monkeypatch.setattr(Handler, "body", json.dumps({**ANSWER, **value}).encode())
    with pytest.raises(EngineError, match="cannot be read"):
        wait_for(responses.find(replace(ask().connection, base_url=address), "resp_1"))


def test_a_text_of_ten_megabytes_is_an_answer(start: Callable[..., Progress]) -> None:
    text = "🙏 long " * 1_500_000
    answer = answer_of(start(changed(text, *PART, "text")))
    assert answer.replace("【1†f】", "") == text


def test_thousands_of_items_are_an_answer(start: Callable[..., Progress]) -> None:
    message = ANSWER["output"][3]
    progress = start({**ANSWER, "output": [message] * 5000})
    assert len(progress.items) == 5000
    assert len({item.key for item in progress.items}) == 5000


def test_a_reply_beyond_all_bounds_is_not_read_to_its_end(
    start: Callable[..., Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(troubles, "LONGEST_REPLY", 2**20)
    with pytest.raises(Rejected, match="sent a reply of more than 1 MiB"):
        start(changed("x" * 2**20, *PART, "text"))
