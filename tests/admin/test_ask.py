"""The Ask page."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from assistant_manager.models import Assistant, Model, Project
from conversations.admin.asking import FIRST_QUESTION
from conversations.models import Message, Run
from tests.admin.conftest import signed_in
from tests.factories import make_assistant, make_run, make_staff

ASK = "/admin/conversations/run/add/"


def test_the_first_visit_has_an_example_filled_in(as_staff: Client, project: Project) -> None:
    make_assistant(project=project, name="Aardvark")
    math = make_assistant(project=project, name="Math Assist")
    form = as_staff.get(ASK).context["form"]
    assert form.initial == {"assistant": math, "text": FIRST_QUESTION}


def test_later_visits_are_empty_and_remember_who_was_asked(
    as_staff: Client, project: Project, staff: User
) -> None:
    make_assistant(project=project, name="Math Assist")
    other = make_assistant(project=project, name="Zebra")
    make_run(assistant=other, asked_by=staff)
    form = as_staff.get(ASK).context["form"]
    assert form.initial == {"assistant": other, "text": ""}


def test_asking_stores_the_question_and_leads_to_the_run(
    as_staff: Client, assistant: Assistant, staff: User
) -> None:
    response = as_staff.post(ASK, {"assistant": assistant.pk, "text": " What is *x*? "})
    run = Run.objects.get()
    assert response["Location"] == f"/admin/conversations/run/{run.pk}/change/"
    assert run.asked_by == staff
    assert run.question is not None
    assert run.question.text == " What is *x*? "


@pytest.mark.parametrize("text", ["", "   \n "])
def test_an_empty_question_is_not_asked(as_staff: Client, assistant: Assistant, text: str) -> None:
    response = as_staff.post(ASK, {"assistant": assistant.pk, "text": text})
    assert "Write a question first." in response.content.decode()
    assert not Message.objects.exists()


def test_a_retired_assistant_is_not_offered(as_staff: Client, assistant: Assistant) -> None:
    Assistant.objects.update(retired_at=timezone.now())
    response = as_staff.post(ASK, {"assistant": assistant.pk, "text": "x?"})
    assert response.status_code == 200
    assert not Run.objects.exists()


def test_an_assistant_of_another_project_is_not_offered(
    as_staff: Client, assistant: Assistant
) -> None:
    foreign = make_assistant(name="Theirs")
    response = as_staff.post(ASK, {"assistant": foreign.pk, "text": "x?"})
    assert "Theirs" not in response.content.decode()
    assert not Run.objects.exists()


def test_a_model_that_leads_nowhere_is_explained_and_the_text_is_kept(
    as_staff: Client, assistant: Assistant
) -> None:
    Model.objects.all().delete()
    page = as_staff.post(ASK, {"assistant": assistant.pk, "text": "Keep me"}).content.decode()
    assert "Ask an administrator to set the model up" in page
    assert "Keep me" in page
    assert not Message.objects.exists()


def test_without_an_assistant_the_page_says_how_to_get_one(as_staff: Client) -> None:
    page = as_staff.get(ASK).content.decode()
    assert "There is no assistant yet." in page
    assert "/admin/assistant_manager/assistant/add/" in page


def test_who_may_not_make_assistants_is_told_whom_to_ask(project: Project) -> None:
    user = make_staff(project)
    user.user_permissions.remove(Permission.objects.get(codename="add_assistant"))
    assert "An administrator has to" in signed_in(user).get(ASK).content.decode()


def test_asking_needs_the_permission(assistant: Assistant) -> None:
    user = make_staff(assistant.project)
    user.user_permissions.remove(Permission.objects.get(codename="add_run"))
    client = signed_in(user)
    assert client.get(ASK).status_code == 403
    assert client.post(ASK, {"assistant": assistant.pk, "text": "x?"}).status_code == 403
    assert not Run.objects.exists()
