"""One Progress onto the rows: once, twice, and from a driver that is no longer wanted."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from assistant_manager.engines.base import (
    GeneratedFile,
    MessageItem,
    Progress,
    ToolCall,
    ToolCallsItem,
    Usage,
)
from assistant_manager.models import File, FileCopy, ReleasePolicy
from assistant_manager.services import keep_file
from conversations import items, ledger, recording
from conversations.models import Message, Run, RunAttempt, RunStatus
from conversations.services import runs
from conversations.services.runs import answer_of
from tests.factories import make_assistant, make_run

pytestmark = pytest.mark.django_db

ME = "this driver"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)

CELL = ToolCall(
    id="call_1",
    type="code_interpreter",
    input="print(1)",
    logs="1\n",
    images=(GeneratedFile("figure.png", PNG),),
    notes={"stderr": "a warning", "seconds": 0.2},
)
ANSWERED = Progress(
    "completed",
    items=(ToolCallsItem("code", (CELL,), done=True), MessageItem("answer", "x = 1", done=True)),
    usage=Usage(10, 5),
    state={"cursor": 1},
)


def begun(**fields: Any) -> tuple[Run, RunAttempt]:
    run = make_run(**fields)
    [run] = Run.objects.claim(driver=ME, now=timezone.now(), limit=1)
    work = ledger.begin(run, driver=ME)
    assert work is not None
    return run, work.attempt


def everything() -> list[Any]:
    """All that recording may write, but for the moments at which it did."""
    return [
        list(Run.objects.values("status", "prompt_tokens", "completion_tokens", "ended_at")),
        [
            list(run.steps.values("public_id", "status", "details", "notes", "completed_at"))
            + list(run.messages.values("public_id", "status", "content", "completed_at"))
            + list(run.events.values("seq", "type", "data"))
            for run in Run.objects.all()
        ],
        list(File.objects.values("public_id")),
    ]


def test_an_answer_is_written_whole() -> None:
    run, attempt = begun()
    assert recording.record(run, attempt, ANSWERED, driver=ME)
    assert run.status == "completed"
    answer = answer_of(run)
    assert answer is not None
    assert answer.text == "x = 1"
    code, said = run.steps.order_by("pk")
    [call] = code.calls
    assert call["code_interpreter"]["input"] == "print(1)"
    logs, image = call["code_interpreter"]["outputs"]
    assert logs == {"type": "logs", "logs": "1\n"}
    file = File.objects.get(public_id=image["image"]["file_id"])
    assert file.purpose == "assistants_output"
    with file.content.open() as stored:
        assert stored.read() == PNG
    assert code.notes == {"call_1": {"stderr": "a warning", "seconds": 0.2}}
    assert said.details["message_creation"]["message_id"] == answer.public_id


def test_the_tokens_of_the_steps_add_up_to_those_of_the_run() -> None:
    run, attempt = begun()
    recording.record(run, attempt, ANSWERED, driver=ME)
    spent = [(step.prompt_tokens, step.completion_tokens) for step in run.steps.order_by("pk")]
    assert spent == [(0, 0), (10, 5)]
    assert (run.prompt_tokens, run.completion_tokens) == (10, 5)


def test_unfinished_progress_recorded_twice_changes_nothing() -> None:
    run, attempt = begun()
    working = replace(ANSWERED, outcome="working")
    assert recording.record(run, attempt, working, driver=ME)
    before = everything()
    assert recording.record(run, attempt, working, driver=ME)
    assert everything() == before


def test_an_answer_recorded_twice_is_refused_the_second_time() -> None:
    run, attempt = begun()
    assert recording.record(run, attempt, ANSWERED, driver=ME)
    before = everything()
    assert not recording.record(run, attempt, ANSWERED, driver=ME)
    assert everything() == before


def test_text_grows_by_deltas() -> None:
    run, attempt = begun()
    for text in ("x", "x = ", "x = 1"):
        part = Progress("working", items=[MessageItem("answer", text)])
        assert recording.record(run, attempt, part, driver=ME)
    deltas = run.events.filter(type="thread.message.delta")
    assert [delta.data["text"] for delta in deltas] == ["x", " = ", "1"]
    answer = answer_of(run)
    assert answer is not None
    assert answer.status == "in_progress"


def test_a_driver_without_the_lease_writes_nothing() -> None:
    run, attempt = begun()
    Run.objects.update(leased_by="another")
    before = everything()
    assert not recording.record(run, attempt, ANSWERED, driver=ME)
    assert everything() == before


def test_a_superseded_attempt_writes_nothing() -> None:
    run, attempt = begun()
    ledger.start_over(run, driver=ME, lost=False)
    before = everything()
    assert not recording.record(run, attempt, ANSWERED, driver=ME)
    assert everything() == before


def test_a_failed_picture_leaves_nothing_half_written(monkeypatch: pytest.MonkeyPatch) -> None:
    run, attempt = begun()
    before = everything()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(items, "keep_file", full)
    with pytest.raises(OSError, match="No space"):
        recording.record(run, attempt, ANSWERED, driver=ME)
    assert everything() == before


@pytest.mark.parametrize(
    ("to", "step", "message", "reason"),
    [
        (RunStatus.FAILED, "failed", "incomplete", "run_failed"),
        (RunStatus.EXPIRED, "expired", "incomplete", "run_expired"),
        (RunStatus.INCOMPLETE, "completed", "incomplete", "max_tokens"),
        (RunStatus.COMPLETED, "completed", "completed", None),
    ],
)
def test_what_is_open_closes_with_the_run(
    to: RunStatus, step: str, message: str, reason: str | None
) -> None:
    run, attempt = begun()
    open_answer = Progress("working", items=[MessageItem("answer", "x =")], usage=Usage(3, 2))
    recording.record(run, attempt, open_answer, driver=ME)
    assert recording.end(run, to)
    answer = answer_of(run)
    assert answer is not None
    assert run.steps.get().status == step
    assert (answer.status, answer.incomplete_reason) == (message, reason)
    assert (run.prompt_tokens, run.completion_tokens) == (3, 2)
    last = run.events.last()
    assert last is not None
    assert last.type == f"thread.run.{to}"


def test_an_end_that_is_refused_closes_nothing() -> None:
    run, attempt = begun()
    recording.record(
        run, attempt, Progress("working", items=[MessageItem("answer", "x =")]), driver=ME
    )
    run.move(RunStatus.CANCELLING)
    before = everything()
    assert not recording.end(run, RunStatus.COMPLETED)
    assert everything() == before


def test_an_upstream_that_cancels_by_itself_fails_the_run() -> None:
    run, attempt = begun()
    recording.record(run, attempt, Progress("cancelled"), driver=ME)
    assert run.status == "failed"
    assert run.last_error == {
        "code": "server_error",
        "message": "The run was cancelled at the upstream.",
    }


def test_an_answer_that_arrives_while_cancelling_does_not_undo_the_cancel() -> None:
    run, attempt = begun()
    run.move(RunStatus.CANCELLING)
    assert recording.record(run, attempt, ANSWERED, driver=ME)
    assert run.status == "cancelling"


def test_an_answer_held_just_as_time_ran_out_is_kept() -> None:
    """Whoever saw the deadline of the run pass may act on it only after the answer came."""
    assistant = make_assistant(release_policy=ReleasePolicy.AFTER_REVIEW)
    run, attempt = begun(assistant=assistant)
    Run.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    late = Run.objects.get()
    recording.record(run, attempt, ANSWERED, driver=ME)
    assert not recording.expire(late)
    assert runs.end_if_overdue(late).status == "held"


def test_a_driver_without_the_lease_fails_nothing() -> None:
    run, _ = begun()
    Run.objects.update(leased_by="another")
    before = everything()
    assert not recording.fail(run, "too late", driver=ME)
    assert everything() == before


def test_a_row_that_moved_on_is_not_let_go() -> None:
    """What an instance says may have been rolled back: the row would be nobody's, and not due."""
    run, _ = begun()
    run.status, run.expires_at = RunStatus.COMPLETED, None
    ledger.let_go(run, driver=ME, due_at=None)
    assert Run.objects.get().leased_by == ME


