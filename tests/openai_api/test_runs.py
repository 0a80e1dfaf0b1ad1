from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import openai
import pytest
from django.db import connection
from django.utils import timezone

from assistant_manager.models import Assistant, Model, Project
from assistant_manager.openai_api.serializers import seconds
from conversations import recording
from conversations.models import Run, RunStatus, RunStep, Thread
from conversations.models.steps import StepStatus, StepType
from tests import factories
from tests.openai_api.http import PATIENCE, Door

CALL = {
    "id": "call_a",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"place": "Rome"}', "output": None},
}


def runs_path(run: Run) -> str:
    return f"/v1/threads/{run.thread.public_id}/runs"


def path_of(run: Run) -> str:
    return f"{runs_path(run)}/{run.public_id}"


def make_waiting_run(project: Project, **fields: Any) -> Run:
    """A run that waits for two tool outputs."""
    run = factories.make_run(
        assistant=factories.make_assistant(project=project),
        status=RunStatus.REQUIRES_ACTION,
        **fields,
    )
    RunStep.objects.create(
        run=run,
        attempt=1,
        item="calls",
        type=StepType.TOOL_CALLS,
        for_client=True,
        details={"type": "tool_calls", "tool_calls": [CALL, CALL | {"id": "call_b"}]},
    )
    return run


def test_a_run_is_created_read_and_changed_by_the_sdk(
    sdk: Any, thread: Thread, assistant: Assistant
) -> None:
    made = sdk.beta.threads.runs.create(
        thread.public_id,
        assistant_id=assistant.public_id,
        additional_instructions="Be brief.",
        additional_messages=[{"role": "user", "content": "3x + 11 = 14"}],
        include=["step_details.tool_calls[*].file_search.results[*].content"],
        max_prompt_tokens=256,
        truncation_strategy={"type": "last_messages", "last_messages": 3},
    )
    assert (made.object, made.status, made.thread_id) == (
        "thread.run",
        "queued",
        thread.public_id,
    )
    assert made.instructions == f"{assistant.instructions}\n\nBe brief."
    assert made.expires_at - made.created_at == 600
    assert (made.truncation_strategy.last_messages, made.max_prompt_tokens) == (3, 256)
    assert sdk.beta.threads.runs.retrieve(made.id, thread_id=thread.public_id) == made
    assert thread.messages.get().text == "3x + 11 = 14"

    changed = sdk.beta.threads.runs.update(made.id, thread_id=thread.public_id, metadata={"a": "b"})
    assert changed.metadata == {"a": "b"}
    assert [run.id for run in sdk.beta.threads.runs.list(thread.public_id)] == [made.id]


def test_the_quickstarts_body_starts_a_run_trailing_comma_and_all(
    live_door: Door, thread: Thread, assistant: Assistant
) -> None:
    body = f'{{\n    "assistant_id": "{assistant.public_id}",\n  }}'.encode()
    answer = live_door(
        "POST",
        f"/openai/threads/{thread.public_id}/runs",
        body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status == 200
    assert answer.body["status"] == "queued"
    assert answer.headers["openai-poll-after-ms"] == "500"


def test_every_documented_key_is_present(door: Door, thread: Thread, assistant: Assistant) -> None:
    body = door(
        "POST", f"/v1/threads/{thread.public_id}/runs", {"assistant_id": assistant.public_id}
    ).body
    run = Run.objects.get()
    assert body == {
        "id": run.public_id,
        "object": "thread.run",
        "created_at": seconds(run.created_at),
        "thread_id": thread.public_id,
        "assistant_id": assistant.public_id,
        "status": "queued",
        "required_action": None,
        "last_error": None,
        "expires_at": seconds(run.expires_at),
        "started_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "incomplete_details": None,
        "model": assistant.model,
        "instructions": assistant.instructions,
        "tools": assistant.tools,
        "tool_resources": {},
        "metadata": {},
        "usage": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_prompt_tokens": None,
        "max_completion_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": "auto",
        "reasoning_effort": None,
    }


def test_a_run_may_differ_from_its_assistant(
    door: Door, thread: Thread, assistant: Assistant
) -> None:
    wanted = {
        "model": "gpt-4o",
        "instructions": "Be kind.",
        "tools": [],
        "metadata": {"a": "b"},
        "temperature": 0,
        "top_p": 0.5,
        "max_completion_tokens": 300,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
    }
    body = door(
        "POST",
        f"/v1/threads/{thread.public_id}/runs",
        wanted | {"assistant_id": assistant.public_id, "stream": False, "max_prompt_tokens": None},
    ).body
    assert {name: body[name] for name in wanted} == wanted


def test_thread_and_run_in_one_request(sdk: Any, assistant: Assistant) -> None:
    made = sdk.beta.threads.create_and_run(
        assistant_id=assistant.public_id,
        thread={"messages": [{"role": "user", "content": "3x + 11 = 14"}], "metadata": {"a": "b"}},
        tool_resources={"code_interpreter": {"file_ids": []}},
    )
    thread = sdk.beta.threads.retrieve(made.thread_id)
    assert thread.metadata == {"a": "b"}
    assert made.status == "queued"
    assert Run.objects.get().question.text == "3x + 11 = 14"


def test_a_refused_run_leaves_no_thread_behind(door: Door, assistant: Assistant) -> None:
    Model.objects.all().delete()
    answer = door("POST", "/v1/threads/runs", {"assistant_id": assistant.public_id})
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == ("model", "model_not_found")
    assert not Thread.objects.exists()


def test_the_polling_helper_sees_the_run_through(
    sdk: Any, thread: Thread, assistant: Assistant, settings: Any
) -> None:
    settings.POLL_AFTER_MS = 20

    def work() -> None:
        try:
            deadline = time.monotonic() + PATIENCE
            while not (run := Run.objects.first()) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert run is not None
            run.move(RunStatus.IN_PROGRESS, started_at=timezone.now())
            time.sleep(0.1)
            recording.end(run, RunStatus.COMPLETED)
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread.public_id, assistant_id=assistant.public_id
    )
    worker.join()
    assert run.status == "completed"
    assert run.usage.total_tokens == 0
    assert run.expires_at is None
    assert run.completed_at >= run.started_at >= run.created_at


