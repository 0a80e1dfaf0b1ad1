"""`manage.py ask`, with a stand-in for the worker: a thread that moves the run along."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from assistant_manager.engines.base import MessageItem, Progress, ToolCall, ToolCallsItem
from assistant_manager.models import Assistant, Project
from conversations import recording
from conversations.management import following
from conversations.models import DriverHeartbeat, Run, RunAttempt, RunStatus
from conversations.services.runs import request_run
from tests import factories

Captured = pytest.CaptureFixture[str]
Meanwhile = Callable[[Callable[[Run], Any]], None]


@pytest.fixture
def project(db: None) -> Project:
    return Project.objects.get_or_create(name="default")[0]


@pytest.fixture
def worker(db: None) -> None:
    DriverHeartbeat.objects.create(
        name="somebody", started_at=timezone.now(), seen_at=timezone.now()
    )


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """What a worker does while the command waits: one act at each look, in the same connection."""
    acts: list[Callable[[Run], Any]] = []

    def act(seconds: float) -> None:
        run = Run.objects.latest("pk")
        assert acts, f"still waiting: {run.status}"
        acts.pop(0)(run)

    monkeypatch.setattr(following.time, "sleep", act)
    return acts.append


def begin(run: Run) -> None:
    run.move(RunStatus.IN_PROGRESS)


def say(text: str, *, source: str = "", output: str = "") -> Callable[[Run], None]:
    """The run's answer, as a driver records it."""

    def act(run: Run) -> None:
        Run.objects.filter(pk=run.pk).update(
            attempt=1, leased_by="somebody", lease_expires_at=timezone.now()
        )
        run.refresh_from_db()
        attempt = RunAttempt.objects.create(run=run, number=1)
        call = ToolCall(id="call_1", type="code_interpreter", input=source, logs=output)
        items: list[Any] = [ToolCallsItem(key="code", calls=(call,))] if source else []
        items.append(MessageItem(key="answer", text=text))
        progress = Progress(outcome="completed", items=tuple(items))
        assert recording.record(run, attempt, progress, driver="somebody")

    return act


def fail(run: Run) -> None:
    recording.fail(run, "The upstream is gone.")


def test_the_answer_goes_to_stdout_and_progress_to_stderr(
    project: Project, worker: None, meanwhile: Meanwhile, capsys: Captured
) -> None:
    factories.make_assistant(project=project, name="Math Assist")
    meanwhile(begin)
    meanwhile(say("It is 42.", source="6 * 7", output="42\n"))

    call_command("ask", "What is 6 * 7?")

    printed = capsys.readouterr()
    assert printed.out == "It is 42.\n"
    told = printed.err.splitlines()
    assert told[0].startswith("Math Assist · thread_")
    assert told[1:] == [
        "· queued",
        "· in progress",
        "· runs Python:",
        "    6 * 7",
        "· it printed:",
        "    42",
        "· completed",
    ]


def test_json_holds_the_ids_the_steps_and_the_usage(
    project: Project, worker: None, meanwhile: Meanwhile, capsys: Captured
) -> None:
    assistant = factories.make_assistant(project=project)
    meanwhile(begin)
    meanwhile(say("It is 42.", source="6 * 7", output="42"))

    call_command("ask", "What is 6 * 7?", as_json=True)

    answer = json.loads(capsys.readouterr().out)
    run = Run.objects.get()
    assert answer["run"] == run.public_id
    assert answer["thread"] == run.thread.public_id
    assert answer["assistant"] == assistant.public_id
    assert answer["status"] == "completed"
    assert answer["answer"] == "It is 42."
    assert answer["error"] is None
    assert answer["steps"][0]["code_interpreter"]["input"] == "6 * 7"


def test_a_failed_run_gives_its_reason_and_no_answer(
    project: Project, worker: None, meanwhile: Meanwhile, capsys: Captured
) -> None:
    factories.make_assistant(project=project)
    meanwhile(begin)
    meanwhile(fail)

    with pytest.raises(CommandError, match="The run failed: The upstream is gone"):
        call_command("ask", "What is 6 * 7?")
    assert capsys.readouterr().out == ""


def test_without_a_worker_the_question_is_kept(project: Project) -> None:
    factories.make_assistant(project=project)

    with pytest.raises(CommandError, match="No worker is running") as refused:
        call_command("ask", "What is 6 * 7?")

    run = Run.objects.get()
    assert run.state is RunStatus.QUEUED
    assert run.public_id in str(refused.value)
    assert "within 10 minutes" in str(refused.value)


