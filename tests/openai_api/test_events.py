"""…/runs/{run_id}/events: what happened to a run, in the form of server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_manager.models import Assistant, Project, ReleasePolicy
from conversations.models import Run, RunEvent, RunStatus, RunStep
from conversations.models.steps import StepType
from conversations.openai_api.views.events import block
from tests import factories
from tests.openai_api.http import Answer, Door

ALL = ["thread.run.created", "thread.run.queued", "thread.run.in_progress", "thread.run.completed"]


def path_of(run: Run) -> str:
    return f"/v1/threads/{run.thread.public_id}/runs/{run.public_id}/events"


def told(answer: Answer) -> Iterator[tuple[int, str, Any]]:
    """Id, type and data of each event."""
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    for part in answer.content.decode().strip().split("\n\n"):
        if part == ":":
            continue
        number, type, data = part.split("\n")
        yield (
            int(number.removeprefix("id: ")),
            type.removeprefix("event: "),
            json.loads(data.removeprefix("data: ")),
        )


@pytest.fixture
def run(assistant: Assistant) -> Run:
    """One that has been taken up."""
    run = factories.make_run(assistant=assistant)
    first = [(f"thread.run.{name}", {"status": "queued"}) for name in ("created", "queued")]
    RunEvent.objects.append_all(run, first)
    assert run.move(RunStatus.IN_PROGRESS)
    return run


def finish(run: Run) -> None:
    assert run.move(RunStatus.COMPLETED)


def test_an_ended_run_tells_all_and_ends(door: Door, run: Run) -> None:
    finish(run)
    events = list(told(door("GET", path_of(run))))
    assert [type for _, type, _ in events] == ALL
    assert [number for number, _, _ in events] == [1, 2, 3, 4]
    assert events[-1][2] == {"status": "completed"}


def test_a_server_that_cannot_go_on_tells_what_there_is(door: Door, run: Run) -> None:
    assert [type for _, type, _ in told(door("GET", path_of(run)))] == ALL[:3]


@pytest.mark.parametrize("how", ["header", "parameter"])
def test_a_reader_goes_on_where_it_was(door: Door, run: Run, how: str) -> None:
    finish(run)
    if how == "header":
        answer = door("GET", path_of(run), headers={"Last-Event-ID": "3"})
    else:
        answer = door("GET", f"{path_of(run)}?after=3")
    assert [type for _, type, _ in told(answer)] == ALL[3:]


def test_a_reader_who_has_seen_all_hears_no_more(door: Door, run: Run) -> None:
    finish(run)
    assert list(told(door("GET", path_of(run), headers={"Last-Event-ID": "4"}))) == []


@pytest.mark.parametrize("said", ["x", "-1", "²", "9" * 30])
def test_an_odd_last_event_is_refused(door: Door, run: Run, said: str) -> None:
    answer = door("GET", f"{path_of(run)}?after=1", headers={"Last-Event-ID": said})
    assert (answer.status, answer.error["code"]) == (400, "invalid_value")


@pytest.mark.parametrize("after", ["-1", "x", "2147483648"])
def test_an_odd_place_to_go_on_from_is_refused(door: Door, run: Run, after: str) -> None:
    assert door("GET", f"{path_of(run)}?after={after}").error["param"] == "after"


def test_events_are_behind_the_wall_of_the_project(
    door: Door, run: Run, foreign_token: str, project: Project
) -> None:
    assert door("GET", path_of(run), token=foreign_token).status == 404
    assert door("GET", path_of(run), token="am-wrong").status == 401
    other = factories.make_thread(project=project)
    wrong = f"/v1/threads/{other.public_id}/runs/{run.public_id}/events"
    assert door("GET", wrong).status == 404


def test_a_held_answer_shows_in_no_event(door: Door, run: Run) -> None:
    """What was written, how often, and that a reviewer asked again: all that stays inside."""
    run.release_policy = ReleasePolicy.AFTER_REVIEW
    run.save()
    step = {"attempt": 1, "run": run, "type": StepType.TOOL_CALLS}
    hidden = RunStep.objects.create(**step, item="a")
    shown = RunStep.objects.create(**step, item="b", for_client=True)

    def write() -> None:
        RunEvent.objects.append_all(
            run,
            [
                ("thread.message.created", {"message": "msg_1"}),
                ("thread.message.delta", {"message": "msg_1", "text": "the secret"}),
                ("thread.run.step.created", {"step": hidden.public_id}),
                ("thread.run.step.delta", {"step": hidden.public_id, "details": {}}),
            ],
        )

    write()
    RunEvent.objects.append(run, "thread.run.step.created", {"step": shown.public_id})
    assert run.move(RunStatus.HELD, outcome=RunStatus.COMPLETED)
    assert run.move(RunStatus.IN_PROGRESS)
    write()
    assert run.move(RunStatus.HELD, outcome=RunStatus.COMPLETED)
    finish(run)
    events = list(told(door("GET", path_of(run))))
    assert [type for _, type, _ in events] == [
        *ALL[:3],
        "thread.run.step.created",
        "thread.run.completed",
    ]
    assert [number for number, _, _ in events] == [1, 2, 3, 4, 5]
    assert events[3][2] == {"step": shown.public_id}
    again = door("GET", path_of(run), headers={"Last-Event-ID": "4"})
    assert list(told(again)) == events[4:]


def test_found_passages_are_left_out_as_in_steps(door: Door, run: Run) -> None:
    results = [{"file_id": "file-1", "score": 0.5, "content": [{"text": "passage"}]}]
    call = {"id": "c", "type": "file_search", "file_search": {"results": results}}
    details = {"type": "tool_calls", "tool_calls": [call]}
    RunEvent.objects.append(run, "thread.run.step.delta", {"step": "step_1", "details": details})
    answer = door("GET", path_of(run))
    assert b"file-1" in answer.content
    assert b"passage" not in answer.content


def test_silence_is_a_comment() -> None:
    assert block([]) == b":\n\n"
