"""The page of a run, its moving part and its buttons."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assistant_manager.engines.base import (
    GeneratedFile,
    MessageItem,
    Progress,
    ToolCall,
    ToolCallsItem,
)
from assistant_manager.models import Assistant, Connection, File, Project
from conversations import recording
from conversations.models import DriverHeartbeat, Review, Run, RunAttempt, RunStatus
from tests.admin.conftest import signed_in
from tests.factories import make_assistant, make_run, make_staff

PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
def worker(db: None) -> DriverHeartbeat:
    """One whose heartbeat lasts for the whole test, however long that takes."""
    now = timezone.now()
    seen_at = now + timedelta(hours=1)
    return DriverHeartbeat.objects.create(name="w", started_at=now, seen_at=seen_at)


def page(run: Run, part: str = "change") -> str:
    return f"/admin/conversations/run/{run.pk}/{part}/"


def play(run: Run, progress: Progress) -> None:
    """Record `progress` as a driver would."""
    lease = timezone.now() + timedelta(minutes=1)
    attempt, _ = RunAttempt.objects.get_or_create(run=run, number=1)
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.IN_PROGRESS, attempt=1, leased_by="t", lease_expires_at=lease
    )
    run.refresh_from_db()
    assert recording.record(run, attempt, progress, driver="t")


def code(**fields: Any) -> ToolCallsItem:
    call = ToolCall(id="call_1", type="code_interpreter", input="print(1)", **fields)
    return ToolCallsItem("code", [call], done=True)


def test_a_page_shows_question_code_output_and_answer(
    as_staff: Client, assistant: Assistant
) -> None:
    run = make_run(assistant=assistant)
    call = code(
        logs="forty-two",
        images=[GeneratedFile("plot.png", PNG)],
        notes={"stderr": "a warning", "seconds": 1.25, "limit": "It ran out of time."},
    )
    play(run, Progress("completed", [call, MessageItem("a", "x is **1**", done=True)]))
    html = as_staff.get(page(run)).content.decode()
    for part in (
        *("<code>3x + 11 = 14</code>", "print(1)", "forty-two", "a warning", "1.25 s"),
        *("It ran out of time.", "x is <strong>1</strong>", "Completed"),
        f"/admin/assistant_manager/file/{File.objects.get().public_id}/picture/",
    ):
        assert part in html


def test_an_answer_cannot_act_in_the_page(as_staff: Client, assistant: Assistant) -> None:
    run = make_run(assistant=assistant)
    bad = "<script>alert(1)</script>"
    call = ToolCall(id="call_1", type="code_interpreter", input=bad, logs=bad, notes={"limit": bad})
    items = [ToolCallsItem("code", [call], done=True), MessageItem("a", bad, done=True)]
    play(run, Progress("completed", items))
    html = as_staff.get(page(run)).content.decode()
    assert bad not in html
    assert html.count("&lt;script&gt;alert(1)") == 4


def test_a_held_answer_is_shown_to_staff(as_staff: Client, project: Project) -> None:
    run = make_run(assistant=make_assistant(project=project, release_policy="after_review"))
    play(run, Progress("completed", [MessageItem("a", "a careful answer", done=True)]))
    html = as_staff.get(page(run)).content.decode()
    assert "a careful answer" in html
    assert "programs do not see it before a person has approved it" in html


def test_a_failure_is_told_in_plain_words(as_staff: Client, assistant: Assistant) -> None:
    error = {"code": "server_error", "message": "The sandbox is missing."}
    run = make_run(assistant=assistant, status=RunStatus.FAILED, last_error=error)
    html = as_staff.get(page(run)).content.decode()
    assert "This run failed.</strong> The sandbox is missing." in html


def test_an_unfinished_run_keeps_asking_and_an_ended_one_stops(
    as_staff: Client, assistant: Assistant, worker: DriverHeartbeat
) -> None:
    run = make_run(assistant=assistant)
    first = as_staff.get(page(run, "live"))
    assert first.status_code == 200
    assert 'hx-trigger="every 500ms"' in first.content.decode()
    play(run, Progress("completed", [MessageItem("a", "x = 1", done=True)]))
    last = as_staff.get(page(run, "live"))
    assert last.status_code == 286
    assert "hx-trigger" not in last.content.decode()
    assert "x = 1" in last.content.decode()


def test_nothing_is_sent_while_nothing_has_changed(
    as_staff: Client,
    assistant: Assistant,
    worker: DriverHeartbeat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How long a question has waited changes too, but not while this test goes on.
    monkeypatch.setattr("conversations.admin.runs.OUTLOOK_EVERY", timedelta(hours=1))
    run = make_run(assistant=assistant)
    seen = as_staff.get(page(run)).context["seen"]
    live = page(run, "live") + f"?seen={seen}"
    with CaptureQueriesContext(connection) as queries:
        assert as_staff.get(live).status_code == 204
    assert len(queries) <= 8
    play(run, Progress("working", [MessageItem("a", "x", done=False)]))
    assert as_staff.get(live).status_code == 200


def test_a_page_without_a_worker_says_so(
    as_staff: Client, assistant: Assistant, worker: DriverHeartbeat
) -> None:
    run = make_run(assistant=assistant)
    assert "No worker is running" not in as_staff.get(page(run)).content.decode()
    seen = as_staff.get(page(run)).context["seen"]
    DriverHeartbeat.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    assert "No worker is running" in as_staff.get(page(run)).content.decode()
    assert as_staff.get(page(run, "live") + f"?seen={seen}").status_code == 200


def test_a_pause_of_the_connection_is_what_a_queued_run_waits_for(
    as_staff: Client, assistant: Assistant, worker: DriverHeartbeat
) -> None:
    run = make_run(assistant=assistant, waiting_for="Waiting for a place.")
    seen = as_staff.get(page(run)).context["seen"]
    Connection.objects.update(
        paused_until=timezone.now() + timedelta(hours=1),
        pause_reason="Waiting for quota until 10:42.",
    )
    live = as_staff.get(page(run, "live") + f"?seen={seen}").content.decode()
    assert "Waiting for quota until 10:42." in live
    assert (
        "Waiting for quota until 10:42."
        in as_staff.get("/admin/conversations/run/").content.decode()
    )
    Connection.objects.update(paused_until=timezone.now())
    assert "Waiting for a place." in as_staff.get(page(run)).content.decode()


def test_what_a_run_waits_for_is_shown(
    as_staff: Client, assistant: Assistant, worker: DriverHeartbeat
) -> None:
    run = make_run(assistant=assistant, waiting_for="The upstream is busy; trying again in 4 s.")
    assert "The upstream is busy" in as_staff.get(page(run)).content.decode()


def test_an_overdue_run_has_expired_even_without_a_worker(
    as_staff: Client, assistant: Assistant
) -> None:
    run = make_run(assistant=assistant, expires_at=timezone.now() - timedelta(seconds=1))
    assert "This run expired" in as_staff.get(page(run)).content.decode()


def test_a_poll_after_the_session_has_ended_reloads_the_page(assistant: Assistant) -> None:
    run = make_run(assistant=assistant)
    response = Client().get(page(run, "live"), headers={"HX-Request": "true"})
    assert response["HX-Refresh"] == "true"
    assert response.content == b""


def test_stopping_asks_the_run_to_cancel(as_staff: Client, assistant: Assistant) -> None:
    run = make_run(assistant=assistant, status=RunStatus.IN_PROGRESS)
    as_staff.post(page(run, "stop"))
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLING


def test_stopping_an_ended_run_changes_nothing(as_staff: Client, assistant: Assistant) -> None:
    run = make_run(assistant=assistant, status=RunStatus.COMPLETED)
    response = as_staff.post(page(run, "stop"), follow=True)
    assert "there was nothing to stop" in response.content.decode()
    run.refresh_from_db()
    assert run.status == RunStatus.COMPLETED


def waiting_for_outputs(assistant: Assistant) -> Run:
    run = make_run(assistant=assistant)
    call = ToolCall(id="call_w", type="function", name="weather", arguments='{"city": "Bern"}')
    play(run, Progress("requires_action", [ToolCallsItem("f", [call])]))
    return run


def test_outputs_typed_in_send_the_run_on(as_staff: Client, assistant: Assistant) -> None:
    run = waiting_for_outputs(assistant)
    html = as_staff.get(page(run)).content.decode()
    assert "weather({&quot;city&quot;: &quot;Bern&quot;})" in html
    as_staff.post(page(run, "outputs"), {"output-call_w": "sunny"})
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
    assert run.steps.get().calls[0]["function"]["output"] == "sunny"


def test_outputs_sent_twice_are_refused_in_words(as_staff: Client, assistant: Assistant) -> None:
    run = waiting_for_outputs(assistant)
    as_staff.post(page(run, "outputs"), {"output-call_w": "sunny"})
    response = as_staff.post(page(run, "outputs"), {"output-call_w": "rain"}, follow=True)
    assert "do not accept tool outputs" in response.content.decode()
    assert run.steps.get().calls[0]["function"]["output"] == "sunny"


def test_a_follow_up_question_joins_the_thread(as_staff: Client, assistant: Assistant) -> None:
    run = make_run(assistant=assistant, status=RunStatus.COMPLETED)
    as_staff.post(page(run), {"assistant": assistant.pk, "text": "And y?"})
    assert [message.text for message in run.thread.messages.all()][-1] == "And y?"
    assert run.thread.runs.count() == 2


def test_a_busy_thread_is_explained_and_the_text_is_kept(
    as_staff: Client, assistant: Assistant
) -> None:
    run = make_run(assistant=assistant, status=RunStatus.IN_PROGRESS)
    html = as_staff.post(page(run), {"assistant": assistant.pk, "text": "And y?"}).content.decode()
    assert "This thread is still busy with an earlier question." in html
    assert "And y?" in html
    assert run.thread.messages.count() == 1


def test_an_assistant_of_another_project_cannot_be_drawn_into_a_thread(
    assistant: Assistant, project: Project
) -> None:
    other = make_assistant()
    client = signed_in(make_staff(project, other.project))
    run = make_run(assistant=assistant, status=RunStatus.COMPLETED)
    client.post(page(run), {"assistant": other.pk, "text": "Psst?"})
    assert run.thread.runs.count() == 1


def test_the_review_button_queues_an_answer_nobody_had_queued(
    as_staff: Client, assistant: Assistant
) -> None:
    run = make_run(assistant=assistant, status=RunStatus.COMPLETED)
    response = as_staff.post(page(run, "review"))
    assert response["Location"] == f"/admin/conversations/review/{Review.objects.get().pk}/change/"


def test_a_run_without_an_answer_cannot_be_reviewed(as_staff: Client, assistant: Assistant) -> None:
    run = make_run(assistant=assistant, status=RunStatus.FAILED)
    as_staff.post(page(run, "review"))
    assert not Review.objects.exists()


@pytest.mark.parametrize("part", ["stop", "outputs", "review"])
def test_buttons_are_pressed_and_not_visited(
    as_staff: Client, assistant: Assistant, part: str
) -> None:
    run = make_run(assistant=assistant, status=RunStatus.IN_PROGRESS)
    assert as_staff.get(page(run, part)).status_code in (302, 403)
    run.refresh_from_db()
    assert run.status == RunStatus.IN_PROGRESS


def test_who_may_only_look_finds_no_buttons_and_can_press_none(assistant: Assistant) -> None:
    user = make_staff(assistant.project)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_run"]))
    run = make_run(assistant=assistant, status=RunStatus.IN_PROGRESS)
    client = signed_in(user)
    html = client.get(page(run)).content.decode()
    assert "Stop" not in html
    assert "<textarea" not in html
    for part in ("change", "stop", "outputs", "review"):
        assert client.post(page(run, part), {"text": "x"}).status_code == 403
    run.refresh_from_db()
    assert run.status == RunStatus.IN_PROGRESS


def test_who_may_not_look_sees_nothing(assistant: Assistant) -> None:
    user = make_staff(assistant.project)
    user.user_permissions.clear()
    run = make_run(assistant=assistant)
    for part in ("change", "live"):
        assert signed_in(user).get(page(run, part)).status_code == 403


def test_a_page_says_how_many_questions_are_before_one(
    as_staff: Client, assistant: Assistant, worker: DriverHeartbeat
) -> None:
    asked = timezone.now() - timedelta(minutes=5)
    make_run(assistant=assistant, created_at=asked, due_at=asked)
    later = asked + timedelta(minutes=1)
    run = make_run(assistant=assistant, created_at=later, due_at=later)
    assert "1 question before it." in as_staff.get(page(run)).content.decode()


def test_the_list_says_what_waits_in_ones_own_projects(
    as_staff: Client, assistant: Assistant
) -> None:
    def shown() -> str:
        return as_staff.get("/admin/conversations/run/").content.decode()

    asked = timezone.now() - timedelta(hours=5)
    make_run(due_at=asked)
    assert "waits for" not in shown()
    make_run(assistant=assistant, due_at=asked)
    assert "1 question waits for “Embedded”, for 5 hours." in shown()


def test_a_page_that_waits_says_anew_from_time_to_time_how_long(
    as_staff: Client, assistant: Assistant, worker: DriverHeartbeat
) -> None:
    asked = timezone.now() - timedelta(minutes=5)
    first = make_run(assistant=assistant, created_at=asked, due_at=asked)
    run = make_run(assistant=assistant, created_at=asked, due_at=timezone.now())
    assert "1 question before it." in as_staff.get(page(run)).content.decode()
    seen = as_staff.get(page(run, "live")).context["seen"]
    Run.objects.filter(pk=first.pk).update(status=RunStatus.CANCELLED, due_at=None)
    Run.objects.filter(pk=run.pk).update(created_at=asked - timedelta(seconds=6))
    again = as_staff.get(page(run, "live"), {"seen": seen})
    assert again.status_code == 200
    assert "before it" not in again.content.decode()
