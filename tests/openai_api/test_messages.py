from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from django.core.files.base import ContentFile

from assistant_manager.models import File, Project
from assistant_manager.services import keep_file
from conversations.models import Message, RunStatus, Thread
from tests import factories
from tests.openai_api.http import Door


def make_file(project: Project) -> File:
    return keep_file(
        project=project, upload=ContentFile(b"1,2\n"), filename="a.csv", purpose="assistants"
    )


def test_a_message_is_created_read_changed_and_deleted_by_the_sdk(
    sdk: Any, thread: Thread, project: Project
) -> None:
    file = make_file(project)
    made = sdk.beta.threads.messages.create(
        thread.public_id,
        role="user",
        content="What is in here?",
        attachments=[{"file_id": file.public_id, "tools": [{"type": "code_interpreter"}]}],
        metadata={"a": "b"},
    )
    assert made.content[0].text.value == "What is in here?"
    assert (made.status, made.run_id, made.assistant_id) == ("completed", None, None)
    assert made.attachments[0].file_id == file.public_id
    assert sdk.beta.threads.messages.retrieve(made.id, thread_id=thread.public_id) == made
    resources = sdk.beta.threads.retrieve(thread.public_id).tool_resources
    assert resources.code_interpreter.file_ids == [file.public_id]

    changed = sdk.beta.threads.messages.update(made.id, thread_id=thread.public_id, metadata=None)
    assert changed.metadata == {}

    gone = sdk.beta.threads.messages.delete(made.id, thread_id=thread.public_id)
    assert (gone.id, gone.object) == (made.id, "thread.message.deleted")
    with pytest.raises(openai.NotFoundError, match=f"No message found with id '{made.id}'."):
        sdk.beta.threads.messages.retrieve(made.id, thread_id=thread.public_id)


def test_an_attachment_for_no_tool_names_none(door: Door, thread: Thread, project: Project) -> None:
    attachment = {"file_id": make_file(project).public_id}
    answer = door(
        "POST",
        f"/v1/threads/{thread.public_id}/messages",
        {"role": "user", "content": "x", "attachments": [attachment | {"tools": None}]},
    )
    assert answer.body["attachments"] == [attachment]


def test_content_parts_are_stored_in_the_answers_shape(
    sdk: Any, thread: Thread, project: Project
) -> None:
    file = make_file(project)
    made = sdk.beta.threads.messages.create(
        thread.public_id,
        role="user",
        content=[
            {"type": "text", "text": "Look:"},
            {"type": "image_file", "image_file": {"file_id": file.public_id}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ],
    )
    assert [part.to_dict() for part in made.content] == [
        {"type": "text", "text": {"value": "Look:", "annotations": []}},
        {"type": "image_file", "image_file": {"file_id": file.public_id, "detail": "auto"}},
        {
            "type": "image_url",
            "image_url": {"url": "https://example.org/a.png", "detail": "auto"},
        },
    ]


def test_the_newest_message_comes_first_and_pages_lead_on(sdk: Any, thread: Thread) -> None:
    for number in range(5):
        factories.make_message(thread=thread, text=str(number))

    def texts(**options: Any) -> list[str]:
        page = sdk.beta.threads.messages.list(thread.public_id, **options)
        return [message.content[0].text.value for message in page.data]

    everything = list(sdk.beta.threads.messages.list(thread.public_id, limit=2))
    assert [message.content[0].text.value for message in everything] == ["4", "3", "2", "1", "0"]
    ids = {message.content[0].text.value: message.id for message in everything}
    assert texts(order="asc", limit=2) == ["0", "1"]
    assert texts(order="asc", after=ids["1"], limit=2) == ["2", "3"]
    assert texts(order="asc", before=ids["3"], limit=2) == ["1", "2"]
    assert texts(order="desc", before=ids["1"], limit=2) == ["3", "2"]
    assert texts(after=ids["4"], before=ids["1"]) == ["3", "2"]


def test_a_page_says_whether_there_is_more(door: Door, thread: Thread) -> None:
    path = f"/v1/threads/{thread.public_id}/messages"
    assert door("GET", path).body == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    first, second = (factories.make_message(thread=thread) for _ in range(2))
    page = door("GET", f"{path}?limit=1").body
    assert (page["first_id"], page["last_id"], page["has_more"]) == (
        second.public_id,
        second.public_id,
        True,
    )
    page = door("GET", f"{path}?limit=1&after={second.public_id}").body
    assert (page["first_id"], page["has_more"]) == (first.public_id, False)


@pytest.mark.parametrize(
    ("query", "status", "param", "text"),
    [
        (
            "limit=101",
            400,
            "limit",
            "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 "
            "instead.",
        ),
        (
            "limit=0",
            400,
            "limit",
            "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 "
            "instead.",
        ),
        (
            "limit=ten",
            400,
            "limit",
            "Invalid type for 'limit': expected an integer, but got a string instead.",
        ),
        (
            "order=up",
            400,
            "order",
            "Invalid value: 'up'. Supported values are: 'asc' and 'desc'.",
        ),
        ("page=2", 400, "page", "Unknown parameter: 'page'."),
        (
            "after=undefined",
            400,
            "after",
            "Invalid 'after': 'undefined'. Expected an ID that begins with 'msg'.",
        ),
        ("after=msg_none", 404, None, "No message found with id 'msg_none'."),
        (
            "run_id=x",
            400,
            "run_id",
            "Invalid 'run_id': 'x'. Expected an ID that begins with 'run'.",
        ),
        ("order=a%00", 400, None, "Query parameters may not hold NUL characters."),
    ],
)
def test_a_wrong_parameter_is_named(
    door: Door, thread: Thread, query: str, status: int, param: str | None, text: str
) -> None:
    answer = door("GET", f"/v1/threads/{thread.public_id}/messages?{query}")
    assert answer.status == status
    assert (answer.error["param"], answer.error["message"]) == (param, text)


def test_messages_of_one_run_can_be_asked_for(sdk: Any, project: Project) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project), status=RunStatus.COMPLETED
    )
    answer = factories.make_message(thread=run.thread, role="assistant", text="x = 1")
    Message.objects.filter(pk=answer.pk).update(run=run, assistant=run.assistant)
    listed = sdk.beta.threads.messages.list(run.thread.public_id, run_id=run.public_id).data
    assert [message.id for message in listed] == [answer.public_id]
    assert (listed[0].run_id, listed[0].assistant_id) == (
        run.public_id,
        run.assistant.public_id,
    )
    assert not sdk.beta.threads.messages.list(run.thread.public_id, run_id="run_none").data


