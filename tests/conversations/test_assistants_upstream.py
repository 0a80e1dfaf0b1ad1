"""Runs that another Assistants server answers, from the question to the rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.base import ContentFile

from assistant_manager.models import Connection, FileCopy, Model, ReleasePolicy
from assistant_manager.secrets import Secret
from assistant_manager.services import keep_file
from conversations.driver import Driver
from conversations.models import Run
from conversations.services import reviews, runs
from tests.conversations.driving import started, wait, wait_for, wait_until
from tests.engines.turns import WEATHER
from tests.factories import make_assistant, make_project, make_staff
from tests.fakes.upstream.running import Upstream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def connected(transactional_db: None, upstream: Upstream) -> Connection:
    """Every model leads to the fake's Assistants API."""
    connection = Connection.objects.create(
        name="Other server",
        kind="assistants",
        base_url=f"{upstream.url}/v1",
        key_1=Secret("sk-other-server-1"),
        options={"poll_seconds": 0.05},
    )
    Model.objects.update(connection=connection)
    return connection


def ask(script: dict[str, Any], **assistant: Any) -> Run:
    made = make_assistant(instructions=json.dumps(script), **assistant)
    return runs.ask(assistant=made, text="What is x?")


def begun(run: Run) -> Run:
    """Wait until the upstream's own run is on the rows: its thread and assistant are made before."""
    return wait_until(run, run.attempts.exclude(upstream_id="").exists)


def removed(upstream: Upstream) -> set[str]:
    """The nouns of which something was deleted upstream."""
    return {entry["path"].split("/")[2] for entry in upstream.journal("DELETE")}


def test_an_answer_is_on_the_rows_before_it_leaves_the_upstream(
    driver: Driver, upstream: Upstream
) -> None:
    run = wait(ask({"code": "solve()", "logs": "[1]", "answer": "x = 1"}), "completed")
    assert [step.type for step in run.steps.all()] == ["tool_calls", "message_creation"]
    answer = runs.answer_of(run)
    assert answer is not None
    assert answer.text == "x = 1"
    assert run.prompt_tokens > 0
    wait_for(lambda: removed(upstream) == {"threads", "assistants"})


def test_a_run_that_waits_for_its_functions_is_kept_upstream(
    driver: Driver, upstream: Upstream
) -> None:
    script = {"tools": [{"name": "get_weather", "arguments": {"place": "Bern"}}]}
    run = wait(ask(script, tools=[WEATHER]), "requires_action")
    [call] = runs.pending_calls(run)
    assert removed(upstream) == set()
    runs.submit_tool_outputs(run=run, outputs={call["id"]: "sunny"})
    run = wait(run, "completed")
    answer = runs.answer_of(run)
    assert answer is not None
    assert answer.text == "The tools say: sunny"
    assert len(upstream.journal("POST", "/runs")) == 1
    wait_for(lambda: removed(upstream) == {"threads", "assistants"})


def test_a_note_of_a_reviewer_is_answered_upstream(driver: Driver, upstream: Upstream) -> None:
    run = ask({"answer": "x = 1"}, release_policy=ReleasePolicy.AFTER_REVIEW)
    run = wait(run, "held")
    wait_for(lambda: hasattr(Run.objects.get(pk=run.pk), "review"))
    review = Run.objects.get(pk=run.pk).review
    reviews.ask_again(review=review, by=make_staff(run.project), note="Shorter, please.")
    wait_for(lambda: len(upstream.journal("POST", "/threads")) == 2)
    told = upstream.journal("POST", "/threads")[-1]["body"]["messages"]
    assert [message["content"] for message in told] == ["What is x?", "x = 1", "Shorter, please."]


def test_a_file_goes_up_once_and_what_code_wrote_is_ours(
    driver: Driver, upstream: Upstream, connected: Connection
) -> None:
    project = make_project()
    table = keep_file(
        project=project, upload=ContentFile(b"1,2"), filename="table.csv", purpose="assistants"
    )
    offered = {"code_interpreter": {"file_ids": [table.public_id]}}
    script = json.dumps({"code": "plot()", "image": "plot.png", "file": "result.csv"})
    assistant = make_assistant(project=project, instructions=script, tool_resources=offered)
    for _ in range(2):
        run = wait(runs.ask(assistant=assistant, text="Plot it."), "completed")

    assert FileCopy.objects.get(file=table).connection == connected
    assert len(upstream.journal("POST", "/files")) == 1
    answer = runs.answer_of(run)
    assert answer is not None
    picture, text = answer.content
    (note,) = text["text"]["annotations"]
    ours = {file.public_id: file for file in project.files.all()}
    assert ours[picture["image_file"]["file_id"]].read().startswith(b"\x89PNG")
    assert ours[note["file_path"]["file_id"]].filename == "result.csv"


def test_a_cancelled_run_is_stopped_and_removed_upstream(
    driver: Driver, upstream: Upstream
) -> None:
    run = begun(ask({"seconds": 3600}))
    runs.cancel_run(run=run)
    wait(run, "cancelled")
    assert len(upstream.journal("POST", "/cancel")) == 1
    assert removed(upstream) == {"threads", "assistants"}


def test_a_retired_upstream_fails_the_run_with_the_way_out(
    driver: Driver, upstream: Upstream
) -> None:
    upstream.retire("410")
    run = wait(ask({}), "failed")
    assert run.last_error is not None
    assert "retired on 26 August 2026" in run.last_error["message"]
    assert "kind “Responses API”" in run.last_error["message"]


def test_a_driver_that_stops_half_way_leaves_a_run_that_another_one_finishes(
    driver: Driver, upstream: Upstream
) -> None:
    run = started(ask({"seconds": 2, "answer": "still here"}))
    driver.stop()
    second = Driver()
    second.start()
    try:
        run = wait(run, "completed")
    finally:
        second.stop()
    answer = runs.answer_of(run)
    assert answer is not None
    assert answer.text == "still here"
    assert len(upstream.journal("POST", "/runs")) == 1
