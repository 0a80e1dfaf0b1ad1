from __future__ import annotations

from typing import Any

import openai
import pytest

from assistant_manager.models import Project
from conversations.models import Message, Run, Thread
from tests import factories
from tests.openai_api.http import Door


def test_a_thread_is_created_read_changed_and_deleted_by_the_sdk(sdk: Any) -> None:
    made = sdk.beta.threads.create(
        messages=[{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
        metadata={"topic": "algebra"},
    )
    assert (made.object, made.metadata) == ("thread", {"topic": "algebra"})
    assert made.id.startswith("thread_")
    assert sdk.beta.threads.retrieve(made.id) == made
    said = sdk.beta.threads.messages.list(made.id, order="asc")
    assert [message.content[0].text.value for message in said] == ["one", "two"]

    changed = sdk.beta.threads.update(made.id, metadata={"topic": "geometry"})
    assert changed.metadata == {"topic": "geometry"}

    gone = sdk.beta.threads.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "thread.deleted", True)
    with pytest.raises(openai.NotFoundError, match=f"No thread found with id '{made.id}'."):
        sdk.beta.threads.retrieve(made.id)


@pytest.mark.parametrize("body", [None, b"", b"{}", b" \n"])
def test_a_thread_needs_no_body(door: Door, body: bytes | None) -> None:
    answer = door("POST", "/v1/threads", body, headers={"Content-Type": "application/json"})
    assert answer.status == 200
    assert (answer.body["metadata"], answer.body["tool_resources"]) == ({}, {})


def test_there_is_no_list_of_threads(door: Door) -> None:
    answer = door("GET", "/v1/threads")
    assert answer.status == 405
    assert answer.error["code"] == "method_not_supported"
    assert answer.headers["Allow"] == "POST, OPTIONS"


def test_a_wrong_message_is_named_with_its_place(door: Door) -> None:
    answer = door("POST", "/v1/threads", {"messages": [{"role": "human", "content": "x"}]})
    assert answer.error == {
        "message": "Invalid value: 'human'. Supported values are: 'user' and 'assistant'.",
        "type": "invalid_request_error",
        "param": "messages[0].role",
        "code": "invalid_value",
    }
    assert not Thread.objects.exists()


def test_deleting_a_thread_takes_its_messages_and_runs(door: Door, project: Project) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    assert door("DELETE", f"/v1/threads/{run.thread.public_id}").status == 200
    assert not Run.objects.exists()
    assert not Message.objects.exists()
