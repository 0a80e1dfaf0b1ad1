"""Webhooks: signed or refused, taken once, and never more than a reason to look."""

from __future__ import annotations

import base64
import json
import secrets
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from assistant_manager.engines.base import Progress
from assistant_manager.models import Connection, Model
from conversations import recording
from conversations.models import Run, RunAttempt, RunStatus, WebhookDelivery
from conversations.tasks import adopt, sweep
from tests.factories import make_run
from tests.fakes.engine import ScriptedEngine
from tests.fakes.upstream.webhooks import sign

SECRET = f"whsec_{base64.b64encode(b'a secret of thirty-two bytes ...').decode()}"
OTHER = f"whsec_{base64.b64encode(b'another one').decode()}"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted", "eager")]


@pytest.fixture
def connection(scripted: None) -> Connection:
    connection = Model.objects.get(name="*").connection
    connection.webhook_secret = SECRET
    connection.save()
    return connection


def event(upstream_id: str = "resp_1", type: str = "response.completed") -> bytes:
    about = {"id": upstream_id}
    return json.dumps({"object": "event", "id": "evt_1", "type": type, "data": about}).encode()


def headers(body: bytes, *, id: str = "wh_1", at: float = 0, secret: str = SECRET) -> Any:
    return sign(secret, id, int(time.time() + at), body)


def deliver(connection: Connection, body: bytes, signed: dict[str, str]) -> int:
    response = Client().post(
        f"/webhooks/{connection.pk}",
        body,
        content_type="application/json",
        headers=signed,
    )
    return response.status_code


def started_run(connection: Connection, **attempt: Any) -> tuple[Run, RunAttempt]:
    """A run that a driver looks after, its next look an hour away."""
    run = make_run(
        status=RunStatus.IN_PROGRESS,
        attempt=1,
        due_at=None,
        leased_by="somebody",
        lease_expires_at=timezone.now() + timedelta(hours=1),
    )
    values = {"sent_at": timezone.now(), **attempt}
    return run, RunAttempt.objects.create(run=run, number=1, **values)


def is_due(run: Run) -> bool:
    run.refresh_from_db()
    return run.due_at is not None


# --- the door ---------------------------------------------------------------------------


def test_a_signed_event_about_an_attempt_makes_its_run_due(connection: Connection) -> None:
    run, _ = started_run(connection, state={}, upstream_id="resp_1")
    assert deliver(connection, event(), headers(event())) == 200
    assert is_due(run)
    assert WebhookDelivery.objects.get().handled_at is not None


def test_ids_may_be_longer_than_an_index_can_hold(connection: Connection) -> None:
    """Gateways pack what they need into their ids; what tells two apart is at the end."""
    long = "resp_" + secrets.token_hex(4000)
    others, _ = started_run(connection)
    run, _ = started_run(connection)
    Run.objects.update(leased_by="me")
    for each, id in ((others, long[:-1] + "x"), (run, long)):
        progress = Progress("working", state={}, upstream_id=id)
        assert recording.record(each, each.attempts.get(), progress, driver="me")
    assert deliver(connection, event(long), headers(event(long))) == 200
    assert is_due(run)
    assert not is_due(others)


def test_a_repeated_delivery_does_nothing(connection: Connection) -> None:
    run, _ = started_run(connection, state={}, upstream_id="resp_1")
    signed = headers(event())
    deliver(connection, event(), signed)
    Run.objects.update(due_at=None)
    assert deliver(connection, event(), signed) == 200
    assert not is_due(run)
    assert WebhookDelivery.objects.count() == 1


def changed(name: str, value: str) -> Any:
    return lambda: (event(), {**headers(event()), name: value})


def without(name: str) -> Any:
    return lambda: (event(), {k: v for k, v in headers(event()).items() if k != name})


