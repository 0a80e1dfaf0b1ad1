"""How a connection stands, and the test of it: what the page says, and what comes of the buttons."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from kombu.exceptions import OperationalError

from assistant_manager import inspections
from assistant_manager.engines.base import Inspection
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.inspections import suggested_model
from assistant_manager.models import Connection, Model, Project
from assistant_manager.tasks import inspect_connection
from tests.factories import make_assistant
from tests.fakes.engine import ScriptedEngine

LIST = "/admin/assistant_manager/connection/"


@pytest.fixture
def connection(scripted: None) -> Connection:
    return Model.objects.get(name="*").connection


@pytest.fixture
def page(connection: Connection) -> str:
    return f"{LIST}{connection.pk}/"


def read(client: Client, url: str) -> str:
    return client.get(url).content.decode()


def paused(connection: Connection) -> None:
    until = timezone.now() + timedelta(minutes=20)
    Connection.objects.filter(pk=connection.pk).update(
        paused_until=until, pause_reason="Waiting for quota until 10:42.", key_note="Key 1 refused."
    )


# --- standing ---------------------------------------------------------------------------


def test_a_pause_and_a_refused_key_are_said_in_the_list_and_on_the_page(
    as_superuser: Client, connection: Connection, page: str
) -> None:
    assert "Waiting for quota" not in read(as_superuser, LIST)
    paused(connection)
    assert "Waiting for quota until 10:42." in read(as_superuser, LIST)
    html = read(as_superuser, f"{page}standing/")
    assert "Waiting for quota until 10:42." in html
    assert "Key 1 refused." in html


def test_resuming_ends_the_pause(as_superuser: Client, connection: Connection, page: str) -> None:
    paused(connection)
    html = as_superuser.post(f"{page}resume/", follow=True).content.decode()
    assert "The pause is over" in html
    connection.refresh_from_db()
    assert (connection.paused_until, connection.pause) == (None, "")


def test_a_pause_that_is_over_is_not_shown(
    as_superuser: Client, connection: Connection, page: str
) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Connection.objects.update(paused_until=past, pause_reason="Waiting for quota until 10:42.")
    assert "Waiting for quota" not in read(as_superuser, f"{page}standing/")


def test_a_new_connection_is_brought_to_its_test(as_superuser: Client, scripted: None) -> None:
    data = {"name": "New", "kind": "scripted", "options": "{}"}
    response = as_superuser.post(f"{LIST}add/", data)
    made = Connection.objects.get(name="New")
    assert response["Location"] == f"{LIST}{made.pk}/standing/"


# --- the test ---------------------------------------------------------------------------


def test_saying_hello_shows_the_answer_and_how_long_it_took(
    as_superuser: Client, page: str, eager: None
) -> None:
    ScriptedEngine.hello = Inspection(
        "Hello!", seconds=0.82, models=["b", "a"], supports={"background": True, "files": False}
    )
    html = as_superuser.post(f"{page}test/", {"model": "a"}, follow=True).content.decode()
    for part in ("It works", "Hello!", "0.82 s", "Background</dt><dd>yes", "Files</dt><dd>no"):
        assert part in html
    assert "<code>a</code>, <code>b</code>" in html
    assert "answered in 0.8 s" in read(as_superuser, LIST)


def test_a_refusal_is_shown_in_the_upstreams_words(
    as_superuser: Client, page: str, eager: None
) -> None:
    ScriptedEngine.hello = Rejected("“Scripted” does not know this model.")
    html = as_superuser.post(f"{page}test/", {"model": "a"}, follow=True).content.decode()
    assert "“Scripted” does not know this model." in html
    assert "failed" in read(as_superuser, LIST)


def test_a_fault_of_our_own_is_said_without_its_details(
    as_superuser: Client, page: str, eager: None
) -> None:
    ScriptedEngine.hello = ZeroDivisionError("inner workings")
    html = as_superuser.post(f"{page}test/", {"model": "a"}, follow=True).content.decode()
    assert "The server had an error during the test" in html
    assert "inner workings" not in html


def test_an_upstream_that_never_answers_is_not_waited_for(
    as_superuser: Client, page: str, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(*_: Any) -> Any:
        await asyncio.sleep(3600)

    monkeypatch.setattr(ScriptedEngine, "inspect", forever)
    monkeypatch.setattr(inspections, "PATIENCE", 0.05)
    html = as_superuser.post(f"{page}test/", {"model": "a"}, follow=True).content.decode()
    assert "No answer came within" in html


def test_while_the_test_is_awaited_the_page_asks_for_its_result(
    as_superuser: Client, connection: Connection, page: str
) -> None:
    now = timezone.now().isoformat()
    Connection.objects.update(inspection={"model": "a", "asked_at": now})
    html = read(as_superuser, f"{page}standing/")
    assert f'hx-get="{page}live/"' in html
    assert "under way" in read(as_superuser, LIST)
    assert as_superuser.get(f"{page}live/").status_code == 204
    inspections.inspect(connection.pk, now)
    response = as_superuser.get(f"{page}live/")
    assert response.status_code == 286
    assert "hx-get" not in response.content.decode()
    assert "Hello." in response.content.decode()


def test_a_test_that_no_worker_does_says_so(
    as_superuser: Client, connection: Connection, page: str
) -> None:
    asked = (timezone.now() - timedelta(minutes=1)).isoformat()
    Connection.objects.update(inspection={"model": "a", "asked_at": asked})
    response = as_superuser.get(f"{page}live/")
    assert response.status_code == 200
    assert "No worker has done the test yet." in response.content.decode()


def test_an_older_test_does_not_overwrite_a_newer_one(connection: Connection) -> None:
    Connection.objects.update(inspection={"model": "a", "asked_at": "2026-11-22T10:00:01+00:00"})
    inspections.inspect(connection.pk, "2026-11-22T10:00:00+00:00")
    connection.refresh_from_db()
    assert connection.inspection is not None
    assert "tested_at" not in connection.inspection


def test_without_a_model_nothing_is_asked(as_superuser: Client, page: str) -> None:
    html = as_superuser.post(f"{page}test/", {"model": " "}, follow=True).content.decode()
    assert "Name a model that the upstream knows" in html


def test_a_queue_that_cannot_be_reached_is_said(
    as_superuser: Client, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise OperationalError("no queue")

    monkeypatch.setattr(inspect_connection, "apply_async", lose)
    html = as_superuser.post(f"{page}test/", {"model": "a"}, follow=True).content.decode()
    assert "The queue cannot be reached" in html


def test_the_embedded_engine_has_nothing_to_reach(
    as_superuser: Client, db: None, eager: None
) -> None:
    connection = Model.objects.get(name="*").connection
    url = f"{LIST}{connection.pk}/test/"
    html = as_superuser.post(url, {"model": ""}, follow=True).content.decode()
    assert "works without an upstream" in html


def test_options_that_no_longer_fit_fail_the_test_with_their_names(
    as_superuser: Client, page: str, eager: None
) -> None:
    Connection.objects.update(options={"magic": 1})
    html = as_superuser.post(f"{page}test/", {"model": "a"}, follow=True).content.decode()
    assert "cannot be used: magic." in html


# --- names ------------------------------------------------------------------------------


def test_names_that_the_upstream_does_not_list_lead_to_an_alias(
    as_superuser: Client, connection: Connection, page: str, project: Project, eager: None
) -> None:
    for name in ("gpt-4-1106-preview", "gpt-5", "retired", "elsewhere"):
        make_assistant(project=project, model=name)
    alias = Model.objects.create(name="retired", connection=connection, upstream_name="gone")
    away = Connection.objects.create(name="Away", kind="embedded")
    Model.objects.create(name="elsewhere", connection=away)
    ScriptedEngine.hello = Inspection("Hello.", models=["gpt-5"])
    html = as_superuser.post(f"{page}test/", {"model": "gpt-5"}, follow=True).content.decode()
    add = f"/admin/assistant_manager/model/add/?name=gpt-4-1106-preview&amp;connection={connection.pk}"
    assert f'<a href="{add}">gpt-4-1106-preview</a>' in html
    assert f'<a href="/admin/assistant_manager/model/{alias.pk}/change/">retired</a>' in html
    assert ">gpt-5</a>" not in html
    assert ">elsewhere</a>" not in html
    form = read(as_superuser, add.replace("&amp;", "&"))
    assert 'value="gpt-4-1106-preview"' in form


def test_the_model_to_say_hello_with_is_one_that_leads_here(
    connection: Connection, project: Project
) -> None:
    assert suggested_model(connection) == ""
    make_assistant(project=project, model="from-an-assistant")
    assert suggested_model(connection) == "from-an-assistant"
    Model.objects.create(name="said", connection=connection, upstream_name="meant")
    assert suggested_model(connection) == "meant"


# --- who may ----------------------------------------------------------------------------


@pytest.mark.parametrize("button", ["standing", "live", "test", "resume"])
def test_standing_and_test_are_for_superusers(
    as_staff: Client,
    as_superuser: Client,
    connection: Connection,
    page: str,
    button: str,
) -> None:
    assert as_staff.get(f"{page}{button}/").status_code == 403
    assert as_staff.post(f"{page}{button}/").status_code == 403
    if button in ("test", "resume"):
        assert as_superuser.get(f"{page}{button}/").status_code == 403
    assert as_superuser.post(f"{LIST}4711/{button}/").status_code == 302
