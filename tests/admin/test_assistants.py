"""Assistants: the form, their history, and retiring."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from assistant_manager.models import Assistant, Model, Project
from tests.admin.conftest import signed_in
from tests.factories import make_assistant, make_project, make_staff

LIST = "/admin/assistant_manager/assistant/"


def typed(**fields: Any) -> dict[str, Any]:
    return {
        "name": "Tutor",
        "model": "any-model",
        "instructions": "Be kind.",
        "tools": '[{"type": "code_interpreter"}]',
        "release_policy": "after_review",
        "sample_percent": "10",
        "temperature": "1.0",
        "top_p": "1.0",
        "response_format": '"auto"',
    } | fields


def test_an_assistant_is_made(as_staff: Client, project: Project, staff: User) -> None:
    response = as_staff.post(f"{LIST}add/", typed(project=project.pk))
    assert response.status_code == 302
    made = Assistant.objects.get()
    assert (made.project, made.name, made.release_policy) == (project, "Tutor", "after_review")
    assert made.tools == [{"type": "code_interpreter"}]
    assert made.history.get().history_user == staff


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "This field is required."),
        ({"tools": "{"}, "Enter a valid JSON."),
        ({"tools": '{"type": "code_interpreter"}'}, "Write a list of tools"),
        ({"tools": '["code_interpreter"]'}, "Write a list of tools"),
        ({"tools": '[{"type": "web"}]'}, "is one of code_interpreter"),
        ({"tools": '[{"type": "function"}]'}, "a function needs a name"),
        ({"tools": '[{"type": "function", "function": {"name": "a b"}}]'}, "needs a name"),
        (
            {
                "tools": '[{"type": "function", "function": {"name": "f",'
                ' "parameters": {"type": "nonsense"}}}]'
            },
            "is not a JSON Schema",
        ),
        (
            {
                "tools": '[{"type": "function", "function": {"name": "f"}},'
                ' {"type": "function", "function": {"name": "f"}}]'
            },
            "Two functions are called f.",
        ),
        ({"tools": "[" + ",".join(['{"type": "file_search"}'] * 129) + "]"}, "at most 128"),
        ({"temperature": "3"}, "less than or equal to 2"),
    ],
)
def test_a_mistake_is_named_under_its_field(
    as_staff: Client, project: Project, fields: dict[str, str], said: str
) -> None:
    html = as_staff.post(f"{LIST}add/", typed(project=project.pk, **fields)).content.decode()
    assert said in html
    assert not Assistant.objects.exists()


def test_a_model_that_leads_nowhere_is_refused(as_staff: Client, project: Project) -> None:
    Model.objects.all().delete()
    html = as_staff.post(f"{LIST}add/", typed(project=project.pk)).content.decode()
    assert "No model of this name is set up" in html


def test_an_assistant_cannot_be_put_into_a_project_of_others(
    as_staff: Client, project: Project
) -> None:
    foreign = make_project(name="theirs")
    assert "theirs" not in as_staff.get(f"{LIST}add/").content.decode()
    as_staff.post(f"{LIST}add/", typed(project=foreign.pk))
    assert not Assistant.objects.exists()


def test_a_change_leaves_what_somebody_else_changed_meanwhile(
    as_staff: Client, assistant: Assistant
) -> None:
    page = f"{LIST}{assistant.pk}/change/"
    form = as_staff.get(page).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    Assistant.objects.filter(pk=assistant.pk).update(metadata={"kept": "yes"})
    as_staff.post(page, shown | {"name": "Renamed"})
    assistant.refresh_from_db()
    assert (assistant.name, assistant.metadata) == ("Renamed", {"kept": "yes"})


def test_the_history_says_who_changed_what(
    as_staff: Client, project: Project, assistant: Assistant
) -> None:
    as_staff.post(f"{LIST}{assistant.pk}/change/", typed(name="Renamed"))
    html = as_staff.get(f"{LIST}{assistant.pk}/history/").content.decode()
    assert "<del>Math Assist</del> <ins>Renamed</ins>" in html
    assert "style=" not in html


def test_an_older_version_is_restored_whole(as_staff: Client, assistant: Assistant) -> None:
    as_staff.post(f"{LIST}{assistant.pk}/change/", typed())
    oldest = assistant.history.earliest()
    page = f"{LIST}{assistant.pk}/history/{oldest.pk}/"
    form = as_staff.get(page).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    assert as_staff.post(page, shown).status_code == 302
    assistant.refresh_from_db()
    assert assistant.name == "Math Assist"
    assert assistant.release_policy == "immediately"
    assert assistant.instructions == oldest.instructions
    assert assistant.history.count() == 3


def test_retiring_takes_an_assistant_out_and_keeps_it(
    as_staff: Client, assistant: Assistant, staff: User
) -> None:
    html = as_staff.post(f"{LIST}{assistant.pk}/retire/", follow=True).content.decode()
    assert "is retired. What it answered stays." in html
    assistant.refresh_from_db()
    assert assistant.retired_at is not None
    assert assistant.history.latest().history_user == staff


def test_a_retired_assistant_is_read_and_not_changed(
    as_staff: Client, assistant: Assistant
) -> None:
    as_staff.post(f"{LIST}{assistant.pk}/retire/")
    version = assistant.history.earliest()
    assert as_staff.get(f"{LIST}{assistant.pk}/change/").status_code == 200
    assert as_staff.post(f"{LIST}{assistant.pk}/change/", typed()).status_code == 403
    assert as_staff.post(f"{LIST}{assistant.pk}/retire/").status_code == 403
    assert as_staff.post(f"{LIST}{assistant.pk}/history/{version.pk}/", typed()).status_code == 403


def test_several_are_retired_from_the_list(as_staff: Client, project: Project) -> None:
    chosen = [make_assistant(project=project).pk for _ in range(2)]
    other = make_assistant(project=project)
    data = {"action": "retire", "_selected_action": chosen}
    html = as_staff.post(LIST, data, follow=True).content.decode()
    assert "2 assistants retired." in html
    assert list(Assistant.objects.live()) == [other]


def test_assistants_are_never_deleted(as_superuser: Client, assistant: Assistant) -> None:
    url = f"{LIST}{assistant.pk}/delete/"
    assert as_superuser.get(url).status_code == 403
    assert as_superuser.post(url, {"post": "yes"}).status_code == 403
    assert Assistant.objects.exists()


def test_looking_does_not_include_restoring_or_retiring(assistant: Assistant) -> None:
    user = make_staff(assistant.project)
    user.user_permissions.set(Permission.objects.filter(codename="view_assistant"))
    client, version = signed_in(user), assistant.history.earliest()
    assert client.get(f"{LIST}{assistant.pk}/history/").status_code == 200
    assert client.post(f"{LIST}{assistant.pk}/history/{version.pk}/", typed()).status_code == 403
    assert client.post(f"{LIST}{assistant.pk}/retire/").status_code == 403
    assistant.refresh_from_db()
    assert (assistant.name, assistant.retired_at) == ("Math Assist", None)