REFUSED = {
    "signed with another secret": lambda: (event(), headers(event(), secret=OTHER)),
    "another body": lambda: (event("resp_2"), headers(event("resp_1"))),
    "too old": lambda: (event(), headers(event(), at=-330)),
    "from the future": lambda: (event(), headers(event(), at=330)),
    "not ASCII": changed("webhook-signature", "v1,ünïcode"),
    "empty signature": changed("webhook-signature", ""),
    "no number": changed("webhook-timestamp", "soon"),
    "no headers": lambda: (event(), {}),
    "no id": without("webhook-id"),
    "no timestamp": without("webhook-timestamp"),
    "no signature": without("webhook-signature"),
    "not JSON": lambda: (b"{", headers(b"{")),
    "not an object": lambda: (b"[1]", headers(b"[1]")),
    "not UTF-8": lambda: (b"\xff", headers(b"\xff")),
    "an id without end": lambda: (event(), headers(event(), id="wh_" * 100)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_signed_is_refused_and_leaves_nothing(connection: Connection, why: str) -> None:
    run, _ = started_run(connection, state={}, upstream_id="resp_1")
    assert deliver(connection, *REFUSED[why]()) == 400
    assert not WebhookDelivery.objects.exists()
    assert not is_due(run)


def test_one_good_signature_among_several_is_enough(connection: Connection) -> None:
    signed = headers(event())
    signed["webhook-signature"] = f"v1,{'A' * 43}= {signed['webhook-signature']}"
    assert deliver(connection, event(), signed) == 200


def test_a_large_body_is_not_read(connection: Connection) -> None:
    body = event() + b" " * 70_000
    assert deliver(connection, body, headers(body)) == 413


def test_no_door_without_a_secret(connection: Connection) -> None:
    Connection.objects.update(webhook_secret="")
    assert deliver(connection, event(), headers(event())) == 404
    connection.pk = 4711
    assert deliver(connection, event(), headers(event())) == 404


def test_the_door_takes_posts_only(connection: Connection) -> None:
    assert Client().get(f"/webhooks/{connection.pk}").status_code == 405


def test_the_secret_opens_its_own_connection_only(connection: Connection) -> None:
    other = Connection.objects.create(name="Other", kind="embedded", webhook_secret=OTHER)
    run, _ = started_run(connection, state={}, upstream_id="resp_1")
    assert deliver(other, event(), headers(event())) == 400
    assert deliver(other, event(), headers(event(), secret=OTHER)) == 200
    assert not is_due(run)


@pytest.mark.parametrize("type", ["response.created", "batch.completed", "safety.alert.created"])
def test_events_of_other_kinds_are_taken_and_ignored(connection: Connection, type: str) -> None:
    run, _ = started_run(connection, state={}, upstream_id="resp_1")
    assert deliver(connection, event(type=type), headers(event(type=type))) == 200
    assert not is_due(run)
    assert WebhookDelivery.objects.get().handled_at is not None


def test_no_secret_is_logged(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    deliver(connection, event(), headers(event(), secret=OTHER))
    assert "refused" in caplog.text
    assert SECRET not in caplog.text


# --- adoption ---------------------------------------------------------------------------


def arrived(connection: Connection, upstream_id: str = "resp_1") -> WebhookDelivery:
    """An event that names nothing known here."""
    body = event(upstream_id)
    assert deliver(connection, body, headers(body, id=f"wh_{upstream_id}")) == 200
    return WebhookDelivery.objects.get(upstream_id=upstream_id)


def found(attempt: RunAttempt, upstream_id: str = "resp_1") -> None:
    ScriptedEngine.known[upstream_id] = attempt.key


def test_a_lost_start_is_found_by_what_its_webhook_names(connection: Connection) -> None:
    run, attempt = started_run(connection)
    found(attempt)
    delivery = arrived(connection)
    assert not is_due(run)
    adopt(delivery.pk)
    attempt.refresh_from_db()
    assert (attempt.upstream_id, attempt.state) == ("resp_1", {"found": "resp_1"})
    assert attempt.sent_at is not None
    assert is_due(run)
    assert ScriptedEngine.discarded == []


def given_up(run: Run, attempt: RunAttempt) -> None:
    Run.objects.update(attempt=2)


def ended(run: Run, attempt: RunAttempt) -> None:
    run.move(RunStatus.FAILED)


def answered_by_another(run: Run, attempt: RunAttempt) -> None:
    RunAttempt.objects.update(state={}, upstream_id="resp_0")


@pytest.mark.parametrize("fate", [given_up, ended, answered_by_another])
def test_what_nobody_waits_for_any_more_is_removed_upstream(
    connection: Connection, fate: Any
) -> None:
    run, attempt = started_run(connection)
    found(attempt)
    delivery = arrived(connection)
    fate(run, attempt)
    adopt(delivery.pk)
    assert ScriptedEngine.discarded == ["resp_1"]
    delivery.refresh_from_db()
    assert delivery.handled_at is not None
    attempt.refresh_from_db()
    assert attempt.upstream_id != "resp_1"


def test_what_another_installation_began_is_left_alone(connection: Connection) -> None:
    ScriptedEngine.known["resp_1"] = "an attempt of theirs"
    adopt(arrived(connection).pk)
    adopt(arrived(connection, "resp_of_a_person").pk)
    assert ScriptedEngine.discarded == []
    assert not WebhookDelivery.objects.filter(handled_at=None).exists()


def test_an_upstream_that_is_away_is_asked_again_by_the_sweep(connection: Connection) -> None:
    run, attempt = started_run(connection)
    ScriptedEngine.known["resp_1"] = None
    delivery = arrived(connection)
    adopt(delivery.pk)
    delivery.refresh_from_db()
    assert delivery.handled_at is None
    found(attempt)
    WebhookDelivery.objects.update(received_at=timezone.now() - timedelta(minutes=2))
    sweep()
    assert is_due(run)


def test_old_deliveries_are_forgotten(connection: Connection) -> None:
    arrived(connection)
    WebhookDelivery.objects.update(received_at=timezone.now() - timedelta(days=8))
    sweep()
    assert not WebhookDelivery.objects.exists()