def test_a_held_answer_waits_for_days_not_minutes() -> None:
    assistant = make_assistant(release_policy=ReleasePolicy.AFTER_REVIEW)
    run, attempt = begun(assistant=assistant)
    recording.record(run, attempt, ANSWERED, driver=ME)
    assert run.status == "held"
    assert run.expires_at is not None
    assert (run.expires_at - timezone.now()).days >= 6
    assert run.leased_by is None


def test_text_that_no_database_can_store_is_stored_without_the_offending_characters() -> None:
    """PostgreSQL refuses NUL everywhere, UTF-8 a lone half of a pair; code prints both."""
    run, attempt = begun()
    bad, good = "x\0 = \ud800 1 😀", "x\ufffd = ? 1 😀"
    cell = replace(CELL, input=bad, logs=bad, notes={"stderr": bad}, images=())
    items = [ToolCallsItem("code", [cell], done=True, error=bad), MessageItem("answer", bad)]
    state = {"cursor": bad, bad: [bad, 1, None]}
    working = Progress("working", items=items, state=state)
    assert recording.record(run, attempt, working, driver=ME)
    attempt.refresh_from_db()
    assert attempt.state == {"cursor": good, good: [good, 1, None]}
    answer = answer_of(run)
    assert answer is not None
    assert answer.text == good
    assert recording.fail(run, bad, driver=ME)
    run.refresh_from_db()
    assert run.last_error == {"code": "server_error", "message": good}


