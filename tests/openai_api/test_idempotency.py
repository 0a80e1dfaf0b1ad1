from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from assistant_manager.models import ApiKey, Assistant, File, IdempotencyKey, Project
from conversations.models import Message, Run, Thread
from tests import factories
from tests.openai_api.http import Answer, Door, multipart

PACE = "openai-poll-after-ms"
KEY = {"Idempotency-Key": "once-only"}


def test_the_same_request_again_makes_nothing_new(
    door: Door, project: Project, assistant: Assistant, thread: Thread
) -> None:
    asked = {"assistant_id": assistant.public_id}
    for number, (path, body, model, before) in enumerate(
        [
            ("/v1/assistants", {"model": "m"}, Assistant, 1),
            ("/v1/threads", {}, Thread, 1),
            (
                f"/v1/threads/{thread.public_id}/messages",
                {"role": "user", "content": "x"},
                Message,
                0,
            ),
            (f"/v1/threads/{thread.public_id}/runs", asked, Run, 0),
            ("/v1/threads/runs", asked, Run, 1),
        ]
    ):
        headers = {"Idempotency-Key": f"key-{number}"}
        first = door("POST", path, body, headers=headers)
        assert "idempotent-replayed" not in first.headers
        again = door("POST", path, body, headers=headers)
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers.get(PACE) == first.headers.get(PACE)
        assert model.objects.count() == before + 1, path  # type: ignore[attr-defined]


def test_an_upload_is_known_by_its_bytes(door: Door) -> None:
    def upload(boundary: bytes, content: bytes) -> Answer:
        body, _ = multipart(("purpose", None, b"batch"), ("file", "a", content))
        headers = KEY | {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
        return door("POST", "/v1/files", body.replace(b"--b", b"--" + boundary), headers=headers)

    first = upload(b"b1", b"x")
    assert upload(b"b2", b"x").body == first.body
    assert upload(b"b1", b"y").status == 400
    assert File.objects.count() == 1


def test_another_request_with_the_same_key_is_refused_and_not_retried(door: Door) -> None:
    door("POST", "/v1/assistants", {"model": "m"}, headers=KEY)
    for path, body in [("/v1/assistants", {"model": "n"}), ("/v1/threads", {"model": "m"})]:
        answer = door("POST", path, body, headers=KEY)
        assert answer.status == 400
    answer = door("POST", "/v1/threads", {}, headers=KEY)
    assert "was used before for a different request" in answer.error["message"]
    assert Assistant.objects.count() == 1
    assert not Thread.objects.exists()


def test_a_refused_request_may_try_its_key_again(door: Door, project: Project) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    path, body = f"/v1/threads/{run.thread.public_id}/messages", {"role": "user", "content": "x"}
    assert door("POST", path, body, headers=KEY).status == 400
    run.delete()
    assert door("POST", path, body, headers=KEY).status == 200


def test_projects_do_not_share_keys(door: Door, foreign_token: str) -> None:
    mine = door("POST", "/v1/threads", {}, headers=KEY).body
    theirs = door("POST", "/v1/threads", {}, headers=KEY, token=foreign_token).body
    assert mine["id"] != theirs["id"]


def test_a_key_is_forgotten_after_a_day(door: Door) -> None:
    first = door("POST", "/v1/threads", {}, headers=KEY).body
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert door("POST", "/v1/threads", {}, headers=KEY).body["id"] != first["id"]


def test_a_key_has_a_length(door: Door) -> None:
    assert door("POST", "/v1/threads", {}, headers={"Idempotency-Key": "k" * 256}).status == 400


@pytest.mark.parametrize("path", ["/v1/threads", "/openai/threads"])
def test_of_requests_at_the_same_time_one_makes_the_object(live_door: Door, path: str) -> None:
    ready = threading.Barrier(6)
    answers: list[Any] = []

    def send() -> None:
        ready.wait()
        answers.append(live_door("POST", path, {"metadata": {"a": "b"}}, headers=KEY))

    senders = [threading.Thread(target=send) for _ in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert [answer.status for answer in answers] == [200] * 6
    assert len({answer.body["id"] for answer in answers}) == 1
    assert Thread.objects.count() == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 5


def test_a_retry_after_success_outlives_what_it_named(door: Door, project: Project) -> None:
    """The first answer was lost on the way; by the retry the file it named has been deleted."""
    _, token = ApiKey.objects.issue(project=project, name="second")
    body, headers = multipart(("purpose", None, b"assistants"), ("file", "a", b"x"))
    file = door("POST", "/v1/files", body, headers=headers).body["id"]
    asked = {"model": "m", "tool_resources": {"code_interpreter": {"file_ids": [file]}}}
    first = door("POST", "/v1/assistants", asked, headers=KEY)
    assert first.status == 200
    door("DELETE", f"/v1/files/{file}")
    assert door("POST", "/v1/assistants", asked, headers=KEY, token=token).body == first.body
