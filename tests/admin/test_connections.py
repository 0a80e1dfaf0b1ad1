"""Connections and models: for superusers, and no stored key ever travels back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.forms import ModelForm
from django.test import Client
from django.utils import timezone

from assistant_manager.admin.connection_form import ConnectionForm
from assistant_manager.models import Connection, Model

LIST = "/admin/assistant_manager/connection/"
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def connection(db: None) -> Connection:
    return Connection.objects.create(name="Upstream", kind="embedded", key_1=KEY, key_2="env:MINE")


def typed(**fields: str) -> dict[str, Any]:
    usual = {"name": "Upstream", "kind": "embedded", "authentication": "key", "options": "{}"}
    return {**usual, "key_1": "", "key_2": "", **fields}


def keys(connection: Connection) -> list[str]:
    stored = Connection.objects.get(pk=connection.pk)
    return [stored.key_1.stored, stored.key_2.stored]


def test_a_key_is_stored_and_never_shown_again(as_superuser: Client) -> None:
    as_superuser.post(f"{LIST}add/", typed(name="New", key_1=KEY))
    made = Connection.objects.get(name="New")
    assert keys(made) == [KEY, ""]
    for url in (LIST, f"{LIST}{made.pk}/change/", f"{LIST}{made.pk}/history/"):
        assert "very-secret" not in as_superuser.get(url).content.decode()


def test_the_page_says_which_key_is_stored(as_superuser: Client, connection: Connection) -> None:
    html = as_superuser.get(f"{LIST}{connection.pk}/change/").content.decode()
    assert "Stored: …6789. Leave empty to keep it." in html
    assert "Stored: env:MINE." in html
    assert html.count('type="password"') == 3


def test_an_empty_field_keeps_the_key(as_superuser: Client, connection: Connection) -> None:
    as_superuser.post(f"{LIST}{connection.pk}/change/", typed(name="Renamed"))
    assert keys(connection) == [KEY, "env:MINE"]
    assert Connection.objects.filter(name="Renamed").exists()


def test_a_typed_key_replaces_one_and_a_tick_removes_one(
    as_superuser: Client, connection: Connection
) -> None:
    data = typed(key_1="sk-another", remove_key_2="on")
    as_superuser.post(f"{LIST}{connection.pk}/change/", data)
    assert keys(connection) == ["sk-another", ""]


def test_a_mistake_elsewhere_does_not_send_the_typed_key_back(
    as_superuser: Client, connection: Connection
) -> None:
    data = typed(name="", key_1="sk-just-typed")
    html = as_superuser.post(f"{LIST}{connection.pk}/change/", data).content.decode()
    assert "This field is required." in html
    assert "just-typed" not in html
    assert keys(connection) == [KEY, "env:MINE"]


def test_a_new_key_ends_what_was_said_of_the_old_one(
    as_superuser: Client, connection: Connection
) -> None:
    until = timezone.now() + timedelta(hours=1)
    seen = {"paused_until": until, "pause_reason": "No credit.", "key_in_use": 2, "key_note": "x"}
    Connection.objects.update(**seen)
    as_superuser.post(f"{LIST}{connection.pk}/change/", typed(name="Renamed"))
    connection.refresh_from_db()
    assert (connection.pause, connection.key_in_use) == ("No credit.", 2)
    as_superuser.post(f"{LIST}{connection.pk}/change/", typed(key_1="sk-another"))
    connection.refresh_from_db()
    assert (connection.pause, connection.key_in_use, connection.key_note) == ("", 1, "")


def test_saving_leaves_alone_what_drivers_have_written(
    as_superuser: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean(form: ConnectionForm) -> Any:
        Connection.objects.update(key_note="written in between")
        return ModelForm.clean(form)

    monkeypatch.setattr(ConnectionForm, "clean", clean)
    as_superuser.post(f"{LIST}{connection.pk}/change/", typed(name="Renamed"))
    connection.refresh_from_db()
    assert (connection.name, connection.key_note) == ("Renamed", "written in between")


@pytest.mark.parametrize("secret", ["whsec_c2VjcmV0", "env:WEBHOOK_SECRET"])
def test_a_webhook_secret_is_stored_and_the_page_says_where_events_go(
    as_superuser: Client, connection: Connection, secret: str
) -> None:
    page = f"{LIST}{connection.pk}/change/"
    as_superuser.post(page, typed(webhook_secret=secret))
    connection.refresh_from_db()
    assert connection.webhook_secret.stored == secret
    html = as_superuser.get(page).content.decode()
    assert f"<code>http://testserver/webhooks/{connection.pk}</code>" in html
    assert "whsec_c2V" not in html
    as_superuser.post(page, typed(remove_webhook_secret="on"))
    connection.refresh_from_db()
    assert not connection.webhook_secret


def test_a_key_typed_as_the_webhook_secret_is_noticed(
    as_superuser: Client, connection: Connection
) -> None:
    data = typed(webhook_secret="sk-oops")
    html = as_superuser.post(f"{LIST}{connection.pk}/change/", data).content.decode()
    assert "secrets begin with whsec_." in html
    assert "sk-oops" not in html


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ('{"timeout_seconds": 0}', "timeout_seconds: Input should be greater than 0"),
        ('{"magic": true}', "magic: Extra inputs are not permitted"),
        ("[1]", "An object is needed"),
        ("{", "Enter a valid JSON."),
    ],
)
def test_options_that_the_engine_does_not_know_are_explained(
    as_superuser: Client, connection: Connection, options: str, complaint: str
) -> None:
    data = typed(options=options)
    html = as_superuser.post(f"{LIST}{connection.pk}/change/", data).content.decode()
    assert complaint in html
    connection.refresh_from_db()
    assert connection.options == {}


def test_the_page_says_what_may_be_declared(as_superuser: Client) -> None:
    html = as_superuser.get(f"{LIST}add/").content.decode()
    assert "<code>timeout_seconds</code>" in html
    assert "How long one request may take before it counts as lost." in html


def test_entra_id_is_chosen_beside_the_keys_and_kept_among_the_options(
    as_superuser: Client, connection: Connection
) -> None:
    page = f"{LIST}{connection.pk}/change/"
    as_superuser.post(page, typed(authentication="entra_id", options='{"timeout_seconds": 9}'))
    connection.refresh_from_db()
    assert connection.options == {"timeout_seconds": 9, "authentication": "entra_id"}
    html = as_superuser.get(page).content.decode()
    assert '<option value="entra_id" selected>' in html
    assert "&quot;authentication&quot;" not in html
    as_superuser.post(page, typed(authentication="key", options="{}"))
    connection.refresh_from_db()
    assert connection.options == {}


@pytest.mark.parametrize(
    ("kind", "api_version", "needs_address"),
    [
        ("chat", "", True),
        ("assistants", "", True),
        ("responses", "", False),
        ("responses", "2025-04-01-preview", True),
    ],
)
def test_an_address_is_asked_for_where_none_can_be_guessed(
    db: None, kind: str, api_version: str, needs_address: bool
) -> None:
    form = ConnectionForm(typed(kind=kind, api_version=api_version))
    assert ("base_url" in form.errors) is needs_address


@pytest.mark.parametrize(
    ("address", "is_taken"),
    [
        ("https://kitchen.openai.azure.com/openai/v1/", True),
        ("http://vllm:8000/v1", True),  # a name inside a cluster
        ("http://[::1]:11434/v1", True),
        ("https://HOST", True),
        ("kitchen.example.org/v1", False),
        ("ftp://kitchen.example.org", False),
        ("https://me:secret@kitchen.example.org/v1", False),
        ("https://kitchen.example.org/v1?api-version=1", False),
        ("https://kitchen.example.org/a b", False),
        ("https://kitchen.example.org:http/v1", False),
        ("https://", False),
    ],
)
def test_addresses_that_a_connection_may_have(db: None, address: str, is_taken: bool) -> None:
    form = ConnectionForm(typed(kind="chat", base_url=address))
    assert ("base_url" not in form.errors) is is_taken


def test_limits_are_stored(as_superuser: Client, connection: Connection) -> None:
    data = typed(max_concurrent="4", requests_per_minute="60")
    as_superuser.post(f"{LIST}{connection.pk}/change/", data)
    connection.refresh_from_db()
    assert (connection.max_concurrent, connection.requests_per_minute) == (4, 60)
    html = as_superuser.post(
        f"{LIST}{connection.pk}/change/", typed(max_concurrent="0")
    ).content.decode()
    assert "greater than or equal to 1" in html


def test_only_installed_engines_are_offered(as_superuser: Client) -> None:
    html = as_superuser.post(f"{LIST}add/", typed(kind="magic")).content.decode()
    assert "Select a valid choice." in html


def test_a_key_that_cannot_be_decrypted_is_explained(
    as_superuser: Client, connection: Connection, settings: LazySettings
) -> None:
    settings.FIELD_ENCRYPTION_KEYS = ["kD6sXvZ0cVbS1oT0bYB0Fq1B0m8aZ2mJ4m0hXW2bq1Y="]
    assert "Upstream" in as_superuser.get(LIST).content.decode()
    html = as_superuser.get(f"{LIST}{connection.pk}/change/", follow=True).content.decode()
    assert "A stored key cannot be decrypted" in html


def test_a_model_points_at_a_connection(as_superuser: Client, connection: Connection) -> None:
    data = {"name": "gpt-x", "connection": connection.pk, "upstream_name": ""}
    as_superuser.post("/admin/assistant_manager/model/add/", data)
    assert Model.objects.get(name="gpt-x").connection == connection
    assert as_superuser.get("/admin/assistant_manager/model/").status_code == 200


@pytest.mark.parametrize(
    "noun",
    [
        *("assistant_manager/connection", "assistant_manager/model", "assistant_manager/project"),
        *("auth/user", "auth/group"),
    ],
)
def test_what_reaches_across_the_walls_is_for_superusers(
    as_staff: Client, staff: User, as_superuser: Client, noun: str
) -> None:
    staff.user_permissions.set(Permission.objects.all())
    for url in (f"/admin/{noun}/", f"/admin/{noun}/add/", f"/admin/{noun}/1/change/"):
        assert as_staff.get(url).status_code == 403
        assert as_staff.post(url, {"name": "x"}).status_code == 403
    assert f"/admin/{noun}/" not in as_staff.get("/admin/").content.decode()
    assert as_superuser.get(f"/admin/{noun}/add/").status_code == 200