def test_numbers_that_json_does_not_know_are_stored_as_nothing() -> None:
    """Python reads NaN and 1e999 from an upstream; PostgreSQL refuses to store them."""
    run, attempt = begun()
    odd = Progress("working", state={"score": float("nan"), "all": [float("inf"), 0.5]})
    assert recording.record(run, attempt, odd, driver=ME)
    attempt.refresh_from_db()
    assert attempt.state == {"score": None, "all": [None, 0.5]}


def test_a_message_deleted_while_it_is_written_stays_deleted() -> None:
    run, attempt = begun()
    part = Progress("working", items=[MessageItem("answer", "x =")])
    recording.record(run, attempt, part, driver=ME)
    run.messages.all().delete()
    assert recording.record(run, attempt, ANSWERED, driver=ME)
    assert run.status == "completed"
    assert not run.messages.exists()
    assert {step.status for step in run.steps.all()} == {"completed"}


def test_metadata_set_while_an_answer_is_written_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    run, attempt = begun()
    part = Progress("working", items=[MessageItem("answer", "x =")])
    recording.record(run, attempt, part, driver=ME)
    content = items.ItemWriter._content

    def meanwhile(self: items.ItemWriter, message: Message, item: MessageItem) -> Any:
        Message.objects.filter(pk=message.pk).update(metadata={"seen": "yes"})
        return content(self, message, item)

    monkeypatch.setattr(items.ItemWriter, "_content", meanwhile)
    recording.record(run, attempt, ANSWERED, driver=ME)
    answer = answer_of(run)
    assert answer is not None
    assert (answer.text, answer.metadata) == ("x = 1", {"seen": "yes"})


def test_pictures_of_a_recording_that_failed_leave_no_bytes_behind(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    """On a full disk the recording is tried again and again: what it left would fill the rest."""
    settings.MEDIA_ROOT = tmp_path
    run, attempt = begun()
    keep, kept = items.keep_file, iter([True])

    def full(**upload: Any) -> File:
        if next(kept, False):
            return keep(**upload)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(items, "keep_file", full)
    two = replace(CELL, images=(GeneratedFile("1.png", PNG), GeneratedFile("2.png", PNG)))
    drawn = Progress("working", items=[ToolCallsItem("code", [two], done=True)])
    with pytest.raises(OSError, match="No space"):
        recording.record(run, attempt, drawn, driver=ME)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_that_growing_text_speaks_of_is_kept_once() -> None:
    run, attempt = begun()
    link = {"type": "file_path", "text": "table.csv", "file_path": {"file_id": "cfile_1"}}
    table = {"cfile_1": GeneratedFile("table.csv", b"x,y\n1,2\n")}
    said = MessageItem("answer", "See", annotations=[link], files=table)
    for text in ("See", "See table.csv"):
        working = Progress("working", items=[replace(said, text=text)], state={})
        recording.record(run, attempt, working, driver=ME)
    done = replace(said, text="See table.csv", done=True)
    recording.record(run, attempt, Progress("completed", items=[done]), driver=ME)
    answer = answer_of(run)
    assert answer is not None
    [annotation] = answer.content[0]["text"]["annotations"]
    assert annotation["file_path"]["file_id"] == File.objects.get().public_id


@pytest.mark.django_db(transaction=True)
def test_a_file_deleted_just_as_its_copy_is_noted_undoes_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, attempt = begun()
    file = keep_file(
        project=run.project, upload=ContentFile(b"x"), filename="x.csv", purpose="assistants"
    )
    bulk_create = FileCopy.objects.bulk_create

    def delete() -> None:
        try:
            File.objects.get(pk=file.pk).delete()
        finally:
            connection.close()

    deleting = threading.Thread(target=delete)

    def late(*args: Any, **kwargs: Any) -> list[FileCopy]:
        deleting.start()
        deleting.join(timeout=1)
        return bulk_create(*args, **kwargs)

    monkeypatch.setattr(FileCopy.objects, "bulk_create", late)
    answered = replace(ANSWERED, uploads={file.public_id: "file-upstream"})
    assert recording.record(run, attempt, answered, driver=ME)
    deleting.join(timeout=60)
    run.refresh_from_db()
    assert run.status == "completed"
    assert not FileCopy.objects.exists()


def test_an_answer_whose_upstream_does_not_count_has_no_usage() -> None:
    run, attempt = begun()
    recording.record(run, attempt, replace(ANSWERED, usage=None), driver=ME)
    run.refresh_from_db()
    assert (run.status, run.prompt_tokens, run.completion_tokens) == ("completed", None, None)


def test_a_run_that_came_to_no_answer_has_spent_what_is_known() -> None:
    run, attempt = begun()
    recording.record(run, attempt, Progress("failed", error="?"), driver=ME)
    run.refresh_from_db()
    assert (run.status, run.prompt_tokens, run.completion_tokens) == ("failed", 0, 0)
