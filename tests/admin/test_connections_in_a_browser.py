"""Setting up a connection, testing it and waiting for it, in a real browser."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from assistant_manager.inspections import inspect
from assistant_manager.models import Connection, Model, Project
from conversations.models import DriverHeartbeat
from tests.admin.conftest import look
from tests.admin.test_in_a_browser import sign_in
from tests.factories import make_assistant, make_project, make_run, make_staff
from tests.fakes.upstream.running import Upstream

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.django_db(transaction=True),
]

KEY = "sk-typed-in-a-browser"
LIST = "/admin/assistant_manager/connection/"


@pytest.fixture
def project(transactional_db: None) -> Project:
    return make_project(name="algebra")


@pytest.fixture
def root(project: Project) -> User:
    return make_staff(project, first_name="Mira", is_superuser=True)


@pytest.fixture
def lost_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker takes what is asked of the queue; the test does it in its own time."""
    monkeypatch.setattr(
        "assistant_manager.services.inspect_connection.apply_async", lambda *_: None
    )


def test_a_connection_is_set_up_tested_and_given_an_alias(
    tab: Page,
    live_server: LiveServer,
    project: Project,
    root: User,
    upstream: Upstream,
    lost_tasks: None,
) -> None:
    sign_in(tab, live_server, root)
    tab.goto(f"{live_server.url}{LIST}add/")
    look(tab, "connection-add")
    tab.get_by_label("Name").fill("Our vendor")
    tab.get_by_label("Kind").select_option("responses")
    tab.get_by_label("Base URL").fill(f"{upstream.url}/v1")
    tab.get_by_label("Key 1").fill(KEY)
    tab.get_by_label("Answers at once").fill("8")
    tab.get_by_label("Webhook secret").fill("whsec_c2VjcmV0")
    tab.get_by_role("button", name="Save", exact=True).click()

    expect(tab.get_by_role("heading", name="Our vendor")).to_be_visible()
    connection = Connection.objects.get(name="Our vendor")
    Model.objects.update(connection=connection)
    make_assistant(project=project, model="gpt-4-1106-preview")
    tab.get_by_label("Model, as the upstream calls it").fill("gpt-5")
    tab.get_by_role("button", name="Test").click()
    expect(tab.get_by_text("Under way")).to_be_visible()
    look(tab, "connection-test-under-way", all_four=False)
    connection.refresh_from_db()
    do_the_test(connection)
    expect(tab.get_by_text("It works")).to_be_visible()
    look(tab, "connection-tested")

    tab.get_by_role("link", name="gpt-4-1106-preview").click()
    expect(tab.get_by_label("Name:", exact=True)).to_have_value("gpt-4-1106-preview")
    expect(tab.get_by_label("Connection")).to_have_value(str(connection.pk))
    tab.get_by_label("Upstream name").fill("gpt-5")
    tab.get_by_role("button", name="Save", exact=True).click()
    expect(tab.get_by_role("heading", name="Models")).to_be_visible()
    alias = Model.objects.get(name="gpt-4-1106-preview")
    assert (alias.connection, alias.upstream_name) == (connection, "gpt-5")


def do_the_test(connection: Connection) -> None:
    """As a worker would, in a thread: Playwright's loop runs in this one."""
    assert connection.inspection is not None
    asked_at = connection.inspection["asked_at"]

    def work() -> None:
        inspect(connection.pk, asked_at)
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def paused() -> Connection:
    connection = Connection.objects.create(
        name="Our vendor",
        kind="responses",
        key_1=KEY,
        key_2="sk-another",
        webhook_secret="whsec_c2VjcmV0",
        paused_until=timezone.now() + timedelta(minutes=20),
        pause_reason="“Our vendor” takes no more just now: waiting for quota until 10:42.",
        key_in_use=2,
        key_note="Key 1 was refused on 22 November, 10:20; key 2 is in use.",
        inspection={
            "model": "gpt-5",
            "asked_at": timezone.now().isoformat(),
            "tested_at": timezone.now().isoformat(),
            "error": "“Our vendor” does not accept the keys of its connection: Incorrect API key.",
        },
    )
    Model.objects.update(connection=connection)
    return connection


def test_a_paused_connection_says_so_wherever_it_matters_and_is_resumed(
    tab: Page, live_server: LiveServer, project: Project, root: User
) -> None:
    connection = paused()
    now = timezone.now()
    DriverHeartbeat.objects.create(name="w", started_at=now, seen_at=now + timedelta(minutes=5))
    run = make_run(assistant=make_assistant(project=project), asked_by=root)
    sign_in(tab, live_server, root)
    tab.goto(f"{live_server.url}{LIST}")
    expect(tab.get_by_text("waiting for quota until 10:42")).to_be_visible()
    look(tab, "connections")
    tab.goto(f"{live_server.url}{LIST}{connection.pk}/change/")
    look(tab, "connection-change")
    tab.goto(f"{live_server.url}/admin/conversations/run/")
    expect(tab.get_by_text("waiting for quota until 10:42")).to_be_visible()
    look(tab, "runs-waiting", all_four=False)
    tab.goto(f"{live_server.url}/admin/conversations/run/{run.pk}/change/")
    expect(tab.get_by_text("waiting for quota until 10:42")).to_be_visible()
    look(tab, "run-waiting")
    tab.goto(f"{live_server.url}{LIST}{connection.pk}/standing/")
    look(tab, "connection-paused")
    tab.get_by_role("button", name="Resume now").click()
    expect(tab.get_by_text("The pause is over")).to_be_visible()
    expect(tab.get_by_text("waiting for quota until 10:42")).to_be_hidden()