def test_the_stream_that_is_not_there_yet_is_refused_by_name(
    door: Door, thread: Thread, assistant: Assistant, project: Project
) -> None:
    waiting = make_waiting_run(project)
    asked = {"assistant_id": assistant.public_id, "stream": True}
    for path, body in [
        (f"/v1/threads/{thread.public_id}/runs", asked),
        ("/v1/threads/runs", asked),
        (f"{path_of(waiting)}/submit_tool_outputs", {"tool_outputs": [], "stream": True}),
    ]:
        answer = door("POST", path, body)
        assert answer.status == 400
        assert answer.error["param"] == "stream"
        assert "Streaming is not available" in answer.error["message"]
    assert Run.objects.count() == 1


def test_a_thread_has_one_active_run(sdk: Any, project: Project) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.beta.threads.runs.create(run.thread.public_id, assistant_id=run.assistant.public_id)
    assert refused.value.body["message"] == (
        f"Thread {run.thread.public_id} already has an active run {run.public_id}."
    )


def test_a_run_past_its_time_ends_when_it_is_read(door: Door, project: Project) -> None:
    past = timezone.now() - timedelta(seconds=1)
    run = factories.make_run(
        assistant=factories.make_assistant(project=project),
        status=RunStatus.IN_PROGRESS,
        expires_at=past,
    )
    body = door("GET", path_of(run)).body
    assert (body["status"], body["expires_at"]) == ("expired", None)
    assert body["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def test_a_run_past_its_time_blocks_nobody(door: Door, project: Project) -> None:
    past = timezone.now() - timedelta(seconds=1)
    run = make_waiting_run(project, expires_at=past)
    answer = door(
        "POST",
        f"/v1/threads/{run.thread.public_id}/messages",
        {"role": "user", "content": "Never mind."},
    )
    assert answer.status == 200
    run.refresh_from_db()
    assert run.status == RunStatus.EXPIRED


def test_a_run_is_cancelled_once(sdk: Any, project: Project) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project), status=RunStatus.IN_PROGRESS
    )
    ids = {"thread_id": run.thread.public_id}
    assert sdk.beta.threads.runs.cancel(run.public_id, **ids).status == "cancelling"
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.beta.threads.runs.cancel(run.public_id, **ids)
    assert refused.value.body["message"] == "Cannot cancel run with status 'cancelling'."


