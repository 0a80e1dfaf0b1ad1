"""Webhooks from end to end: the vendor's events, our door, the driver and the rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from assistant_manager.models import Connection, Model, Project
from assistant_manager.secrets import Secret
from conversations.driver import Driver
from conversations.models import Run, WebhookDelivery
from conversations.services import runs
from tests.conversations.driving import wait, wait_for
from tests.factories import make_assistant
from tests.fakes.upstream.running import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("eager")]

SECRET = f"whsec_{base64.b64encode(b'a secret of thirty-two bytes ...').decode()}"
NEVER = 300
"""Seconds between two looks: longer than any test may take."""


@pytest.fixture(autouse=True)
def connected(transactional_db: None, upstream: Upstream) -> Connection:
    """Every model leads to the fake's Responses API, which is hardly ever looked at unasked."""
    connection = Connection.objects.create(
        name="Responses server",
        kind="responses",
        base_url=f"{upstream.url}/v1",
        key_1=Secret("sk-responses-server-1"),
        webhook_secret=Secret(SECRET),
        options={"poll_seconds": NEVER, "listen": False},
    )
    Model.objects.update(connection=connection)
    return connection


@pytest.fixture
def subscribe(
    connected: Connection, upstream: Upstream, live_server: LiveServer
) -> Callable[..., None]:
    """Have the vendor send its events to us."""
    url = f"{live_server.url}/webhooks/{connected.pk}"
    return lambda **manners: upstream.send_webhooks(url, SECRET, **manners)


def ask(project: Project, **script: Any) -> Run:
    assistant = make_assistant(project=project, instructions=json.dumps(script), tools=[])
    return runs.ask(assistant=assistant, text="What is x?")


def deleted(upstream: Upstream) -> set[str]:
    return {entry["path"].rpartition("/")[2] for entry in upstream.journal("DELETE")}


def announced(upstream: Upstream) -> set[str]:
    return {delivery["data"]["id"] for delivery in upstream.deliveries()}


def all_delivered(upstream: Upstream, count: int) -> None:
    """No request of the vendor's is under way any more: the tables may be emptied."""
    wait_for(lambda: [sent["status"] for sent in upstream.deliveries()] == [200] * count)


def answers(run: Run) -> list[str]:
    return [message.text for message in run.messages.filter(role="assistant")]


def test_a_webhook_brings_the_look_forward(
    driver: Driver, project: Project, upstream: Upstream, subscribe: Any
) -> None:
    subscribe(repeat=3)
    run = wait(ask(project, answer="x = 7", seconds=0.3), "completed")
    assert answers(run) == ["x = 7"]
    all_delivered(upstream, 3)
    assert WebhookDelivery.objects.count() == 1


def test_a_start_whose_reply_was_lost_is_found_again_and_not_repeated(
    driver: Driver, project: Project, upstream: Upstream, subscribe: Any
) -> None:
    subscribe()
    script = {"id": "lost", "faults": ["cut_after"], "answer": "x = 7", "seconds": 0.3}
    run = wait(ask(project, **script), "completed")
    assert answers(run) == ["x = 7"]
    assert run.attempt == 1
    assert upstream.counts()["creates_by_run"] == {run.public_id: 1}
    all_delivered(upstream, 1)


def test_while_word_is_awaited_the_run_says_so(
    driver: Driver, project: Project, upstream: Upstream, subscribe: Any
) -> None:
    subscribe(drop=1)
    run = ask(project, id="lost", faults=["cut_after"])
    wait_for(lambda: "Waiting for word of it." in Run.objects.get(pk=run.pk).waiting_for)
    assert upstream.counts()["accepted"] == 1


def test_a_start_that_nobody_hears_of_is_made_again(
    driver: Driver,
    project: Project,
    upstream: Upstream,
    subscribe: Any,
    settings: Settings,
) -> None:
    settings.ADOPTION_SECONDS = 0.5
    subscribe(drop=1)
    run = ask(project, id="lost", faults=["cut_after"], answer="x = 7", seconds=0.1)
    wait(run, "completed")
    assert answers(run) == ["x = 7"]
    assert run.attempt == 2
    assert upstream.counts()["creates_by_run"] == {run.public_id: 2}
    all_delivered(upstream, 1)


def test_what_is_found_too_late_is_removed_upstream(
    driver: Driver,
    project: Project,
    upstream: Upstream,
    subscribe: Any,
    settings: Settings,
) -> None:
    settings.ADOPTION_SECONDS = 0.2
    subscribe(drop=1)
    run = ask(project, id="lost", faults=["cut_after"], answer="x = 7", seconds=1.5)
    wait_for(lambda: upstream.counts()["accepted"] == 2)
    first, _ = run.attempts.order_by("number")
    [lost] = [seen["id"] for seen in upstream.responses() if seen["attempt"] == first.key]
    upstream.announce(lost)
    wait(run, "completed")
    assert answers(run) == ["x = 7"]
    assert run.attempt == 2
    all_delivered(upstream, 2)
    wait_for(lambda: deleted(upstream) == announced(upstream))


def test_webhooks_that_overtake_the_reply_change_nothing(
    driver: Driver, project: Project, upstream: Upstream, subscribe: Any
) -> None:
    subscribe(repeat=2)
    asked = [ask(project, answer="x = 7") for _ in range(15)]
    for run in asked:
        wait(run, "completed")
        assert answers(run) == ["x = 7"]
        assert run.attempt == 1
    creates = upstream.counts()["creates_by_run"]
    assert creates == {run.public_id: 1 for run in asked}
    all_delivered(upstream, 2 * len(asked))
