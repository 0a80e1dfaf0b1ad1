"""What may be asked of runs, and what is refused; moves and races."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from assistant_manager.engines.base import MessageItem, Progress
from assistant_manager.models import Assistant, Model, Project
from conversations import ledger, recording
from conversations.exceptions import (
    NoOutputsWanted,
    NotCancellable,
    Refusal,
    RunActive,
    ThreadBusy,
    UnknownModel,
    WrongOutputs,
)
from conversations.models import (
    Message,
    Run,
    RunAttempt,
    RunEvent,
    RunStatus,
    RunStep,
    Thread,
    events,
)
from conversations.models.status import ACTIVE, ALLOWED_FROM, TERMINAL
from conversations.services import runs, threads
from conversations.services.threads import NewMessage, text_content
from tests.factories import make_assistant, make_message, make_run, make_thread

pytestmark = pytest.mark.django_db

HELLO: NewMessage = {"role": "user", "content": text_content("hello")}


def together(*actions: Callable[[], object]) -> list[BaseException | None]:
    """Run the actions in threads at once; what each raised, if anything."""
    outcomes: list[BaseException | None] = [None] * len(actions)
    barrier = threading.Barrier(len(actions))

    def act(number: int) -> None:
        barrier.wait()
        try:
            actions[number]()
        except Exception as error:
            outcomes[number] = error
        finally:
            connection.close()

    workers = [threading.Thread(target=act, args=(number,)) for number in range(len(actions))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return outcomes


def test_a_run_keeps_what_was_asked_when_the_assistant_changes_later(
    assistant: Assistant, thread: Thread
) -> None:
    question = make_message(thread=thread)
    run = runs.request_run(thread=thread, assistant=assistant)
    Assistant.objects.update(instructions="other", model="other", tools=[])
    run.refresh_from_db()
    assert run.model == "gpt-4-1106-preview"
    assert run.instructions.startswith("You are an AI assistant")
    assert run.tools == [{"type": "code_interpreter"}]
    assert run.question == question


def test_additional_instructions_follow_and_instructions_replace(
    assistant: Assistant, project: Project
) -> None:
    added = runs.request_run(
        thread=make_thread(project=project),
        assistant=assistant,
        additional_instructions="Be brief.",
    )
    replaced = runs.request_run(
        thread=make_thread(project=project), assistant=assistant, instructions="Only this."
    )
    assert added.instructions == f"{assistant.instructions}\n\nBe brief."
    assert replaced.instructions == "Only this."


def test_a_thread_has_one_active_run(assistant: Assistant, thread: Thread) -> None:
    run = runs.request_run(thread=thread, assistant=assistant)
    with pytest.raises(RunActive, match=f"already has an active run {run.public_id}"):
        runs.request_run(thread=thread, assistant=assistant, additional_messages=[HELLO])
    assert not thread.messages.exists(), "a refused run leaves no messages behind"


def test_the_database_itself_refuses_a_second_active_run(thread: Thread) -> None:
    run = make_run(thread=thread)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_run(thread=thread, assistant=run.assistant)


def test_a_busy_thread_takes_no_message(assistant: Assistant, thread: Thread) -> None:
    run = runs.request_run(thread=thread, assistant=assistant)
    with pytest.raises(ThreadBusy) as refusal:
        threads.add_message(thread=thread, message=HELLO)
    assert str(refusal.value) == (
        f"Can't add messages to {thread.public_id} while a run {run.public_id} is active."
    )


@pytest.mark.django_db(transaction=True)
def test_of_runs_requested_at_once_one_wins(assistant: Assistant, thread: Thread) -> None:
    outcomes = together(
        *[lambda: runs.request_run(thread=thread, assistant=assistant) for _ in range(6)]
    )
    assert outcomes.count(None) == 1
    assert {type(outcome) for outcome in outcomes if outcome} == {RunActive}
    assert thread.runs.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_message_racing_with_a_run_is_either_before_it_or_refused(
    assistant: Assistant, project: Project
) -> None:
    for _ in range(5):
        thread = make_thread(project=project)
        _, refused = together(
            lambda thread=thread: runs.request_run(thread=thread, assistant=assistant),
            lambda thread=thread: threads.add_message(thread=thread, message=HELLO),
        )
        run = thread.runs.get()
        if refused is None:
            assert run.question == thread.messages.get()
        else:
            assert isinstance(refused, ThreadBusy)
            assert not thread.messages.exists()


def test_a_model_nobody_serves_is_refused(assistant: Assistant, thread: Thread) -> None:
    Model.objects.all().delete()
    with pytest.raises(UnknownModel, match="gpt-4-1106-preview"):
        runs.request_run(thread=thread, assistant=assistant)
    assert not thread.runs.exists()


def test_every_legal_move_is_made_and_every_other_is_refused() -> None:
    run = make_run()
    for start in RunStatus:
        for to, allowed in ALLOWED_FROM.items():
            Run.objects.filter(pk=run.pk).update(status=start, due_at=timezone.now())
            run.refresh_from_db()
            assert run.move(to) is (start in allowed), f"{start} -> {to}"


def test_nothing_leaves_a_terminal_status() -> None:
    assert not {start for allowed in ALLOWED_FROM.values() for start in allowed} & set(TERMINAL)
    assert set(ACTIVE) | set(TERMINAL) == set(RunStatus)


def test_a_move_leaves_one_event_and_a_refused_one_none() -> None:
    run = make_run(status=RunStatus.IN_PROGRESS)
    assert run.move(RunStatus.COMPLETED)
    assert not run.move(RunStatus.COMPLETED)
    assert [(event.seq, event.type) for event in run.events.all()] == [(1, "thread.run.completed")]


@pytest.mark.django_db(transaction=True)
def test_of_two_moves_at_once_one_wins() -> None:
    for _ in range(5):
        run = make_run(status=RunStatus.IN_PROGRESS)
        won: list[bool] = []
        together(
            lambda run=run, won=won: won.append(
                Run.objects.get(pk=run.pk).move(RunStatus.COMPLETED)
            ),
            lambda run=run, won=won: won.append(
                Run.objects.get(pk=run.pk).move(RunStatus.CANCELLING)
            ),
        )
        assert sorted(won) == [False, True]
        assert run.events.count() == 1


@pytest.mark.parametrize("status", TERMINAL)
def test_a_finished_run_cannot_be_cancelled(status: RunStatus) -> None:
    run = make_run(status=status)
    with pytest.raises(NotCancellable) as refusal:
        runs.cancel_run(run=run)
    assert str(refusal.value) == f"Cannot cancel run with status '{status}'."


def test_a_run_being_cancelled_cannot_be_cancelled_again() -> None:
    run = make_run()
    runs.cancel_run(run=run)
    with pytest.raises(NotCancellable):
        runs.cancel_run(run=run)


@pytest.fixture
def waiting() -> Run:
    """A run that waits for the outputs of two parallel calls."""
    run = make_run(status=RunStatus.REQUIRES_ACTION)
    calls = [
        {
            "id": f"call_{letter}",
            "type": "function",
            "function": {"name": "f", "arguments": "{}", "output": None},
        }
        for letter in "ab"
    ]
    RunStep.objects.create(
        run=run,
        attempt=1,
        item="calls",
        type="tool_calls",
        for_client=True,
        details={"type": "tool_calls", "tool_calls": calls},
    )
    return run


def test_a_new_runs_events_are_numbered_from_one() -> None:
    thread = make_thread()
    run = runs.request_run(thread=thread, assistant=make_assistant(project=thread.project))
    RunEvent.objects.append(run, "thread.run.in_progress", {})

    assert list(run.events.values_list("seq", "type")) == [
        (1, "thread.run.created"),
        (2, "thread.run.queued"),
        (3, "thread.run.in_progress"),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_new_run_is_told_to_drivers_and_to_followers() -> None:
    """By notifications, or by the counter that SQLite keeps of other connections' commits."""
    thread = make_thread()
    assistant = make_assistant(project=thread.project)
    other: Any = connection.copy()
    with other.cursor() as cursor, closing(other):
        if connection.vendor == "postgresql":
            cursor.execute(f"LISTEN {events.CHANNEL}")
            cursor.execute(f"LISTEN {events.WORK_CHANNEL}")
            runs.request_run(thread=thread, assistant=assistant)
            told = {told.channel for told in other.connection.notifies(timeout=60, stop_after=2)}
            assert told == {events.CHANNEL, events.WORK_CHANNEL}
        else:
            before = cursor.execute("PRAGMA data_version").fetchone()
            runs.request_run(thread=thread, assistant=assistant)
            assert cursor.execute("PRAGMA data_version").fetchone() != before


