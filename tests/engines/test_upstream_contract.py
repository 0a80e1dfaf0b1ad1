"""What every engine with an upstream promises whoever asks: the same stories for each, from the
question to the row, with the driver, over real HTTP, whatever the upstream does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.models import Connection, Model
from assistant_manager.secrets import Secret
from conversations.driver import Driver
from conversations.exceptions import NotCancellable
from conversations.models import Run
from conversations.services import runs
from tests.conversations.driving import wait, wait_until
from tests.engines.turns import WEATHER
from tests.factories import make_assistant
from tests.fakes.upstream.running import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

WAYS = {
    "listening": ("responses", {"listen": True}),
    "polling": ("responses", {"listen": False, "poll_seconds": 0.05}),
    "chat": ("chat", {}),
    "assistants": ("assistants", {"poll_seconds": 0.05}),
}
FIRST, SECOND = "sk-first-000000001111", "sk-second-00000002222"
PATIENCE = 60
LONG = 600
"""Seconds an upstream works on what is to be interrupted."""


@pytest.fixture(params=WAYS, autouse=True)
def connection(
    request: pytest.FixtureRequest, transactional_db: None, upstream: Upstream
) -> Connection:
    """Every model leads to the fake, by one engine after the other."""
    kind, options = WAYS[request.param]
    connection = Connection.objects.create(
        name="Vendor",
        kind=kind,
        base_url=f"{upstream.url}/v1",
        key_1=Secret(FIRST),
        key_2=Secret(SECOND),
        options=options,
    )
    Model.objects.update(connection=connection)
    return connection


def ask(offered: list[Any] | None = None, **script: Any) -> Run:
    assistant = make_assistant(instructions=json.dumps(script), tools=offered or [])
    return runs.ask(assistant=assistant, text="What is x?")


def troubled(*faults: str | None, **script: Any) -> Run:
    """A question whose creates upstream meet these faults, one each."""
    return ask(id="troubled", faults=list(faults), **script)


def ended(run: Run, status: str) -> Run:
    return wait(run, status, seconds=PATIENCE)


def answers(run: Run) -> list[str]:
    return [message.text for message in run.messages.order_by("pk")]


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def calls(run: Run) -> list[dict[str, Any]]:
    return runs.pending_calls(run)


# --- answers and tools --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["x = 1", "数学 🙏🏽 — «x = ½»\u2028\r\n\tend", "\N{FAMILY} é e\u0301 🇨🇭" * 50]
)
def test_an_answer_arrives_as_it_was_written(driver: Driver, text: str) -> None:
    run = ended(ask(answer=text), "completed")
    assert answers(run) == [text]
    assert run.prompt_tokens
    assert run.completion_tokens


def test_a_question_may_be_anything_that_can_be_typed(driver: Driver, upstream: Upstream) -> None:
    question = "Решите 3x + 11 = 14 🙏 \"quoted\" \\n <b>&amp;</b> {json: 'no'} \u202e"
    run = runs.ask(assistant=make_assistant(instructions="{}", tools=[]), text=question)
    ended(run, "completed")
    assert json.dumps(question)[1:-1] in json.dumps(upstream.journal("POST"))


def test_a_function_waits_for_its_output_and_then_answers(driver: Driver) -> None:
    asked = [{"name": "get_weather", "arguments": {"place": "Zürich ☔"}}]
    run = ended(ask([WEATHER], tools=asked), "requires_action")
    [call] = calls(run)
    assert json.loads(call["function"]["arguments"]) == {"place": "Zürich ☔"}
    runs.submit_tool_outputs(run=run, outputs={call["id"]: "sunny 🌞"})
    assert answers(ended(run, "completed")) == ["The tools say: sunny 🌞"]


def test_functions_called_together_are_answered_together(driver: Driver) -> None:
    asked = [{"name": "get_weather", "arguments": {"place": place}} for place in ("Bern", "Genf")]
    run = ended(ask([WEATHER], tools=asked), "requires_action")
    places = [json.loads(call["function"]["arguments"])["place"] for call in calls(run)]
    assert places == ["Bern", "Genf"]
    assert len({call["id"] for call in calls(run)}) == 2
    outputs = {call["id"]: place.upper() for call, place in zip(calls(run), places, strict=True)}
    runs.submit_tool_outputs(run=run, outputs=outputs)
    run = ended(run, "completed")
    assert answers(run) == ["The tools say: BERN, GENF"]
    assert run.steps.filter(type="tool_calls").count() == 1


def test_a_refusal_of_the_model_is_its_answer(driver: Driver) -> None:
    assert answers(ended(ask(refusal="I would rather not."), "completed")) == [
        "I would rather not."
    ]


def test_an_upstream_that_does_not_count_is_not_counted_for(driver: Driver) -> None:
    run = ended(ask(usage=None), "completed")
    assert (run.prompt_tokens, run.completion_tokens) == (None, None)


# --- ends -----------------------------------------------------------------------------------


def test_cancelled_before_it_was_sent_it_is_never_sent(
    connection: Connection, driver: Driver, upstream: Upstream
) -> None:
    hour = timezone.now() + timedelta(hours=1)
    Connection.objects.update(paused_until=hour, pause_reason="Waiting until 10:42.")
    run = ask()
    wait_until(run, lambda: run.waiting_for == "Waiting until 10:42.", seconds=PATIENCE)
    runs.cancel_run(run=run)
    ended(run, "cancelled")
    assert upstream.journal("POST") == []


def test_cancelled_while_it_is_written_it_stops_upstream_as_well(
    driver: Driver, upstream: Upstream
) -> None:
    run = ask(seconds=LONG)
    eventually(lambda: upstream.counts()["accepted"])
    runs.cancel_run(run=run)
    run = ended(run, "cancelled")
    eventually(lambda: was_stopped(upstream))
    assert [message.status for message in run.messages.all() if message.status == "completed"] == []


def was_stopped(upstream: Upstream) -> bool:
    """The upstream was told to stop, or the line it wrote to was closed (499)."""
    return any(
        entry["path"].endswith("/cancel") or entry["status"] == 499
        for entry in upstream.journal("POST")
    )


def test_cancelled_after_its_end_it_stays_as_it_is(driver: Driver) -> None:
    run = ended(ask(), "completed")
    with pytest.raises(NotCancellable):
        runs.cancel_run(run=run)
    run.refresh_from_db()
    assert (run.status, answers(run)) == ("completed", ["x = 1"])


def test_out_of_time_it_expires_and_stops_upstream_as_well(
    driver: Driver, upstream: Upstream, settings: Settings
) -> None:
    settings.RUN_LIFETIME_SECONDS = 3
    ended(ask(seconds=LONG), "expired")
    if upstream.counts()["accepted"]:  # a very slow machine may not have come so far
        eventually(lambda: was_stopped(upstream))


def test_a_failure_upstream_fails_the_run_with_a_reason(driver: Driver) -> None:
    error = {"code": "server_error", "message": "The model stumbled."}
    run = ended(ask(status="failed", error=error), "failed")
    assert run.last_error is not None
    assert run.last_error["code"] == "server_error"
    assert "The model stumbled." in run.last_error["message"]


def test_an_answer_cut_at_the_token_limit_is_incomplete(driver: Driver) -> None:
    run = ended(ask(status="incomplete", answer="x ="), "incomplete")
    assert run.incomplete_reason == "max_completion_tokens"
    [message] = run.messages.all()
    assert (message.text, message.status, message.incomplete_reason) == (
        "x =",
        "incomplete",
        "max_tokens",
    )


# --- troubles -------------------------------------------------------------------------------


def test_a_rate_limit_is_waited_out_as_long_as_was_asked(
    driver: Driver, upstream: Upstream
) -> None:
    began = time.monotonic()
    run = ended(troubled("429", retry_after=1), "completed")
    assert time.monotonic() - began >= 1
    assert answers(run) == ["x = 1"]
    assert upstream.counts()["accepted"] == 1


def test_without_credit_the_run_fails_and_the_connection_rests(
    connection: Connection, driver: Driver
) -> None:
    run = ended(troubled("billing"), "failed")
    assert run.last_error is not None
    assert run.last_error["code"] == "rate_limit_exceeded"
    eventually(lambda: Connection.objects.filter(pause_reason__contains="no credit left").exists())


@pytest.mark.parametrize("fault", ["500", "503", "cut_before", "html", "garbage"])
def test_what_was_not_taken_is_asked_once_more(
    driver: Driver, upstream: Upstream, fault: str
) -> None:
    run = ended(troubled(fault), "completed")
    assert answers(run) == ["x = 1"]
    assert upstream.counts()["accepted"] == 1


@pytest.mark.parametrize("fault", ["cut_after", "500_after", "cut_middle"])
def test_what_may_have_been_taken_is_answered_once(
    driver: Driver, upstream: Upstream, fault: str
) -> None:
    run = ended(troubled(fault), "completed")
    assert answers(run) == ["x = 1"]
    assert upstream.counts()["accepted"] <= 2


def test_a_slow_reply_is_waited_for(driver: Driver, upstream: Upstream) -> None:
    run = ended(troubled("slow", delay=1.5), "completed")
    assert answers(run) == ["x = 1"]
    assert upstream.counts()["accepted"] == 1


def test_with_one_key_refused_the_other_is_used_and_the_row_says_so(
    connection: Connection, driver: Driver, upstream: Upstream
) -> None:
    upstream.revoke(FIRST)
    assert answers(ended(ask(), "completed")) == ["x = 1"]
    eventually(lambda: Connection.objects.filter(key_in_use=2).exists())
    connection.refresh_from_db()
    assert connection.key_note.startswith("Key 1 was refused on ")


def test_with_both_keys_refused_the_run_fails_and_names_neither(
    driver: Driver, upstream: Upstream
) -> None:
    upstream.revoke(FIRST)
    upstream.revoke(SECOND)
    run = ended(ask(), "failed")
    assert run.last_error is not None
    assert "does not accept the keys" in run.last_error["message"]
    assert FIRST not in str(run.last_error)
    assert SECOND not in str(run.last_error)


def test_every_request_keeps_to_the_vendors_schema(driver: Driver, upstream: Upstream) -> None:
    ended(ask([WEATHER, {"type": "code_interpreter"}], answer="x = 1"), "completed")
    assert upstream.violations() == []
