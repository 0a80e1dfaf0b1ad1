"""Many runs that wait for one connection: what it means for the others, and for the database."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.models import Connection, Model
from conversations.driver import Driver
from conversations.models import Run
from conversations.services import runs
from tests.conversations.driving import ask, wait, wait_until
from tests.factories import make_assistant
from tests.fakes.engine import KIND

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("scripted"),
    pytest.mark.timeout(300),
]

CAPACITY = 20


@pytest.fixture
def crowd() -> list[Run]:
    """More runs than a driver takes up, all for a connection that takes none."""
    hour = timezone.now() + timedelta(hours=1)
    paused = Connection.objects.create(
        name="Paused", kind=KIND, paused_until=hour, pause_reason="No credit."
    )
    Model.objects.create(name="paused", connection=paused)
    assistant = make_assistant(instructions=json.dumps({}), model="paused")
    return [runs.ask(assistant=assistant, text="What is x?") for _ in range(3 * CAPACITY)]


def test_runs_that_wait_for_one_connection_keep_nobody_from_another(crowd: list[Run]) -> None:
    driver = Driver(capacity=CAPACITY)
    driver.start()
    try:
        wait_until(crowd[0], lambda: crowd[0].waiting_for == "No credit.")
        wait(ask(), "completed")
    finally:
        driver.stop()


def test_whoever_waits_outside_is_let_in_in_turn(crowd: list[Run], settings: Settings) -> None:
    settings.DRIVER_LEASE_SECONDS = 3
    driver = Driver(capacity=CAPACITY)
    driver.start()
    try:
        wait_until(crowd[0], lambda: crowd[0].waiting_for == "No credit.")
        Connection.objects.update(paused_until=None, pause_reason="")
        for run in crowd:
            wait(run, "completed")
    finally:
        driver.stop()


def test_runs_that_wait_outside_expire_and_can_be_cancelled(crowd: list[Run]) -> None:
    driver = Driver(capacity=CAPACITY)
    driver.start()
    try:
        wait_until(crowd[0], lambda: crowd[0].waiting_for == "No credit.")
        outside = list(Run.objects.filter(leased_by=None).order_by("-pk")[:2])
        assert len(outside) == 2
        runs.cancel_run(run=outside[0])
        wait(outside[0], "cancelled")
        Run.objects.filter(pk=outside[1].pk).update(expires_at=timezone.now())
        wait(outside[1], "expired")
    finally:
        driver.stop()
