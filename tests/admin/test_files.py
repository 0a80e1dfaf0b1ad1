"""Files: only pictures are shown, and only as pictures."""

from __future__ import annotations

import pytest
from django.core.files.base import ContentFile
from django.test import Client

from assistant_manager.models import File, Project
from assistant_manager.services import keep_file

PNG = b"\x89PNG\r\n\x1a\n and so on"


def keep(project: Project, content: bytes, name: str = "plot.png") -> File:
    return keep_file(
        project=project, upload=ContentFile(content), filename=name, purpose="assistants_output"
    )


def picture(file: File) -> str:
    return f"/admin/assistant_manager/file/{file.public_id}/picture/"


def test_a_picture_is_served_as_a_picture_and_nothing_else(
    as_staff: Client, project: Project
) -> None:
    response = as_staff.get(picture(keep(project, PNG)))
    assert response.content == PNG
    assert response["Content-Type"] == "image/png"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "script-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("content", [b"<script>alert(1)</script>", b"<svg onload=alert(1)>", b""])
def test_what_only_calls_itself_a_picture_is_not_served(
    as_staff: Client, project: Project, content: bytes
) -> None:
    response = as_staff.get(picture(keep(project, content)))
    assert response.status_code == 404
    assert b"alert" not in response.content


def test_a_picture_whose_bytes_are_gone_is_not_found(as_staff: Client, project: Project) -> None:
    file = keep(project, PNG)
    file.content.storage.delete(file.content.name)
    assert as_staff.get(picture(file)).status_code == 404


def test_foreign_and_absent_pictures_answer_alike(as_staff: Client, project: Project) -> None:
    foreign = keep(Project.objects.create(name="theirs"), PNG)
    absent = as_staff.get("/admin/assistant_manager/file/file-absent/picture/")
    response = as_staff.get(picture(foreign))
    assert response.status_code == absent.status_code == 404
    assert response.content == absent.content


def test_the_page_of_a_file_never_links_to_its_bytes(as_staff: Client, project: Project) -> None:
    file = keep(project, b"<script>", name="page.html")
    html = as_staff.get(f"/admin/assistant_manager/file/{file.pk}/change/").content.decode()
    assert "page.html" in html
    assert file.content.name not in html
