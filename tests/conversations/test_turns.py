"""Rows into a Turn: which messages, which files, what earlier attempts came to."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from assistant_manager.engines.base import (
    GeneratedFile,
    MessageItem,
    Progress,
    ToolCall,
    ToolCallsItem,
    Turn,
    Usage,
)
from assistant_manager.models import File, FileCopy, Project
from assistant_manager.services import keep_file
from conversations import ledger, recording, turns
from conversations.models import Message, Run
from conversations.services import runs
from tests.factories import make_message, make_run, make_thread

pytestmark = pytest.mark.django_db

ME = "this driver"
CALL = ToolCall(id="call_1", type="function", name="weather", arguments="{}")


def taken_up(run: Run) -> ledger.Begun:
    [run] = Run.objects.claim(driver=ME, now=timezone.now(), limit=1)
    begun = ledger.begin(run, driver=ME)
    assert begun is not None
    return begun


def turn_of(run: Run) -> Turn:
    work = taken_up(run).work
    assert isinstance(work, Turn)
    return work


def make_file(project: Project, text: str = "1,2") -> File:
    content = ContentFile(text.encode())
    return keep_file(project=project, upload=content, filename="data.csv", purpose="assistants")


def make_long_thread(project: Project, length: int) -> Any:
    thread = make_thread(project=project)
    content = [{"type": "text", "text": {"value": "", "annotations": []}}]
    now = timezone.now()
    Message.objects.bulk_create(
        Message(thread=thread, role="user", content=content, released_at=now, item=str(number))
        for number in range(length)
    )
    return thread


@pytest.mark.parametrize(
    ("length", "carried"), [(999, 999), (1000, 1000), (1001, 901), (1099, 999), (1100, 1000)]
)
def test_a_long_thread_loses_its_front_in_blocks(
    project: Project, length: int, carried: int
) -> None:
    thread = make_long_thread(project, length)
    assert len(turn_of(make_run(thread=thread)).messages) == carried


def test_as_many_messages_as_were_asked_for_are_carried(project: Project) -> None:
    thread = make_thread(project=project)
    for text in "abc":
        make_message(thread=thread, text=text)
    strategy = {"type": "last_messages", "last_messages": 2}
    turn = turn_of(make_run(thread=thread, truncation_strategy=strategy))
    assert [message.text for message in turn.messages] == ["b", "c"]


def test_the_files_that_messages_and_tools_name_come_along(project: Project) -> None:
    attached, shown, given, other = (make_file(project, text) for text in "1234")
    thread = make_thread(project=project, question="What is in it?")
    thread.messages.update(
        attachments=[{"file_id": attached.public_id, "tools": []}],
        content=[{"type": "image_file", "image_file": {"file_id": shown.public_id}}],
    )
    run = make_run(
        thread=thread, tool_resources={"code_interpreter": {"file_ids": [given.public_id]}}
    )
    FileCopy.objects.create(file=given, connection=run.connection, upstream_id="file-up")
    files = turn_of(run).files
    assert files.keys() == {attached.public_id, shown.public_id, given.public_id}
    assert files[given.public_id].upstream_id == "file-up"
    assert files[attached.public_id].upstream_id is None
    assert files[attached.public_id].read() == b"1"
    assert other.public_id not in files


def test_a_file_of_another_project_does_not_come_along(project: Project) -> None:
    foreign = make_file(Project.objects.create(name="foreign"))
    thread = make_thread(project=project, question="What is in it?")
    thread.messages.update(attachments=[{"file_id": foreign.public_id, "tools": []}])
    assert turn_of(make_run(thread=thread)).files == {}


def test_what_earlier_attempts_came_to_comes_along(project: Project) -> None:
    begun = taken_up(make_run(thread=make_thread(project=project, question="Rain?")))
    run = Run.objects.get()
    asking = Progress(
        "requires_action",
        items=[ToolCallsItem("calls", [CALL])],
        usage=Usage(10, 5),
        state={"output": ["raw"]},
        upstream_id="resp_1",
    )
    assert recording.record(run, begun.attempt, asking, driver=ME)
    runs.submit_tool_outputs(run=Run.objects.get(), outputs={"call_1": "dry"})
    turn = turn_of(run)
    assert turn.attempt == 2
    assert [call.output for item in turn.past for call in item.calls] == ["dry"]  # type: ignore[union-attr]
    assert turn.past_states == [{"output": ["raw"]}]
    assert turn.spent == Usage(10, 5)
    assert (turn.recorded, turn.state) == ((), {})
    assert run.attempts.get(number=1).upstream_id == "resp_1"


def test_an_attempt_taken_up_again_brings_what_is_done_of_it(project: Project) -> None:
    run = make_run(thread=make_thread(project=project, question="x?"))
    begun = taken_up(run)
    done = ToolCall(id="call_1", type="code_interpreter", input="x = 1", logs="")
    partly = Progress(
        "working",
        items=[ToolCallsItem("code", [done], done=True), MessageItem("answer", "x =")],
        state={"round": 1},
    )
    run = Run.objects.get()
    assert recording.record(run, begun.attempt, partly, driver=ME)
    turn = turns.build_turn(run, begun.attempt)
    assert [item.key for item in turn.recorded] == ["code"]
    assert turn.state == {"round": 1}
    assert turn.past == ()


def test_uploads_are_remembered_by_connection_and_replaced(project: Project) -> None:
    file = make_file(project)
    begun = taken_up(make_run(thread=make_thread(project=project, question="x?")))
    run = Run.objects.get()
    for upstream_id in ("file-a", "file-b"):
        uploaded = Progress("working", uploads={file.public_id: upstream_id, "file-none": "x"})
        assert recording.record(run, begun.attempt, uploaded, driver=ME)
    [copy] = FileCopy.objects.all()
    assert (copy.file, copy.connection, copy.upstream_id) == (file, run.connection, "file-b")


def test_a_generated_file_is_kept_and_its_annotation_names_it(project: Project) -> None:
    begun = taken_up(make_run(thread=make_thread(project=project, question="x?")))
    run = Run.objects.get()
    text = "See sandbox:/mnt/data/x.csv"
    annotation = {
        "type": "file_path",
        "text": "sandbox:/mnt/data/x.csv",
        "start_index": 4,
        "end_index": len(text),
        "file_path": {"file_id": "cfile_1"},
    }
    answer = MessageItem(
        "answer",
        text,
        annotations=[annotation],
        files={"cfile_1": GeneratedFile("x.csv", b"1,2")},
        done=True,
    )
    for _ in range(2):
        recording.record(run, begun.attempt, Progress("working", items=[answer]), driver=ME)
    [file] = File.objects.all()
    assert (file.filename, file.purpose, file.read()) == ("x.csv", "assistants_output", b"1,2")
    message = run.messages.get()
    assert message.content[0]["text"]["annotations"] == [
        {**annotation, "file_path": {"file_id": file.public_id}}
    ]
    assert message.text == text