def test_a_held_answer_is_not_there(door: Door, project: Project) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project), status=RunStatus.HELD
    )
    answer = factories.make_message(thread=run.thread, role="assistant", text="secret")
    Message.objects.filter(pk=answer.pk).update(run=run, released_at=None)
    path = f"/v1/threads/{run.thread.public_id}/messages"
    assert len(door("GET", path).body["data"]) == 1
    for method in ("GET", "POST", "DELETE"):
        assert door(method, f"{path}/{answer.public_id}").status == 404
    assert door("GET", f"{path}?after={answer.public_id}").status == 404


def test_a_busy_thread_takes_no_message(sdk: Any, project: Project) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    thread = run.thread.public_id
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.beta.threads.messages.create(thread, role="user", content="and now?")
    assert refused.value.body["message"] == (
        f"Can't add messages to {thread} while a run {run.public_id} is active."
    )
    assert (refused.value.code, refused.value.param) == (None, None)


def test_the_quickstarts_question_arrives_whole(door: Door, thread: Thread) -> None:
    body = b'{"role": "user", "content": "I need to solve the equation `3x + 11 = 14`."}'
    answer = door(
        "POST",
        f"/openai/threads/{thread.public_id}/messages",
        body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.body["content"][0]["text"]["value"].endswith("`3x + 11 = 14`.")


@pytest.mark.parametrize(
    ("content", "param", "code"),
    [
        ("", "content", "string_below_min_length"),
        ("x" * 256_001, "content", "string_above_max_length"),
        ([], "content", "array_below_min_length"),
        (7, "content", "invalid_type"),
        ([{"type": "text", "text": {"value": "x"}}], "content[0].text", "invalid_type"),
        ([{"type": "audio"}], "content[0].type", "invalid_value"),
        (
            [{"type": "image_file", "image_file": {"file_id": "file-none"}}],
            "content[0].image_file.file_id",
            None,
        ),
    ],
)
def test_wrong_content_is_named(
    door: Door, thread: Thread, content: Any, param: str, code: str | None
) -> None:
    answer = door(
        "POST",
        f"/v1/threads/{thread.public_id}/messages",
        {"role": "user", "content": content},
    )
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == (param, code)
    assert not Message.objects.exists()


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800", "\\udc00\\ud800"])
def test_text_that_no_database_stores_is_refused(door: Door, thread: Thread, escape: str) -> None:
    body = f'{{"role": "user", "content": [{{"type": "text", "text": "a{escape}b"}}]}}'.encode()
    answer = door("POST", f"/v1/threads/{thread.public_id}/messages", body)
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == ("content[0].text", "invalid_value")


@pytest.mark.parametrize("text", ["😀", "\\u0000 spelt out", "naïve ünïcode\r\n\t"])
def test_every_other_text_comes_back_as_it_was(door: Door, thread: Thread, text: str) -> None:
    path = f"/v1/threads/{thread.public_id}/messages"
    for ascii_only in (True, False):  # old clients escape every character beyond ASCII
        sent = json.dumps({"role": "user", "content": text}, ensure_ascii=ascii_only)
        answer = door("POST", path, sent.encode())
        assert answer.body["content"][0]["text"]["value"] == text
