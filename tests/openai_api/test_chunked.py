"""Bodies whose length is not said beforehand, as Node's SDK sends files from a disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from assistant_manager.models import File
from assistant_manager.openai_api import chunked
from conversations.models import Thread
from tests.openai_api.http import multipart

FORM = (("purpose", None, b"assistants"), ("file", "a.csv", b"1,2\n" * 1000))


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


def send(token: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
    """As a server hands it on that undoes the chunks: the body has an end and no length."""
    said = {"api-key": token, "Transfer-Encoding": "chunked", **(headers or {})}
    server = {
        "CONTENT_TYPE": said.pop("Content-Type", "application/json"),
        "wsgi.input_terminated": True,
        "wsgi.input": io.BytesIO(body),
    }
    return Client().generic("POST", path, headers=said, **server)


def test_a_chunked_body_is_read_to_its_end(token: str) -> None:
    answer = send(token, "/v1/threads", b'{"metadata": {"a": "b"}}')
    assert answer.json()["metadata"] == {"a": "b"}


def test_a_chunked_body_may_be_empty(token: str) -> None:
    assert send(token, "/v1/threads", b"").status_code == 200


@pytest.mark.parametrize("in_memory", [10, 1_000_000])
def test_a_chunked_upload_is_kept(token: str, monkeypatch: Any, in_memory: int) -> None:
    monkeypatch.setattr(chunked, "IN_MEMORY", in_memory)
    answer = send(token, "/v1/files", *multipart(*FORM))
    assert answer.json()["bytes"] == 4000
    with File.objects.get().content.open("rb") as kept:
        assert kept.read() == b"1,2\n" * 1000


def test_a_chunked_body_sent_again_is_one_creation(token: str) -> None:
    made = [
        send(token, "/v1/threads", b'{"metadata": {}}', {"Idempotency-Key": "k"}).json()["id"]
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert Thread.objects.count() == 1


def test_a_chunked_body_that_is_too_large_is_refused(token: str, settings: Any) -> None:
    settings.BODY_MAX_BYTES = 1000
    settings.UPLOAD_MAX_BYTES = -chunked.CHUNK + 1000
    body, headers = multipart(*FORM)
    assert send(token, "/v1/threads", b" " * 1001).status_code == 413
    assert send(token, "/v1/files", body, headers).status_code == 413
    assert not File.objects.exists()