def test_outputs_complete_the_step_and_queue_the_run(waiting: Run) -> None:
    run = runs.submit_tool_outputs(run=waiting, outputs={"call_a": "1", "call_b": "2"})
    assert run.status == "queued"
    assert run.due_at is not None
    step = run.steps.get()
    assert step.status == "completed"
    assert [call["function"]["output"] for call in step.calls] == ["1", "2"]
    assert [event.type for event in run.events.all()] == [
        "thread.run.step.completed",
        "thread.run.queued",
    ]


@pytest.mark.parametrize("outputs", [{"call_a": "1"}, {"call_a": "1", "call_b": "2", "call_c": ""}])
def test_outputs_come_all_together_and_no_others(waiting: Run, outputs: dict[str, str]) -> None:
    with pytest.raises(WrongOutputs) as refusal:
        runs.submit_tool_outputs(run=waiting, outputs=outputs)
    assert str(refusal.value) == (
        f"Expected tool outputs for call_ids ['call_a', 'call_b'], got {list(outputs)}"
    )
    assert [call["function"]["output"] for call in waiting.steps.get().calls] == [None, None]


def test_a_run_that_waits_for_nothing_takes_no_outputs() -> None:
    run = make_run(status=RunStatus.EXPIRED)
    with pytest.raises(NoOutputsWanted) as refusal:
        runs.submit_tool_outputs(run=run, outputs={})
    assert str(refusal.value) == 'Runs in status "expired" do not accept tool outputs.'


