"""Runs that a Chat Completions server answers, from the question to the rows."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.models import Connection, Model
from assistant_manager.secrets import Secret
from assistant_manager.services import keep_file
from conversations.driver import Driver
from conversations.models import Run, RunEvent
from conversations.services import runs
from tests.conversations.driving import wait, wait_until
from tests.engines.turns import CODE, WEATHER
from tests.factories import make_assistant, make_project
from tests.fakes.upstream.running import Upstream

pytestmark = pytest.mark.django_db(transaction=True)

STORY = "Once upon a time there was an equation. " * 20


@pytest.fixture(autouse=True)
def connected(transactional_db: None, upstream: Upstream, settings: Settings) -> Connection:
    """Every model leads to the fake's Chat Completions. No lease lapses: who takes a run up again
    asks again, which is counted here."""
    settings.DRIVER_LEASE_SECONDS = 60
    connection = Connection.objects.create(
        name="Chat server",
        kind="chat",
        base_url=f"{upstream.url}/v1",
        key_1=Secret("sk-chat-server-1"),
        options={"token_limit": "max_tokens"},
    )
    Model.objects.update(connection=connection)
    return connection


def ask(script: dict[str, Any], **assistant: Any) -> Run:
    made = make_assistant(instructions=json.dumps(script), **assistant)
    return runs.ask(assistant=made, text="What is x?")


def answer(run: Run) -> str:
    message = runs.answer_of(run)
    assert message is not None
    return message.text


def deltas(run: Run) -> list[RunEvent]:
    return list(run.events.filter(type="thread.message.delta"))


def asked(upstream: Upstream) -> int:
    return len(upstream.journal("POST", "/chat/completions"))


def test_code_and_answer_are_on_the_rows(driver: Driver) -> None:
    run = wait(ask({"code": "6 * 7"}), "completed")
    assert [step.type for step in run.steps.all()] == ["tool_calls", "message_creation"]
    [call] = run.steps.all()[0].calls
    assert call["code_interpreter"]["input"] == "6 * 7"
    assert call["code_interpreter"]["outputs"] == [{"type": "logs", "logs": "42"}]
    assert answer(run) == "x = 1 42"
    assert run.prompt_tokens > 0


def test_text_is_told_as_it_grows(driver: Driver) -> None:
    run = wait(ask({"answer": STORY, "seconds": 2}), "completed")
    assert "".join(event.data["text"] for event in deltas(run)) == answer(run) == STORY


def test_functions_are_answered_by_the_client(driver: Driver, upstream: Upstream) -> None:
    tools = [{"name": "get_weather", "arguments": {"place": "Bern"}}]
    run = ask({"code": "n = 1", "tools": tools}, tools=[CODE, WEATHER])
    run = wait(run, "requires_action")
    [call] = runs.pending_calls(run)
    runs.submit_tool_outputs(run=run, outputs={call["id"]: "sunny"})
    run = wait(run, "completed")
    assert answer(run).startswith("The tools say: sunny")
    assert asked(upstream) == 2


def test_files_of_the_assistant_are_there_for_its_code(driver: Driver) -> None:
    project = make_project()
    content = ContentFile(b"1,2,3")
    table = keep_file(project=project, upload=content, filename="table.csv", purpose="assistants")
    offered = {"code_interpreter": {"file_ids": [table.public_id]}}
    script = {"code": "open('table.csv').read()"}
    run = wait(ask(script, project=project, tool_resources=offered), "completed")
    assert "1,2,3" in answer(run)


def test_what_code_has_made_is_kept_with_the_answer(driver: Driver) -> None:
    source = "import matplotlib.pyplot as plt; plt.plot([1]); _ = open('out.csv', 'w').write('1')"
    run = wait(ask({"code": source, "answer": "See sandbox:/mnt/data/out.csv"}), "completed")
    message = runs.answer_of(run)
    assert message is not None
    picture, text = message.content
    ours = {file.public_id: file for file in run.project.files.all()}
    assert ours[picture["image_file"]["file_id"]].read().startswith(b"\x89PNG")
    (note,) = text["text"]["annotations"]
    assert ours[note["file_path"]["file_id"]].read() == b"1"


def test_another_driver_goes_on_after_the_last_step(driver: Driver, upstream: Upstream) -> None:
    run = ask({"code": "n = globals().get('n', 0) + 1; n", "code_rounds": 3, "seconds": 1})
    done = run.steps.filter(status="completed")
    wait_until(run, lambda: done.count() >= 2)
    driver.stop()
    before = asked(upstream)
    second = Driver()
    second.start()
    try:
        run = wait(run, "completed")
    finally:
        second.stop()
    outputs = [step.calls[0]["code_interpreter"]["outputs"] for step in run.steps.all()[:3]]
    assert [output[0]["logs"] for output in outputs] == ["1", "2", "3"]
    assert run.attempts.count() == 1
    assert asked(upstream) - before <= 2


def test_a_cancelled_run_ends_while_the_model_still_writes(driver: Driver) -> None:
    run = ask({"answer": STORY, "seconds": 60})
    run = wait_until(run, lambda: len(deltas(run)) > 1)
    runs.cancel_run(run=run)
    run = wait(run, "cancelled")
    assert [message.status for message in run.messages.all()] == ["incomplete"]


def test_a_driver_that_has_lost_its_run_asks_no_more(driver: Driver, upstream: Upstream) -> None:
    run = ask({"answer": STORY, "seconds": 60})
    run = wait_until(run, lambda: len(deltas(run)) > 1)
    leased = timezone.now() + timedelta(hours=1)
    Run.objects.filter(pk=run.pk).update(leased_by="another", lease_expires_at=leased)

    def closed() -> bool:
        return upstream.journal("POST", "/chat/completions")[0]["status"] not in (None, 200)

    wait_until(run, closed)
    assert asked(upstream) == 1


def test_trouble_is_waited_out(driver: Driver, upstream: Upstream) -> None:
    faults = ["429", "cut_middle", "500"]
    run = ask({"id": "waited-out", "answer": STORY, "faults": faults})
    run = wait(run, "completed")
    assert answer(run) == STORY
    assert run.messages.count() == 1
    assert run.attempts.count() == 1
    assert asked(upstream) == 4