def test_function_calls_are_shown_and_answered(sdk: Any, project: Project) -> None:
    run = make_waiting_run(project)
    ids = {"thread_id": run.thread.public_id}
    shown = sdk.beta.threads.runs.retrieve(run.public_id, **ids)
    calls = shown.required_action.submit_tool_outputs.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_a", "get_weather", '{"place": "Rome"}'),
        ("call_b", "get_weather", '{"place": "Rome"}'),
    ]
    queued = sdk.beta.threads.runs.submit_tool_outputs(
        run.public_id,
        **ids,
        tool_outputs=[
            {"tool_call_id": "call_a", "output": "sunny"},
            {"tool_call_id": "call_b", "output": "rain"},
        ],
    )
    assert (queued.status, queued.required_action) == ("queued", None)
    step = sdk.beta.threads.runs.steps.list(run.public_id, **ids).data[0]
    assert step.status == "completed"
    assert [call.function.output for call in step.step_details.tool_calls] == ["sunny", "rain"]


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (
            ["call_a"],
            "Expected tool outputs for call_ids ['call_a', 'call_b'], got ['call_a']",
        ),
        (["call_a", "call_a"], "Duplicate value for 'tool_call_id': 'call_a'."),
    ],
)
def test_all_outputs_come_in_one_request(
    door: Door, project: Project, ids: list[str], text: str
) -> None:
    run = make_waiting_run(project)
    outputs = [{"tool_call_id": id, "output": "x"} for id in ids]
    answer = door("POST", f"{path_of(run)}/submit_tool_outputs", {"tool_outputs": outputs})
    assert (answer.status, answer.error["message"]) == (400, text)


def test_an_output_is_a_string(door: Door, project: Project) -> None:
    run = make_waiting_run(project)
    outputs = [{"tool_call_id": "call_a", "output": ["sunny"]}]
    answer = door("POST", f"{path_of(run)}/submit_tool_outputs", {"tool_outputs": outputs})
    assert answer.error["param"] == "tool_outputs[0].output"


def test_a_run_past_its_time_takes_no_outputs(door: Door, project: Project) -> None:
    run = make_waiting_run(project, expires_at=timezone.now() - timedelta(seconds=1))
    answer = door("POST", f"{path_of(run)}/submit_tool_outputs", {"tool_outputs": []})
    assert answer.status == 400
    assert answer.error["message"] == 'Runs in status "expired" do not accept tool outputs.'


def test_a_held_run_gives_nothing_away(door: Door, project: Project) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project),
        status=RunStatus.HELD,
        outcome=RunStatus.INCOMPLETE,
        incomplete_reason="max_completion_tokens",
        prompt_tokens=3,
        completion_tokens=4,
    )
    step = RunStep.objects.create(
        run=run, attempt=1, item="m", type=StepType.MESSAGE_CREATION, details={"type": "x"}
    )
    answer = door("GET", path_of(run))
    assert answer.body["status"] == "in_progress"
    assert (answer.body["incomplete_details"], answer.body["usage"]) == (None, None)
    assert answer.headers["openai-poll-after-ms"] == "500"
    assert door("GET", f"{path_of(run)}/steps").body["data"] == []
    assert door("GET", f"{path_of(run)}/steps/{step.public_id}").status == 404


@pytest.mark.parametrize(
    ("status", "fields", "shown"),
    [
        (
            RunStatus.FAILED,
            {"last_error": {"code": "server_error", "message": "no"}},
            {"last_error": {"code": "server_error", "message": "no"}},
        ),
        (
            RunStatus.INCOMPLETE,
            {"incomplete_reason": "max_prompt_tokens"},
            {"incomplete_details": {"reason": "max_prompt_tokens"}},
        ),
        (
            RunStatus.COMPLETED,
            {"prompt_tokens": 3, "completion_tokens": 4},
            {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
        ),
    ],
)
def test_an_ended_run_says_how(
    door: Door, project: Project, status: RunStatus, fields: Any, shown: Any
) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project), status=status, **fields
    )
    answer = door("GET", path_of(run))
    assert answer.body["status"] == status
    assert {name: answer.body[name] for name in shown} == shown
    assert answer.body["expires_at"] is None
    assert "openai-poll-after-ms" not in answer.headers


def test_a_step_knows_fewer_reasons_to_fail_than_its_run(sdk: Any, project: Project) -> None:
    run = make_waiting_run(project)
    error = {"code": "invalid_prompt", "message": "It is too long."}
    recording.end(run, RunStatus.FAILED, last_error=error)
    ids = {"thread_id": run.thread.public_id}
    assert sdk.beta.threads.runs.retrieve(run.public_id, **ids).last_error.to_dict() == error
    [step] = sdk.beta.threads.runs.steps.list(run.public_id, **ids)
    assert step.last_error.to_dict() == error | {"code": "server_error"}


def test_steps_show_the_code_that_ran(sdk: Any, project: Project) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project), status=RunStatus.COMPLETED
    )
    call = {
        "id": "call_1",
        "type": "code_interpreter",
        "code_interpreter": {
            "input": "print(1)",
            "outputs": [{"type": "logs", "logs": "1"}],
        },
    }
    step = RunStep.objects.create(
        run=run,
        attempt=1,
        item="code",
        type=StepType.TOOL_CALLS,
        status=StepStatus.COMPLETED,
        details={"type": "tool_calls", "tool_calls": [call]},
        released_at=timezone.now(),
        completed_at=timezone.now(),
        prompt_tokens=1,
        completion_tokens=2,
    )
    ids = {"thread_id": run.thread.public_id, "run_id": run.public_id}
    shown = sdk.beta.threads.runs.steps.retrieve(step.public_id, **ids)
    assert (shown.object, shown.type, shown.status) == (
        "thread.run.step",
        "tool_calls",
        "completed",
    )
    code = shown.step_details.tool_calls[0].code_interpreter
    assert (code.input, code.outputs[0].logs) == ("print(1)", "1")
    assert (shown.run_id, shown.thread_id) == (run.public_id, run.thread.public_id)
    assert shown.usage.total_tokens == 3
    assert sdk.beta.threads.runs.steps.list(**ids).data == [shown]


