from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from assistant_manager.models import ApiKey, Project

pytestmark = pytest.mark.django_db


def test_the_key_is_the_last_word_printed_and_opens_its_project(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("create_api_key", project=project.name, name="billing")
    token = capsys.readouterr().out.split()[-1]

    key = ApiKey.objects.for_token(token)
    assert key is not None
    assert (key.project, key.name, key.expires_at) == (project, "billing", None)


def test_a_key_can_expire(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_api_key", project=project.name, name="trial", expires=30)
    token = capsys.readouterr().out.split()[-1]

    key = ApiKey.objects.for_token(token)
    assert key is not None
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)


def test_the_key_itself_is_not_stored(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_api_key", project=project.name, name="billing")
    token = capsys.readouterr().out.split()[-1]

    stored = ApiKey.objects.filter(name="billing").values().get()
    assert token not in str(stored)


def test_an_unknown_project_is_refused_with_the_known_ones(project: Project) -> None:
    with pytest.raises(CommandError, match=f"no project “nowhere”.*{project.name}"):
        call_command("create_api_key", project="nowhere", name="x")
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": " "}, "--name"),
        ({"name": "n" * 101}, "--name"),
        ({"name": "x", "expires": 0}, "--expires"),
        ({"name": "x", "expires": 10**9}, "--expires"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    project: Project, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("create_api_key", project=project.name, **arguments)
    assert not ApiKey.objects.exists()