def test_a_held_answer_is_waited_for_and_not_shown_before(
    project: Project, worker: None, meanwhile: Meanwhile, capsys: Captured
) -> None:
    factories.make_assistant(project=project, release_policy="after_review")
    meanwhile(begin)
    meanwhile(say("It is 41."))

    def reject(run: Run) -> None:
        assert "waits until a person has reviewed it" in capsys.readouterr().err
        recording.fail(run, "A reviewer rejected the answer: off by one")

    meanwhile(reject)

    with pytest.raises(CommandError, match="off by one"):
        call_command("ask", "What is 6 * 7?")
    assert "41" not in capsys.readouterr().out


def test_a_run_that_wants_outputs_says_of_which_function(
    project: Project, worker: None, meanwhile: Meanwhile
) -> None:
    factories.make_assistant(project=project)

    def want_outputs(run: Run) -> None:
        begin(run)
        run.steps.create(
            attempt=1,
            item="call",
            type="tool_calls",
            for_client=True,
            details={
                "type": "tool_calls",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "get_weather"}}
                ],
            },
        )
        run.refresh_from_db()
        run.move(RunStatus.REQUIRES_ACTION)

    meanwhile(want_outputs)

    with pytest.raises(CommandError, match="waits for the outputs of: get_weather"):
        call_command("ask", "How is the weather?")


def test_ctrl_c_leaves_the_run_and_names_it(
    project: Project, worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.make_assistant(project=project)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", interrupt)

    with pytest.raises(CommandError, match=r"run_.* goes on") as stopped:
        call_command("ask", "What is 6 * 7?")
    assert stopped.value.returncode == 130
    assert Run.objects.get().state is RunStatus.QUEUED


def test_an_overdue_run_is_said_to_have_expired(
    project: Project, worker: None, meanwhile: Meanwhile
) -> None:
    factories.make_assistant(project=project)
    meanwhile(lambda run: Run.objects.filter(pk=run.pk).update(expires_at=timezone.now()))

    with pytest.raises(CommandError, match="expired before it was answered"):
        call_command("ask", "What is 6 * 7?")


@pytest.mark.parametrize("by", ["name", "public_id"])
def test_an_assistant_is_named_by_name_or_id(project: Project, by: str) -> None:
    factories.make_assistant(project=project, name="First")
    wanted = factories.make_assistant(project=project, name="Second")

    with pytest.raises(CommandError, match="No worker"):
        call_command("ask", "Hello?", assistant=getattr(wanted, by))
    assert Run.objects.get().assistant == wanted


def test_an_unknown_assistant_is_refused_with_the_known_ones(project: Project) -> None:
    factories.make_assistant(project=project, name="Math Assist")
    with pytest.raises(CommandError, match=r"no assistant “Nobody”.*Math Assist"):
        call_command("ask", "Hello?", assistant="Nobody")
    assert not Run.objects.exists()


def test_a_name_two_assistants_share_is_not_guessed(project: Project) -> None:
    both = [factories.make_assistant(project=project, name="Twin") for _ in range(2)]
    with pytest.raises(CommandError, match="Several assistants") as refused:
        call_command("ask", "Hello?", assistant="Twin")
    assert all(assistant.public_id in str(refused.value) for assistant in both)


def test_a_retired_assistant_is_not_asked(project: Project) -> None:
    factories.make_assistant(project=project, name="Old", retired_at=timezone.now())
    with pytest.raises(CommandError, match="There is no assistant"):
        call_command("ask", "Hello?")


def test_a_thread_is_gone_on_with_by_the_assistant_that_answered_last(project: Project) -> None:
    factories.make_assistant(project=project, name="First")
    second = factories.make_assistant(project=project, name="Second")
    earlier = factories.make_run(assistant=second, status=RunStatus.COMPLETED)

    with pytest.raises(CommandError, match="No worker"):
        call_command("ask", "And then?", thread=earlier.thread.public_id)

    run = Run.objects.latest("pk")
    assert (run.thread, run.assistant) == (earlier.thread, second)


def test_a_thread_is_not_answered_by_another_projects_assistant(
    project: Project, assistant: Assistant
) -> None:
    thread = factories.make_thread(project=factories.make_project())
    with pytest.raises(CommandError, match="There is no assistant"):
        call_command("ask", "Hello?", thread=thread.public_id, assistant=assistant.public_id)


def test_a_busy_thread_is_refused_in_the_services_words(
    project: Project, assistant: Assistant
) -> None:
    thread = factories.make_thread(project=assistant.project, question="One?")
    request_run(thread=thread, assistant=assistant)
    with pytest.raises(CommandError, match="already has an active run"):
        call_command("ask", "Two?", thread=thread.public_id)


def test_an_unknown_thread_and_an_empty_question_are_refused(project: Project) -> None:
    factories.make_assistant(project=project)
    with pytest.raises(CommandError, match="no thread “thread_x”"):
        call_command("ask", "Hello?", thread="thread_x")
    with pytest.raises(CommandError, match="empty"):
        call_command("ask", "  ")
    assert not Run.objects.exists()
