"""What is asked most is answered by a shortcut, in one statement: exactly as the long way would."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assistant_manager.models import ApiKey, Assistant, Project, ReleasePolicy
from conversations.models import Message, Run, RunStatus, RunStep, Thread
from conversations.models.steps import StepType
from conversations.models.threads import MessageStatus
from tests import factories
from tests.openai_api.http import Answer, Door


def both_ways(door: Door, path: str, **options: Any) -> tuple[Answer, Answer]:
    """The answers of the long way, which a key takes that was not used lately, and of the next
    request; the queries of the second are checked to be one."""
    ApiKey.objects.update(last_used_at=None)
    slow = door("GET", path, **options)
    with CaptureQueriesContext(connection) as queries:
        quick = door("GET", path, **options)
    assert len(queries) == 1, [query["sql"] for query in queries]
    return slow, quick


def assert_alike(slow: Answer, quick: Answer) -> None:
    assert quick.status == slow.status == 200
    assert quick.body == slow.body
    assert list(quick.body) == list(slow.body)
    told = "openai-poll-after-ms"
    assert quick.headers.get(told) == slow.headers.get(told)


ENDED: dict[str, Any] = {"expires_at": None, "due_at": None, "ended_at": timezone.now()}
RUNS: dict[str, dict[str, Any]] = {
    "queued": {},
    "in progress": {"status": RunStatus.IN_PROGRESS, "started_at": timezone.now()},
    "held": {
        "status": RunStatus.HELD,
        "outcome": RunStatus.INCOMPLETE,
        "incomplete_reason": "max_prompt_tokens",
        "release_policy": ReleasePolicy.AFTER_REVIEW,
        "prompt_tokens": 7,
        "completion_tokens": 8,
    },
    "cancelling": {"status": RunStatus.CANCELLING},
    "cancelled": {"status": RunStatus.CANCELLED, "cancelled_at": timezone.now(), **ENDED},
    "completed": {
        "status": RunStatus.COMPLETED,
        "completed_at": timezone.now(),
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "metadata": {"ü": "ä\U0001f600"},
        "temperature": 0.1,
        "top_p": 1.0,
        "max_prompt_tokens": 256,
        "max_completion_tokens": 2_147_483_647,
        "truncation_strategy": {"type": "last_messages", "last_messages": 3},
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"big": 2**70}}}],
        "response_format": {"type": "json_object"},
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "tool_resources": {"code_interpreter": {"file_ids": ["file-1"]}},
        **ENDED,
    },
    "failed": {
        "status": RunStatus.FAILED,
        "failed_at": timezone.now(),
        "last_error": {"code": "server_error", "message": "no"},
        "prompt_tokens": 0,
        "completion_tokens": 0,
        **ENDED,
    },
    "incomplete": {
        "status": RunStatus.INCOMPLETE,
        "incomplete_reason": "max_completion_tokens",
        **ENDED,
    },
    "expired": {"status": RunStatus.EXPIRED, **ENDED},
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_looks_the_same_by_the_shortcut(door: Door, project: Project, kind: str) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project), **RUNS[kind])
    thread = run.thread.public_id
    assert_alike(*both_ways(door, f"/v1/threads/{thread}/runs/{run.public_id}"))
    assert_alike(*both_ways(door, f"/openai/threads/{thread}/runs/{run.public_id}"))


def test_a_run_that_waits_for_outputs_says_for_which(door: Door, project: Project) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project), status=RunStatus.REQUIRES_ACTION
    )
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    RunStep.objects.create(
        run=run,
        attempt=1,
        item="a",
        type=StepType.TOOL_CALLS,
        for_client=True,
        details={"type": "tool_calls", "tool_calls": [call]},
    )
    for _ in range(2):
        answer = door("GET", f"/v1/threads/{run.thread.public_id}/runs/{run.public_id}")
        calls = answer.body["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert [call["id"] for call in calls] == ["call_1"]


def test_a_run_past_its_time_ends_when_a_busy_program_looks(door: Door, project: Project) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    path = f"/v1/threads/{run.thread.public_id}/runs/{run.public_id}"
    assert door("GET", path).body["status"] == "queued"
    Run.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert door("GET", path).body["status"] == "expired"


@pytest.fixture
def conversation(assistant: Assistant, thread: Thread) -> Thread:
    """Messages of every sort, the last but one of them held."""
    now = timezone.now()
    run = factories.make_run(assistant=assistant, thread=thread, status=RunStatus.COMPLETED)
    for number in range(25):
        message = factories.make_message(thread=thread, text=f"number {number} ü\U0001f600")
    answer: dict[str, Any] = {"thread": thread, "run": run, "assistant": assistant}
    answer |= {"role": "assistant", "attempt": 1, "released_at": now}
    Message.objects.create(
        **answer,
        item="done",
        completed_at=now,
        content=[
            {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}},
            {"type": "text", "text": {"value": "x = 1", "annotations": [{"start_index": 0}]}},
        ],
    )
    Message.objects.create(
        **answer,
        item="cut",
        status=MessageStatus.INCOMPLETE,
        incomplete_at=now,
        incomplete_reason="run_failed",
    )
    Message.objects.create(**{**answer, "item": "held", "released_at": None})
    tool = {"file_id": "file-1", "tools": [{"type": "code_interpreter"}]}
    Message.objects.filter(pk=message.pk).update(attachments=[tool], metadata={"a": "b"})
    return thread


@pytest.mark.parametrize("query", ["", "?limit=1", "?limit=100&order=asc", "?order=desc&limit=27"])
def test_messages_look_the_same_by_the_shortcut(
    door: Door, conversation: Thread, query: str
) -> None:
    base = f"/threads/{conversation.public_id}/messages{query}"
    slow, quick = both_ways(door, f"/v1{base}")
    assert_alike(slow, quick)
    assert quick.body["has_more"] is (query in ("", "?limit=1"))
    assert_alike(*both_ways(door, f"/openai/v1{base}"))


def test_other_pages_are_the_same_for_a_busy_program(door: Door, conversation: Thread) -> None:
    base = f"/v1/threads/{conversation.public_id}/messages"
    listed = door("GET", f"{base}?limit=100").body["data"]
    third, last = listed[2]["id"], listed[-1]["id"]
    assert door("GET", f"{base}?after={third}&limit=3").body["data"] == listed[3:6]
    assert door("GET", f"{base}?before={third}").body["data"] == listed[:2]
    assert door("GET", f"{base}?after={last}").body["data"] == []
    of_run = [message for message in listed if message["run_id"]]
    path = f"{base}?run_id={of_run[0]['run_id']}"
    assert door("GET", path).body["data"] == of_run


@pytest.mark.parametrize("what", ["runs/{run}", "messages"])
def test_a_shortcut_asks_for_the_key_like_the_long_way(
    door: Door, project: Project, foreign_token: str, what: str
) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    path = f"/v1/threads/{run.thread.public_id}/{what.format(run=run.public_id)}"
    assert door("GET", path).status == 200
    ApiKey.objects.update(last_used_at=timezone.now())
    assert door("GET", path, token=foreign_token).status == 404
    assert door("GET", path, token="am-wrong").status == 401
    assert door("GET", path, token="").status == 401
    ApiKey.objects.filter(project=project).update(expires_at=timezone.now())
    assert door("GET", path).status == 401
    ApiKey.objects.filter(project=project).update(expires_at=None)
    assert door("GET", path).status == 200
    ApiKey.objects.filter(project=project).revoke()
    assert door("GET", path).status == 401


def test_a_shortcut_leaves_whatever_is_wrong_to_the_long_way(
    door: Door, thread: Thread, project: Project
) -> None:
    door("GET", "/v1/assistants")
    base = f"/threads/{thread.public_id}"
    for path, status in [
        (f"/v1{base}/messages", 200),  # empty
        (f"/v1{base}/messages?limit=0", 400),
        (f"/v1{base}/messages?colour=red", 400),
        (f"/v1{base}/runs/undefined", 400),
        (f"/v1{base}/runs/run_none", 404),
        ("/v1/threads/thread_%00/messages", 400),
        ("/v1/threads/thread_none/messages", 404),
        (f"/openai{base}/messages?api-version=2020-01-01", 404),
    ]:
        answer = door("GET", path)
        assert answer.status == status, path


def test_the_use_of_a_key_is_noted_although_shortcuts_answer(
    door: Door, project: Project, thread: Thread
) -> None:
    factories.make_message(thread=thread)
    long_ago = timezone.now() - timedelta(minutes=2)
    ApiKey.objects.update(last_used_at=long_ago)
    door("GET", f"/v1/threads/{thread.public_id}/messages")
    used = ApiKey.objects.get(project=project).last_used_at
    assert used is not None
    assert used > long_ago