@pytest.mark.django_db(transaction=True)
def test_outputs_submitted_twice_at_once_are_taken_once(waiting: Run) -> None:
    outputs = {"call_a": "1", "call_b": "2"}
    outcomes = together(
        *[lambda: runs.submit_tool_outputs(run=waiting, outputs=outputs) for _ in range(3)]
    )
    assert outcomes.count(None) == 1
    assert all(isinstance(outcome, Refusal) for outcome in outcomes if outcome)


def test_an_overdue_run_expires_on_reading(waiting: Run) -> None:
    Run.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    waiting.refresh_from_db()
    run = runs.end_if_overdue(waiting)
    assert run.status == "expired"
    assert run.steps.get().status == "expired"
    assert runs.end_if_overdue(run).status == "expired"
    assert RunEvent.objects.filter(run=run, type="thread.run.expired").count() == 1


def test_an_overdue_cancelling_run_ends_as_cancelled() -> None:
    run = make_run(status=RunStatus.CANCELLING, expires_at=timezone.now() - timedelta(seconds=1))
    assert runs.end_if_overdue(run).status == "cancelled"


def test_a_claim_takes_due_rows_only_and_each_once() -> None:
    now = timezone.now()
    due = make_run()
    make_run(due_at=now + timedelta(hours=1))
    make_run(due_at=None, status=RunStatus.COMPLETED)
    make_run(due_at=None, leased_by="other", lease_expires_at=now + timedelta(hours=1))
    lapsed = make_run(due_at=None, leased_by="dead", lease_expires_at=now - timedelta(seconds=5))
    now = timezone.now()
    assert Run.objects.claim(driver="me", now=now, limit=10) == [due, lapsed]
    assert Run.objects.claim(driver="you", now=now, limit=10) == []


def test_claims_read_the_front_of_an_index_however_long_the_queue() -> None:
    """A driver with a backlog claims for each run it ends; sorting the backlog each time would
    cost more than the runs."""
    for _ in range(20):
        make_run()
    now = timezone.now()
    if connection.vendor == "postgresql":
        # The tables of tests are too small for an index to pay; and whoever cleans them up in the
        # background has the planner think that there is nothing in them.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE conversations_run")
            for plan in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{plan} = off")
    for rows, index in (
        (Run.objects.due(now)[:1], "run_due"),
        (Run.objects.lapsed(now)[:1], "run_lease"),
        (Run.objects.filter(leased_by="me"), "run_leased_by"),
        (Run.objects.filter(leased_by="me", due_at__isnull=False), "run_leased_by"),
        (Run.objects.order_by("leased_by").filter(leased_by__gt="me")[:1], "run_leased_by"),
    ):
        plan = rows.explain()
        assert re.search(rf"\b{index}\b", plan), plan
        assert not re.search("Sort|ORDER BY|SCAN conversations_run", plan), plan


