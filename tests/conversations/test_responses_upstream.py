"""Runs that a Responses API answers, from the question to the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.base import ContentFile

from assistant_manager.models import Connection, File, FileCopy, Model, Project, ReleasePolicy
from assistant_manager.secrets import Secret
from assistant_manager.services import keep_file
from conversations.driver import Driver
from conversations.models import Message, Review, Run
from conversations.services import reviews, runs
from conversations.services.threads import NewMessage, text_content
from tests.conversations.driving import started, wait, wait_until
from tests.engines.turns import CODE, WEATHER
from tests.factories import make_assistant, make_staff, make_thread
from tests.fakes.upstream.files import PNG
from tests.fakes.upstream.running import Upstream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def connected(transactional_db: None, upstream: Upstream) -> Connection:
    """Every model leads to the fake's Responses API."""
    connection = Connection.objects.create(
        name="Responses server",
        kind="responses",
        base_url=f"{upstream.url}/v1",
        key_1=Secret("sk-responses-server-1"),
        options={"poll_seconds": 0.05, "image_file_ids": True},
    )
    Model.objects.update(connection=connection)
    return connection


@pytest.fixture(autouse=True)
def every_body_is_valid(upstream: Upstream) -> Iterator[None]:
    yield
    assert upstream.violations() == []


def ask(project: Project, script: dict[str, Any], **assistant: Any) -> Run:
    made = make_assistant(project=project, instructions=json.dumps(script), **assistant)
    return runs.ask(assistant=made, text="What is x?")


def answer(run: Run) -> Message:
    message = runs.answer_of(run)
    assert message is not None
    return message


def stored(project: Project, name: str, content: bytes) -> File:
    return keep_file(
        project=project, upload=ContentFile(content), filename=name, purpose="assistants"
    )


def creates(upstream: Upstream) -> list[dict[str, Any]]:
    return [entry["body"] for entry in upstream.journal("POST", "/responses")]


def test_code_answer_and_files_are_on_the_rows(
    driver: Driver, project: Project, upstream: Upstream
) -> None:
    link = "sandbox:/mnt/data/out.csv"
    script = {
        "code": "plot(x)",
        "logs": "drawn",
        "plot": True,
        "answer": f"See {link} 🙏",
        "file": "out.csv",
        "image": "plot.png",
        "usage": {"input_tokens": 20, "output_tokens": 5},
    }
    run = wait(ask(project, script), "completed")
    assert (run.prompt_tokens, run.completion_tokens) == (20, 5)
    [call] = run.steps.all()[0].calls
    logs, drawn = call["code_interpreter"]["outputs"]
    assert logs == {"type": "logs", "logs": "drawn"}
    picture, text = answer(run).content
    [annotation] = text["text"]["annotations"]
    assert annotation["text"] == link
    kept = {
        picture["image_file"]["file_id"]: PNG,
        drawn["image"]["file_id"]: PNG,
        annotation["file_path"]["file_id"]: b"The contents of out.csv\n",
    }
    for id, content in kept.items():
        assert File.objects.get(public_id=id).read() == content
    wait_until(run, lambda: bool(upstream.journal("DELETE")))


def test_a_citation_names_our_file_and_can_be_replaced(driver: Driver, project: Project) -> None:
    notes = stored(project, "notes.txt", b"Seven it is.")
    script = {"answer": "x = 7.", "citations": [{"file": 0, "at": 5}]}
    tools = [{"type": "file_search"}]
    assistant = make_assistant(project=project, instructions=json.dumps(script), tools=tools)
    attachment = {"file_id": notes.public_id, "tools": tools}
    question: NewMessage = {
        "role": "user",
        "content": text_content("What is x?"),
        "attachments": [attachment],
    }
    thread = make_thread(project=project)
    run = runs.request_run(thread=thread, assistant=assistant, additional_messages=[question])
    run = wait(run, "completed")
    [part] = answer(run).content
    [annotation] = part["text"]["annotations"]
    assert annotation["file_citation"]["file_id"] == notes.public_id
    assert part["text"]["value"].replace(annotation["text"], "") == "x = 7."


def test_functions_are_answered_by_the_client_and_all_tokens_are_counted(
    driver: Driver, project: Project, upstream: Upstream
) -> None:
    script = {
        "reasoning": True,
        "tools": [{"name": "get_weather", "arguments": {"place": "Bern"}}],
        "usage": {"input_tokens": 20, "output_tokens": 5},
    }
    run = ask(project, script, tools=[CODE, WEATHER])
    run = wait(run, "requires_action")
    [call] = runs.pending_calls(run)
    runs.submit_tool_outputs(run=run, outputs={call["id"]: "sunny"})
    run = wait(run, "completed")
    assert answer(run).text == "The tools say: sunny"
    assert (run.prompt_tokens, run.completion_tokens) == (40, 10)
    assert len(creates(upstream)) == 2


def test_a_file_goes_up_once_and_is_known_to_the_next_driver(
    driver: Driver, project: Project, upstream: Upstream
) -> None:
    table = stored(project, "table.csv", b"1,2,3")
    offered = {"code_interpreter": {"file_ids": [table.public_id]}}
    wait(ask(project, {}, tool_resources=offered), "completed")
    driver.stop()
    second = Driver()
    second.start()
    try:
        wait(ask(project, {}, tool_resources=offered), "completed")
    finally:
        second.stop()
    copy = FileCopy.objects.get(file=table)
    containers = [body["tools"][0]["container"]["file_ids"] for body in creates(upstream)]
    assert containers == [[copy.upstream_id]] * 2
    assert len(upstream.journal("POST", "/files")) == 1


def test_another_driver_goes_on_looking_and_asks_nothing_twice(
    driver: Driver, project: Project, upstream: Upstream
) -> None:
    run = started(ask(project, {"seconds": 2}))
    driver.stop()
    second = Driver()
    second.start()
    try:
        run = wait(run, "completed")
    finally:
        second.stop()
    assert run.attempts.count() == 1
    assert len(creates(upstream)) == 1


def test_a_cancelled_run_is_cancelled_upstream(
    driver: Driver, project: Project, upstream: Upstream
) -> None:
    run = ask(project, {"seconds": 3600})
    started(run)
    runs.cancel_run(run=run)
    wait(run, "cancelled")
    assert [entry["status"] for entry in upstream.journal("POST", "/cancel")] == [200]


def test_a_reviewers_note_reaches_the_model_with_the_answer_it_is_about(
    driver: Driver, project: Project, upstream: Upstream
) -> None:
    script = {"answer": "x = 1", "code": "print(1)", "reasoning": True}
    run = ask(project, script, release_policy=ReleasePolicy.AFTER_REVIEW)
    run = wait(run, "held")
    wait_until(run, Review.objects.filter(run=run).exists)
    staff = make_staff(project)
    reviews.ask_again(review=Review.objects.get(run=run), by=staff, note="Show the way.")
    wait_until(run, lambda: run.status == "held" and run.attempt == 2)
    said = creates(upstream)[1]["input"]
    assert (said[-2]["role"], said[-2]["content"]) == ("assistant", "x = 1")
    assert "Show the way." in said[-1]["content"]


def test_what_was_written_before_a_cut_is_an_incomplete_message(
    driver: Driver, project: Project
) -> None:
    run = wait(ask(project, {"status": "incomplete", "answer": "x is"}), "incomplete")
    assert run.incomplete_reason == "max_completion_tokens"
    [message] = run.messages.all()
    assert (message.text, message.status) == ("x is", "incomplete")
    assert message.incomplete_reason == "max_tokens"
