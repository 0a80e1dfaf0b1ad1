"""API keys: shown once, revoked for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from assistant_manager.models import ApiKey, Project
from tests.factories import make_project

LIST = "/admin/assistant_manager/apikey/"


def make(client: Client, project: Project, **fields: Any) -> Any:
    data = {"project": project.pk, "name": "robot", "expires_at_0": "", "expires_at_1": ""}
    return client.post(f"{LIST}add/", data | fields)


def test_a_new_key_is_shown_once_and_stored_nowhere(
    as_staff: Client, project: Project, staff: User
) -> None:
    response = make(as_staff, project)
    token = response.context["token"]
    key = ApiKey.objects.for_token(token)
    assert key is not None
    assert (key.project, key.name, key.created_by) == (project, "robot", staff)
    assert token in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    later = (
        as_staff.get(LIST).content.decode()
        + as_staff.get(f"{LIST}{key.pk}/change/").content.decode()
    )
    assert token not in later
    assert key.digest not in later
    assert token not in str([*LogEntry.objects.values(), *Session.objects.values()])
    assert token not in str(response.cookies)


def test_a_key_may_expire(as_staff: Client, project: Project) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    make(as_staff, project, expires_at_0=f"{tomorrow:%Y-%m-%d}", expires_at_1="12:00:00")
    expires_at = ApiKey.objects.get().expires_at
    assert expires_at is not None
    assert abs(expires_at - tomorrow.replace(hour=12, minute=0, second=0)) < timedelta(seconds=5)


def test_a_key_that_has_expired_already_is_a_mistake(as_staff: Client, project: Project) -> None:
    html = make(as_staff, project, expires_at_0="2001-01-01", expires_at_1="12:00:00")
    assert "Choose a time in the future." in html.content.decode()
    assert not ApiKey.objects.exists()


def test_a_revoked_key_opens_nothing_and_stays_in_the_list(
    as_staff: Client, project: Project
) -> None:
    key, token = ApiKey.objects.issue(project=project, name="robot")
    data = {"action": "revoke", "_selected_action": [key.pk]}
    html = as_staff.post(LIST, data, follow=True).content.decode()
    assert "1 key revoked." in html
    assert ApiKey.objects.for_token(token) is None
    assert "revoked" in as_staff.get(f"{LIST}{key.pk}/change/").content.decode()
    assert LogEntry.objects.get().change_message == "Revoked."


def test_a_key_keeps_its_project_and_its_secret(as_staff: Client, project: Project) -> None:
    key, token = ApiKey.objects.issue(project=project, name="robot")
    data = {"project": make_project().pk, "name": "renamed", "digest": "0" * 64}
    as_staff.post(f"{LIST}{key.pk}/change/", data | {"expires_at_0": "", "expires_at_1": ""})
    kept = ApiKey.objects.for_token(token)
    assert kept is not None
    assert (kept.project, kept.name) == (project, "renamed")


def test_keys_are_revoked_and_not_deleted(as_superuser: Client, project: Project) -> None:
    key, _ = ApiKey.objects.issue(project=project, name="robot")
    assert as_superuser.post(f"{LIST}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    as_superuser.post(LIST, {"action": "delete_selected", "_selected_action": [key.pk]})
    assert ApiKey.objects.exists()


def test_a_key_cannot_be_made_for_a_project_of_others(as_staff: Client) -> None:
    foreign = make_project(name="theirs")
    assert "theirs" not in as_staff.get(f"{LIST}add/").content.decode()
    make(as_staff, foreign)
    assert not ApiKey.objects.exists()