def test_an_active_run_cannot_be_forgotten() -> None:
    """Neither due nor leased, no driver would ever look at it again."""
    run = make_run(status=RunStatus.REQUIRES_ACTION)
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(due_at=None)


def test_runs_asked_while_the_clock_was_ahead_are_not_put_off() -> None:
    now = timezone.now()
    ahead = make_run(due_at=now + timedelta(hours=1))
    make_run(status=RunStatus.REQUIRES_ACTION, due_at=now + timedelta(minutes=5))
    assert Run.objects.bring_forward(now) == 1
    assert Run.objects.claim(driver="me", now=now, limit=10) == [ahead]


def test_a_knock_is_heard_from_a_machine_whose_clock_is_ahead() -> None:
    run = make_run()
    Run.objects.claim(driver="me", now=timezone.now(), limit=1)
    assert ledger.knocks(driver="me") == []
    Run.objects.filter(pk=run.pk).update(due_at=timezone.now() + timedelta(hours=1))
    assert ledger.knocks(driver="me") == [run]
    assert ledger.knocks(driver="me") == []


@pytest.mark.django_db(transaction=True)
def test_drivers_that_claim_at_once_share_no_row() -> None:
    for _ in range(20):
        make_run()
    taken: list[str] = []
    now = timezone.now() + timedelta(seconds=1)

    def claim(driver: str) -> None:
        taken.extend(run.public_id for run in Run.objects.claim(driver=driver, now=now, limit=20))

    outcomes = together(*[lambda name=name: claim(name) for name in ("one", "two", "three")])
    assert outcomes == [None] * 3
    assert len(taken) == len(set(taken)) == 20


def test_messages_of_one_second_keep_their_order(thread: Thread) -> None:
    now = timezone.now()
    for number in range(5):
        message = make_message(thread=thread, text=str(number))
        Message.objects.filter(pk=message.pk).update(created_at=now)
    assert [message.text for message in thread.messages.order_by("pk")] == list("01234")


def test_a_code_attachment_joins_the_threads_files(thread: Thread) -> None:
    message: NewMessage = {
        **HELLO,
        "attachments": [
            {"file_id": "file-a", "tools": [{"type": "code_interpreter"}]},
            {"file_id": "file-b", "tools": [{"type": "file_search"}]},
        ],
    }
    threads.add_message(thread=thread, message=message)
    thread.refresh_from_db()
    assert thread.tool_resources == {"code_interpreter": {"file_ids": ["file-a"]}}


def test_a_run_sees_the_files_of_assistant_and_thread(project: Project) -> None:
    assistant = make_assistant(
        project=project, tool_resources={"code_interpreter": {"file_ids": ["file-a"]}}
    )
    thread = make_thread(
        project=project, tool_resources={"code_interpreter": {"file_ids": ["file-b", "file-a"]}}
    )
    run = runs.request_run(thread=thread, assistant=assistant)
    assert run.tool_resources == {"code_interpreter": {"file_ids": ["file-a", "file-b"]}}


def test_a_deleted_thread_takes_everything_with_it(waiting: Run) -> None:
    threads.delete_thread(thread=waiting.thread)
    assert not Run.objects.exists()
    assert not RunStep.objects.exists()
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_thread_deleted_while_its_answer_is_written_is_gone_without_an_error() -> None:
    answer = Progress("completed", items=[MessageItem("answer", "x = 1", done=True)])
    for _ in range(10):
        run = make_run()
        Run.objects.claim(driver="me", now=timezone.now(), limit=1)
        begun = ledger.begin(run, driver="me")
        assert begun is not None

        def write(run: Run = run, attempt: RunAttempt = begun.attempt) -> None:
            with transaction.atomic():
                recording.record(run, attempt, answer, driver="me")
                time.sleep(0.05)

        def delete(run: Run = run) -> None:
            time.sleep(0.03)
            threads.delete_thread(thread=run.thread)

        assert together(write, delete) == [None, None]
        assert not Thread.objects.filter(pk=run.thread_id).exists()
