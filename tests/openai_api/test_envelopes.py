"""Whatever is sent, the answer is JSON in the vendor's envelope, with a request id."""

from __future__ import annotations

import logging
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError
from django.test import Client

from assistant_manager import services
from assistant_manager.models import Project
from conversations.models import Thread
from conversations.openai_api.views import messages
from tests import factories
from tests.openai_api.http import PATIENCE, Door

BROKEN = "We could not parse the JSON body of your request."


def test_every_answer_carries_its_ids_and_time(door: Door) -> None:
    for method, path in [
        ("GET", "/v1/assistants"),
        ("GET", "/v1/nowhere"),
        ("PUT", "/v1/assistants"),
        ("GET", "/openai/assistants"),
    ]:
        answer = door(method, path)
        assert answer.headers["x-request-id"].startswith("req_")
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert answer.headers["Content-Type"] == "application/json"
        assert ("apim-request-id" in answer.headers) == path.startswith("/openai")


@pytest.mark.parametrize("token", [None, ""])
def test_an_unknown_route_is_named_with_or_without_a_key(door: Door, token: str | None) -> None:
    answer = door("POST", "/v1/chat/completions", {}, token=token)
    assert answer.status == 404
    assert answer.error == {
        "message": "Invalid URL (POST /v1/chat/completions)",
        "type": "invalid_request_error",
        "param": None,
        "code": "unknown_url",
    }
    for path in ("/openai/deployments/d/chat/completions", "/openai", "/openai/v1/nowhere"):
        answer = door("GET", path, token=token)
        assert (answer.status, answer.body["error"]["code"]) == (404, "404")
    assert door("GET", "/v1", token=token).status == 404


def test_a_wrong_method_is_refused_by_name(door: Door, thread: Thread) -> None:
    answer = door("PATCH", f"/v1/threads/{thread.public_id}", {})
    assert answer.status == 405
    assert answer.error["message"].startswith(
        f"Not allowed to PATCH on /v1/threads/{thread.public_id}."
    )
    assert answer.headers["Allow"] == "GET, POST, DELETE, HEAD, OPTIONS"


def test_extra_slashes_are_dropped_without_a_redirect(live_door: Door) -> None:
    for path in ("/v1/threads/", "//v1/threads", "/v1//threads//", "//openai/threads"):
        assert live_door("POST", path, {}).status == 200
    assert Thread.objects.count() == 4


@pytest.mark.parametrize("named", ["gpt-4", "my%20model", "threads"])
def test_a_deployment_in_the_path_is_passed_over_as_old_azure_clients_name_it(
    live_door: Door, named: str
) -> None:
    made = live_door("POST", f"//openai/deployments/{named}/threads", {})
    assert made.status == 200
    thread = f"/openai/deployments/{named}/threads/{made.body['id']}"
    assert live_door("GET", thread).body == made.body
    assert live_door("GET", "/openai/deployments/threads").status == 404
    assert live_door("GET", f"/v1/deployments/{named}/threads/{made.body['id']}").status == 404


def test_other_paths_keep_their_slashes(client: Client) -> None:
    assert client.get("/admin/login/").status_code == 200
    assert client.get("//admin/login/").status_code == 404
    assert "x-request-id" not in client.get("/nowhere")
    assert "x-request-id" not in client.get("/v10")


def test_head_and_options_are_plain(live_door: Door) -> None:
    head = live_door("HEAD", "/v1/assistants")
    assert (head.status, head.content) == (200, b"")
    options = live_door("OPTIONS", "/v1/assistants")
    assert (options.status, options.content) == (204, b"")
    assert options.headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert live_door("OPTIONS", "/v1/assistants", token="").status == 401


def test_accept_and_content_type_do_not_matter(door: Door) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"):
        headers = {"Content-Type": kind, "Accept": "text/event-stream"}
        assert door("POST", "/v1/threads", b'{"metadata": {}}', headers=headers).status == 200


def test_bodies_of_reads_are_never_parsed(live_door: Door, thread: Thread) -> None:
    headers = {"Content-Type": "application/json"}
    for method in ("GET", "DELETE"):
        answer = live_door(method, f"/v1/threads/{thread.public_id}", b"{nonsense", headers=headers)
        assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"metadata": {}', "Line 1, column 16"),
        (b'{\n  "metadata": {}\n  "x": 1}', "Line 3, column 3"),
        (b"{'metadata': {}}", "Line 1, column 2"),
        (b'{"metadata": {},, }', "Line 1, column 17"),
        (b'{"metadata": {"a": "b",}, x}', "Line 1, column 27"),
        (b'{"a": 1} {"b": 2}', "Line 1, column 10"),
        (b'{"a": /* why */ 1}', "Line 1, column 7"),
        (b'{"a": NaN}', "NaN is not a JSON number."),
        (b'{"a": [1,], "b": Infinity}', "Line 1, column 18"),
        (b'{"a": 1e999}', "is too large"),
        (b'{"a": "\xff"}', "byte 7 cannot be read"),
        (b"nonsense", "Line 1, column 2"),
    ],
)
def test_broken_json_is_refused_with_its_place(door: Door, body: bytes, place: str) -> None:
    answer = door("POST", "/v1/threads", body)
    assert answer.status == 400
    assert answer.error["message"].startswith(BROKEN)
    assert place in answer.error["message"]
    assert (answer.error["code"], answer.error["param"]) == (None, None)


