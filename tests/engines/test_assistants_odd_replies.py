"""The assistants engine and an upstream that is not quite one: what a look makes of its replies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from assistant_manager.engines.assistants import AssistantsEngine
from assistant_manager.engines.assistants.state import State
from assistant_manager.engines.base import (
    ConnectionInfo,
    Json,
    MessageItem,
    Progress,
    Sighting,
    Usage,
)
from assistant_manager.engines.exceptions import Rejected
from tests.engines.conftest import Await
from tests.engines.turns import answer_of, make_turn

RUN: dict[str, Any] = {"id": "run_1", "status": "completed", "created_at": 1, "usage": None}
LINK = {"type": "file_path", "text": "a.csv", "start_index": 4, "end_index": 9}
TEXT = {"value": "See a.csv", "annotations": [{**LINK, "file_path": {"file_id": "file_1"}}]}
MESSAGE = {"id": "msg_1", "role": "assistant", "content": [{"type": "text", "text": TEXT}]}
STEP = {
    "id": "step_1",
    "type": "message_creation",
    "status": "completed",
    "step_details": {"message_creation": {"message_id": "msg_1"}},
}
REPLIES: dict[str, Any] = {
    "/runs/run_1": RUN,
    "/steps": {"data": [STEP], "has_more": False},
    "/messages": {"data": [MESSAGE], "has_more": False},
    "/files/file_1": {"id": "file_1", "filename": "a.csv"},
    "/files/file_1/content": "1,2",
}
Look = Callable[..., Progress]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    replies: dict[str, Any]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        longest = max((end for end in self.replies if path.endswith(end)), key=len)
        reply = self.replies[longest]
        body = json.dumps(reply).encode()
        self.send_response(reply.get("status", 400) if "error" in reply else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def look(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    wait_for: Await,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Look]:
    """A look at an attempt whose upstream replies by the end of a path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    turn = make_turn()
    sighting = Sighting(
        run_id=turn.run_id,
        attempt=1,
        attempt_key=turn.attempt_key,
        state=State(thread="thread_1", assistant="asst_1", run="run_1").stored(),
        connection=replace(assistants_connection, base_url=address),
        deadline=turn.deadline,
    )

    def look(replies: dict[str, Any], state: Json = sighting.state) -> Progress:
        monkeypatch.setattr(Handler, "replies", {**REPLIES, **replies}, raising=False)
        return wait_for(assistants.look(replace(sighting, state=state)))

    yield look
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_answer_is_one_as_it_stands(look: Look) -> None:
    progress = look({})
    (message,) = progress.items
    assert isinstance(message, MessageItem)
    assert (message.text, [file.name for file in message.files.values()]) == (
        "See a.csv",
        ["a.csv"],
    )


def test_a_list_that_never_ends_is_read_once(look: Look) -> None:
    steps = [STEP, {**STEP, "id": "step_2"}]
    endless = {"data": steps, "has_more": True}
    progress = look({"/steps": endless, "/messages": {"data": [MESSAGE], "has_more": True}})
    assert [getattr(item, "key", "") for item in progress.items] == ["step_1", "step_2"]


def test_a_file_that_the_upstream_does_not_give_away_costs_its_link_only(look: Look) -> None:
    refusal = {"error": {"message": "Not allowed to download files of purpose: assistants"}}
    progress = look({"/files/file_1/content": refusal})
    assert (progress.outcome, answer_of(progress)) == ("completed", "See a.csv")
    assert progress.items[0].annotations == []  # type: ignore[union-attr]


def test_an_answer_does_not_wait_for_its_files_for_ever(look: Look) -> None:
    trouble = {"/files/file_1/content": {"error": {"message": "Sorry."}, "status": 500}}
    progress = look(trouble)
    for _ in range(3):
        assert (progress.outcome, list(progress.items)) == ("working", [])
        progress = look(trouble, progress.state)
    assert (progress.outcome, answer_of(progress)) == ("completed", "See a.csv")


def test_a_file_that_cannot_be_fetched_just_now_is_fetched_later(look: Look) -> None:
    first = look({"/files/file_1/content": {"error": {"message": "Sorry."}, "status": 503}})
    (message,) = look({}, first.state).items
    assert message.files  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [None, "", "/", 7])
def test_a_file_without_a_name_is_called_something(look: Look, name: object) -> None:
    progress = look({"/files/file_1": {"id": "file_1", "filename": name}})
    (file,) = progress.items[0].files.values()  # type: ignore[union-attr]
    assert file.name in ("file_1", "7")


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None}, {"prompt_tokens": 10**30}])
def test_tokens_that_are_no_numbers_count_nothing(look: Look, usage: object) -> None:
    assert look({"/runs/run_1": {**RUN, "usage": usage}}).usage in (None, Usage())


@pytest.mark.parametrize("seconds", ["9" * 20, "9" * 400])
def test_no_wait_for_quota_is_longer_than_an_hour(look: Look, seconds: str) -> None:
    said = f"Rate limit is exceeded. Try again in {seconds} seconds."
    error = {"code": "rate_limit_exceeded", "message": said}
    progress = look({"/runs/run_1": {**RUN, "status": "failed", "last_error": error}})
    assert (progress.outcome, progress.look_again) == ("working", 3600)


@pytest.mark.parametrize(
    "replies",
    [
        {"/runs/run_1": {"id": "run_1"}},
        {"/runs/run_1": {**RUN, "status": []}},
        {"/steps": {"data": None}},
        {"/steps": {"data": [None], "has_more": False}},
        {"/steps": {}},
        {"/messages": {"data": [{**MESSAGE, "content": "See a.csv"}], "has_more": False}},
    ],
)
def test_what_cannot_be_read_fails_the_run_and_names_the_upstream(
    look: Look, replies: dict[str, Any]
) -> None:
    with pytest.raises(Rejected, match="“Assistants fake” sent an answer that cannot be read"):
        look(replies)
