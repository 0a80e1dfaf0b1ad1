"""No secret of a connection leaves it: not by pages, logs, errors, events, dumps or the API."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from assistant_manager.models import Connection, Model, Project
from assistant_manager.secrets import Secret
from conversations.driver import Driver
from conversations.models import Run
from conversations.services import runs
from tests.admin.conftest import signed_in
from tests.conversations.driving import wait
from tests.factories import make_assistant, make_staff
from tests.fakes.upstream.running import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("eager")]

SECRETS = ("sk-first-8d7f6e5c4b3a", "sk-second-1a2b3c4d5e6f", "whsec_c2VjcmV0IG9mIHRoZSB3ZWI=")
CONNECTIONS = "/admin/assistant_manager/connection/"
PAGES = ("change", "standing", "live", "history", "delete")


@pytest.fixture(autouse=True)
def connection(transactional_db: None, upstream: Upstream) -> Connection:
    """Its first key is refused, and so is every model."""
    first, second, webhook = map(Secret, SECRETS)
    connection = Connection.objects.create(
        name="Guarded",
        kind="responses",
        base_url=f"{upstream.url}/v1",
        key_1=first,
        key_2=second,
        webhook_secret=webhook,
        options={"poll_seconds": 0.05},
    )
    Model.objects.update(connection=connection)
    upstream.revoke(SECRETS[0])
    return connection


def ask(project: Project, **script: Any) -> Run:
    assistant = make_assistant(project=project, instructions=json.dumps(script), tools=[])
    return runs.ask(assistant=assistant, text="What is x?")


def check(text: str) -> None:
    assert text
    for secret in SECRETS:
        assert secret not in text
        assert secret[4:-4] not in text


@pytest.fixture
def root(project: Project) -> Client:
    return signed_in(make_staff(project, is_superuser=True))


def test_no_page_of_a_connection_shows_a_secret(
    connection: Connection, root: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    page = f"{CONNECTIONS}{connection.pk}/"
    tested = root.post(f"{page}test/", {"model": "gpt-5"}, follow=True).content.decode()
    assert "Key 1 was refused" in tested
    check(tested)
    check(root.get(CONNECTIONS).content.decode())
    check(root.get("/admin/assistant_manager/model/").content.decode())
    for part in PAGES:
        check(root.get(f"{page}{part}/").content.decode())
    check(root.post(f"{page}change/", {"name": "", "options": "{"}).content.decode())
    check(caplog.text)


def test_an_answered_and_a_failed_run_carry_no_secret(
    driver: Driver,
    connection: Connection,
    project: Project,
    root: Client,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    answered = wait(ask(project), "completed")
    upstream.revoke(SECRETS[1])
    failed = wait(ask(project), "failed")
    connection.refresh_from_db()
    assert "does not accept the keys" in str(failed.last_error)
    for run in (answered, failed):
        check(root.get(f"/admin/conversations/run/{run.pk}/change/").content.decode())
        check(json.dumps(list(run.events.values("type", "data"))))
        check(json.dumps([run.last_error, run.waiting_for, list(run.attempts.values("state"))]))
    check(root.get("/admin/conversations/run/").content.decode())
    check(repr(connection.info()) + connection.key_note + repr(vars(connection)))
    check(caplog.text)


def test_dumps_and_pickles_carry_no_secret(
    connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("dumpdata", "assistant_manager.connection")
    check(capsys.readouterr().out)
    with pytest.raises(TypeError):
        pickle.dumps(connection.key_1)


def test_the_doctor_tells_no_secret(
    connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    Connection.objects.update(key_note="Key 1 was refused on 3 May, 10:00; key 2 is in use.")
    with suppress(CommandError):  # no worker runs here
        call_command("doctor")
    said = capsys.readouterr().out
    assert "Key 1 was refused" in said
    check(said)
