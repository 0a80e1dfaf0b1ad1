from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.utils import timezone

from assistant_manager.models import File, IdempotencyKey, Project
from assistant_manager.services import keep_file
from tests.openai_api.http import Answer, Door, multipart

FORM = (("purpose", None, b"assistants"), ("file", "a.csv", b"1,2\n"))


def stored_files() -> list[Path]:
    root = Path(FileSystemStorage().location)
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


def make_file(project: Project, **fields: Any) -> File:
    values = {"filename": "a.csv", "purpose": "assistants"} | fields
    return keep_file(project=project, upload=ContentFile(b"1,2\n"), **values)


def test_a_file_is_uploaded_read_listed_and_deleted_by_the_sdk(sdk: Any) -> None:
    content = bytes(range(256)) * 10
    made = sdk.files.create(file=("data.bin", content), purpose="assistants")
    assert (made.object, made.bytes, made.filename) == ("file", 2560, "data.bin")
    assert (made.status, made.purpose, made.expires_at) == ("processed", "assistants", None)
    azure = isinstance(sdk, openai.AzureOpenAI)
    assert made.id.startswith("assistant-" if azure else "file-")
    assert sdk.files.retrieve(made.id) == made
    assert sdk.files.content(made.id).read() == content
    assert [file.id for file in sdk.files.list()] == [made.id]

    gone = sdk.files.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "file", True)
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.files.retrieve(made.id)
    assert missing.value.body["message"] == f"No such File object: {made.id}"
    assert missing.value.param == "id"
    assert stored_files() == []


def test_a_file_may_expire(sdk: Any) -> None:
    made = sdk.files.create(
        file=b"x", purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at - made.created_at == 3600
    File.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(openai.NotFoundError):
        sdk.files.content(made.id)
    assert sdk.files.list().data == []


def test_files_are_listed_by_purpose_and_in_pages(sdk: Any, project: Project) -> None:
    ids = [make_file(project, purpose=purpose).public_id for purpose in ("vision", "batch") * 3]
    assert [file.id for file in sdk.files.list()] == ids[::-1]
    assert [file.id for file in sdk.files.list(purpose="vision")] == ids[::2][::-1]
    page = sdk.files.list(limit=2, order="asc")
    assert [file.id for file in page.data] == ids[:2]
    assert [file.id for file in page] == ids


def upload(door: Door, *parts: tuple[str, str | None, bytes], path: str = "/v1/files") -> Answer:
    body, headers = multipart(*parts)
    return door("POST", path, body, headers=headers)


def test_the_parts_may_come_in_either_order(door: Door) -> None:
    assert [upload(door, *parts).status for parts in (FORM, FORM[::-1])] == [200, 200]


@pytest.mark.parametrize(
    ("parts", "param", "code"),
    [
        (FORM[1:], "purpose", "missing_required_parameter"),
        (FORM[:1], "file", "missing_required_parameter"),
        ((("purpose", None, b"spying"), FORM[1]), "purpose", "invalid_value"),
        ((("purpose", None, b"assistants_output"), FORM[1]), "purpose", "invalid_value"),
        ((*FORM, ("colour", None, b"red")), "colour", "unknown_parameter"),
        ((*FORM, ("other", "b.csv", b"")), "other", "unknown_parameter"),
        ((*FORM, FORM[0]), "purpose", None),
        ((*FORM, FORM[1]), "file", None),
        ((FORM[0], ("file", None, b"1,2")), "file", "invalid_type"),
        (
            (
                *FORM,
                ("expires_after[anchor]", None, b"created_at"),
                ("expires_after[seconds]", None, b"60"),
            ),
            "expires_after.seconds",
            "integer_below_min_value",
        ),
        (
            (*FORM, ("expires_after[seconds]", None, b"3600")),
            "expires_after.anchor",
            "missing_required_parameter",
        ),
    ],
)
def test_a_wrong_part_is_named(door: Door, parts: Any, param: str, code: str | None) -> None:
    answer = upload(door, *parts)
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == (param, code)
    assert not File.objects.exists()
    assert stored_files() == []


def test_what_is_no_form_is_refused(door: Door) -> None:
    for body, headers in [
        (b'{"purpose": "assistants"}', {"Content-Type": "application/json"}),
        (b"nonsense", {"Content-Type": "multipart/form-data"}),
        (b"nonsense", {"Content-Type": "multipart/form-data; boundary=b"}),
        (b"", {}),
    ]:
        answer = door("POST", "/v1/files", body, headers=headers)
        assert answer.status == 400
        assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("naïve ☃.txt", "naïve ☃.txt"),
        ("<script>.html", "<script>.html"),
    ],
)
def test_a_filename_is_a_name_and_never_a_path(
    door: Door, said: str, kept: str, tmp_path: Path
) -> None:
    made = upload(door, FORM[0], ("file", said, b"x")).body
    assert made["filename"] == kept
    file = File.objects.get()
    assert stored_files() == [tmp_path / str(file.project_id) / file.public_id]


def test_a_long_filename_is_cut(door: Door) -> None:
    made = upload(door, FORM[0], ("file", "n" * 600 + ".csv", b"x"))
    assert made.status == 200
    assert len(made.body["filename"]) <= 512


def test_content_is_for_saving_whatever_it_claims_to_be(door: Door) -> None:
    made = upload(door, FORM[0], ("file", "a.html", b"<script>alert(1)</script>")).body["id"]
    answer = door("GET", f"/v1/files/{made}/content", headers={"Accept": "application/binary"})
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a.html"'
    assert answer.headers["x-request-id"].startswith("req_")


def test_lost_bytes_are_said_to_be_lost(door: Door, project: Project) -> None:
    file = make_file(project)
    file.content.storage.delete(str(file.content.name))
    answer = door("GET", f"/v1/files/{file.public_id}/content")
    assert answer.status == 500
    assert "missing from the server's storage" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_a_file_that_is_too_large_is_refused(live_door: Door, settings: Any) -> None:
    settings.UPLOAD_MAX_BYTES = 100_000
    for size in (100_001, 300_000):
        answer = upload(live_door, FORM[0], ("file", "a", b"x" * size))
        assert answer.status == 413
        assert "at most 100000 bytes" in answer.error["message"]
    assert upload(live_door, FORM[0], ("file", "a", b"x" * 100_000)).status == 200
    assert len(stored_files()) == 1


def test_a_full_disk_leaves_nothing_behind(door: Door, monkeypatch: Any) -> None:
    def save(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileSystemStorage, "_save", save)
    answer = upload(door, *FORM)
    assert answer.status == 507
    assert "disk is full" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert not File.objects.exists()
    assert stored_files() == []


def test_the_bytes_go_when_the_row_cannot_stay(door: Door, monkeypatch: Any) -> None:
    def save(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        IdempotencyKey,
        "save",
        lambda self, **fields: save() if fields.get("update_fields") else None,
    )
    body, headers = multipart(*FORM)
    answer = door("POST", "/v1/files", body, headers=headers | {"Idempotency-Key": "k"})
    assert answer.status == 507
    assert not File.objects.exists()
    assert stored_files() == []
