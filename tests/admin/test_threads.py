"""The page of a thread."""

from __future__ import annotations

from django.test import Client

from assistant_manager.models import Assistant, Project
from conversations.models import Run, RunStatus
from tests.factories import make_message, make_run, make_thread


def page(thread_id: int) -> str:
    return f"/admin/conversations/thread/{thread_id}/change/"


def test_messages_are_read_from_top_to_bottom(as_staff: Client, project: Project) -> None:
    thread = make_thread(project=project, question="first *question*")
    make_message(thread=thread, text="an answer", role="assistant")
    html = as_staff.get(page(thread.pk)).content.decode()
    assert html.index("first <em>question</em>") < html.index("an answer")


def test_a_long_thread_shows_its_newest_messages(as_staff: Client, project: Project) -> None:
    thread = make_thread(project=project, question="the very first")
    for number in range(50):
        make_message(thread=thread, text=f"message {number}")
    html = as_staff.get(page(thread.pk)).content.decode()
    assert "the very first" not in html
    assert "message 49" in html
    assert "Only the newest messages are shown" in html


def test_the_next_question_goes_to_the_last_assistant(
    as_staff: Client, assistant: Assistant
) -> None:
    run = make_run(assistant=assistant, status=RunStatus.COMPLETED)
    form = as_staff.get(page(run.thread_id)).context["form"]
    assert form.initial["assistant"] == assistant
    as_staff.post(page(run.thread_id), {"assistant": assistant.pk, "text": "And y?"})
    assert Run.objects.order_by("-pk")[0].thread_id == run.thread_id


def test_a_busy_thread_says_so(as_staff: Client, assistant: Assistant) -> None:
    run = make_run(assistant=assistant, status=RunStatus.IN_PROGRESS)
    html = as_staff.get(page(run.thread_id)).content.decode()
    assert "has not ended" in html
    data = {"assistant": assistant.pk, "text": "And y?"}
    html = as_staff.post(page(run.thread_id), data).content.decode()
    assert "This thread is still busy" in html
    assert run.thread.messages.count() == 1


def test_an_empty_thread_is_a_page_too(as_staff: Client, project: Project) -> None:
    html = as_staff.get(page(make_thread(project=project).pk)).content.decode()
    assert "Nothing has been said in this thread yet." in html