def test_found_passages_are_shown_to_those_who_ask(sdk: Any, project: Project) -> None:
    run = factories.make_run(
        assistant=factories.make_assistant(project=project), status=RunStatus.COMPLETED
    )
    result = {
        "file_id": "file-1",
        "file_name": "a.txt",
        "score": 0.5,
        "content": [{"type": "text", "text": "found"}],
    }
    call = {"id": "call_1", "type": "file_search", "file_search": {"results": [result]}}
    step = RunStep.objects.create(
        run=run,
        attempt=1,
        item="search",
        type=StepType.TOOL_CALLS,
        details={"type": "tool_calls", "tool_calls": [call]},
        released_at=timezone.now(),
    )
    ids = {"thread_id": run.thread.public_id, "run_id": run.public_id}

    def content(**options: Any) -> Any:
        shown = sdk.beta.threads.runs.steps.retrieve(step.public_id, **ids, **options)
        return shown.step_details.tool_calls[0].file_search.results[0].content

    assert content() is None
    include = ["step_details.tool_calls[*].file_search.results[*].content"]
    assert content(include=include)[0].text == "found"


def test_a_deleted_assistant_takes_no_new_run_and_breaks_no_old_one(
    door: Door, thread: Thread, project: Project
) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    assistant = run.assistant.public_id
    assert door("DELETE", f"/v1/assistants/{assistant}").status == 200
    answer = door("POST", f"/v1/threads/{thread.public_id}/runs", {"assistant_id": assistant})
    assert answer.status == 404
    assert answer.error["message"] == f"No assistant found with id '{assistant}'."
    assert door("GET", path_of(run)).body["assistant_id"] == assistant


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "assistant_id", "missing_required_parameter"),
        ({"assistant_id": "undefined"}, "assistant_id", "invalid_value"),
        ({"tool_resources": {}}, "assistant_id", "missing_required_parameter"),
        (
            {"assistant_id": "asst_1", "tool_resources": {}},
            "tool_resources",
            "unknown_parameter",
        ),
        (
            {"assistant_id": "asst_1", "tools": [{"type": "code_interpreter"}] * 21},
            "tools",
            "array_above_max_length",
        ),
        (
            {"assistant_id": "asst_1", "max_prompt_tokens": 255},
            "max_prompt_tokens",
            "integer_below_min_value",
        ),
        ({"assistant_id": "asst_1", "tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"assistant_id": "asst_1", "tool_choice": {}}, "tool_choice.type", None),
        (
            {"assistant_id": "asst_1", "truncation_strategy": {"type": "last_messages"}},
            "truncation_strategy",
            "invalid_value",
        ),
        (
            {"assistant_id": "asst_1", "additional_messages": [{"role": "user"}]},
            "additional_messages[0].content",
            "missing_required_parameter",
        ),
    ],
)
def test_a_wrong_field_of_a_run_is_named(
    door: Door, thread: Thread, body: Any, param: str, code: str | None
) -> None:
    answer = door("POST", f"/v1/threads/{thread.public_id}/runs", body)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert answer.error["code"] == code or code is None


def test_what_is_missing_is_named_the_thread_before_the_run(door: Door, thread: Thread) -> None:
    answer = door("GET", "/v1/threads/thread_none/runs/run_none")
    assert answer.error["message"] == "No thread found with id 'thread_none'."
    answer = door("GET", f"/v1/threads/{thread.public_id}/runs/run_none")
    assert answer.error["message"] == "No run found with id 'run_none'."
    answer = door("GET", "/v1/threads/undefined/runs/run_none")
    assert answer.status == 400
    assert answer.error["message"] == (
        "Invalid 'thread_id': 'undefined'. Expected an ID that begins with 'thread'."
    )


def test_a_run_is_found_in_its_own_thread_only(
    door: Door, thread: Thread, project: Project
) -> None:
    run = factories.make_run(assistant=factories.make_assistant(project=project))
    answer = door("GET", f"/v1/threads/{thread.public_id}/runs/{run.public_id}")
    assert answer.status == 404
