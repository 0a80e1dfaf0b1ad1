"""What people see when something is not there, not allowed, or broken."""

from __future__ import annotations

import errno
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, OperationalError
from django.test import Client

from conversations.admin.errors import DATABASE, DISK_FULL, OTHER, explain
from conversations.models import Run


def test_an_address_that_leads_nowhere_says_so_in_plain_words(as_staff: Client) -> None:
    response = as_staff.get("/admin/no/such/page/")
    assert response.status_code == 404
    assert "There is nothing at this address" in response.content.decode()


def test_a_missing_permission_says_whom_to_ask(as_staff: Client) -> None:
    response = as_staff.get("/admin/auth/user/")
    assert response.status_code == 403
    assert "An administrator can give you the permission." in response.content.decode()


def test_an_old_form_says_how_to_go_on(staff: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    response = client.post("/admin/conversations/run/add/", {"text": "x"})
    assert response.status_code == 403
    assert "reload the page and send it again" in response.content.decode()
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [
        (OperationalError("database is locked"), DATABASE, 503),
        (OperationalError("database or disk is full"), DISK_FULL, 507),
        (OSError(errno.ENOSPC, "No space left on device"), DISK_FULL, 507),
        (ZeroDivisionError("secret detail"), OTHER, 500),
        (IntegrityError("secret detail"), OTHER, 500),
    ],
)
def test_a_breakdown_is_told_without_a_traceback(
    staff: User,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
    status: int,
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("conversations.admin.runs.assistants_for", break_down)
    client = Client(raise_request_exception=False)
    client.force_login(staff)
    response = client.get("/admin/conversations/run/add/")
    assert response.status_code == status
    html = response.content.decode()
    assert said in unescape(html)
    assert "secret detail" not in html
    assert "Traceback" not in html


def test_the_cause_of_an_error_is_looked_at_too() -> None:
    wrapped = RuntimeError("the run failed")
    wrapped.__cause__ = DatabaseError("database or disk is full")
    assert explain(wrapped) == (DISK_FULL, 507)
    assert explain(None) == (OTHER, 500)


def test_no_page_carries_script_or_style_of_its_own(as_staff: Client, staff: User) -> None:
    staff.is_superuser = True
    staff.save()
    for url in ("/admin/", "/admin/conversations/run/add/", "/admin/no/such/page/"):
        response = as_staff.get(url)
        policy = response["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        html = response.content.decode()
        assert "<style" not in html
        assert " style=" not in html
        assert "<script>" not in html
        assert "://" not in html.replace("http://www.w3.org/2000/svg", "")