@pytest.mark.parametrize(
    "body", [b'{"metadata": {"a": "b",},}', b'\xef\xbb\xbf{"metadata": {"a": "b"}}']
)
def test_a_trailing_comma_and_a_byte_order_mark_pass(door: Door, body: bytes) -> None:
    assert door("POST", "/v1/threads", body).body["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "kind"), [(b"[]", "an array"), (b'"x"', "a string"), (b"null", "null")]
)
def test_a_body_is_an_object(door: Door, body: bytes, kind: str) -> None:
    answer = door("POST", "/v1/threads", body)
    assert answer.status == 400
    assert answer.error["message"] == (
        f"Invalid type for the request body: expected an object, but got {kind} instead."
    )


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": [1,], "b": ' + b"[" * 100_000,
        b'{"metadata": {"a": "' + b"[" * 200 + b'"}, "x": ' + b"[" * 101 + b"]" * 101 + b"}",
        b'"' + b'\\"' * 100_000 + b"[" * 101,
    ],
)
def test_deep_nesting_is_refused_and_nothing_falls_over(live_door: Door, body: bytes) -> None:
    answer = live_door("POST", "/v1/threads", body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert live_door("POST", "/v1/threads", {}).status == 200


def test_brackets_within_strings_are_not_nesting(door: Door) -> None:
    body = {"metadata": {"a": "[" * 500, "b": '\\"{' * 100}}
    assert door("POST", "/v1/threads", body).body["metadata"] == body["metadata"]


def test_a_body_that_is_too_large_is_refused(live_door: Door, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = settings.BODY_MAX_BYTES = 1000
    answer = live_door("POST", "/v1/threads", {"metadata": {"a": "x" * 1000}})
    assert answer.status == 413
    assert "at most 1000 bytes" in answer.error["message"]


def test_a_chunked_body_is_not_taken_for_an_empty_one(live_server: Any, token: str) -> None:
    where = urlsplit(live_server.url)
    request = (
        f"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    address = (where.hostname, where.port)
    with (
        socket.create_connection(address, timeout=PATIENCE) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(request.encode())
        status = answer.readline()
    assert status == b"HTTP/1.1 411 Length Required\r\n"
    assert not Thread.objects.exists()


def test_a_foreign_host_name_is_refused_in_json(live_door: Door) -> None:
    answer = live_door("GET", "/v1/assistants", headers={"Host": "evil.example"})
    assert answer.status == 400
    assert "ALLOWED_HOSTS" in answer.error["message"]


@pytest.mark.parametrize("debug", [False, True])
def test_a_failure_of_ours_shows_nothing_and_is_logged(
    door: Door, monkeypatch: Any, settings: Any, caplog: Any, debug: bool
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("the secret of the house")

    settings.DEBUG = debug
    monkeypatch.setattr(services, "create_assistant", fail)
    with caplog.at_level(logging.ERROR):
        answer = door("POST", "/v1/assistants", {"model": "m"})
    assert answer.status == 500
    assert answer.error["type"] == "server_error"
    assert answer.error["message"].startswith("The server had an error processing your request.")
    assert "secret" not in answer.content.decode()
    assert answer.headers["x-request-id"] in caplog.text
    assert "the secret of the house" in caplog.text


class Failing:
    """A middleware for people's pages, further in."""

    def __init__(self, get_response: Any) -> None:
        pass

    def __call__(self, request: Any) -> None:
        raise RuntimeError("the secret of the house")


def test_the_middleware_of_pages_is_no_matter_of_programs(settings: Any, token: str) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.Failing"]
    client = Client(raise_request_exception=False)
    assert client.get("/admin/login/").status_code == 500
    assert client.get("/v1/assistants", headers={"api-key": token}).status_code == 200
    assert client.get("/v1/nothing").json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("said", "status", "header"),
    [
        ("database is locked", 503, ("Retry-After", "1")),
        ("server closed the connection unexpectedly", 503, ("Retry-After", "1")),
        ("database or disk is full", 507, ("x-should-retry", "false")),
    ],
)
def test_a_database_that_refuses_is_not_the_callers_fault(
    door: Door, monkeypatch: Any, said: str, status: int, header: tuple[str, str]
) -> None:
    def fail(**_: Any) -> None:
        raise OperationalError(said)

    monkeypatch.setattr(services, "create_assistant", fail)
    answer = door("POST", "/v1/assistants", {"model": "m"})
    assert answer.status == status
    assert answer.error["type"] == "server_error"
    assert answer.headers[header[0]] == header[1]


def test_unknown_parameters_are_refused_on_every_route(door: Door, project: Project) -> None:
    thread = factories.make_thread(project=project)
    for method, path in [
        ("POST", "/v1/assistants"),
        ("GET", "/v1/models"),
        ("DELETE", f"/v1/threads/{thread.public_id}"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
    ]:
        answer = door(method, f"{path}?colour=red")
        assert answer.status == 400
        assert answer.error["code"] == "unknown_parameter"
        assert answer.error["param"] == "colour"
    assert Thread.objects.exists()


def test_what_was_deleted_meanwhile_is_not_found(
    door: Door, thread: Thread, monkeypatch: Any
) -> None:
    def deleted(thread: Thread, message: Any) -> None:
        Thread.objects.filter(pk=thread.pk).delete()
        Thread.objects.get(pk=thread.pk)

    monkeypatch.setattr(messages.services, "add_message", deleted)
    path = f"/v1/threads/{thread.public_id}/messages"
    answer = door("POST", path, {"role": "user", "content": "x"})
    assert answer.status == 404
    assert "deleted" in answer.error["message"]
