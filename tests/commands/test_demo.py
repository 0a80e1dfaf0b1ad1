"""What the quickstart puts into an empty database."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from assistant_manager.demo import ensure_demo, ensure_key
from assistant_manager.models import ApiKey, Assistant, ReleasePolicy

pytestmark = pytest.mark.django_db


def test_an_empty_database_gets_a_user_and_two_assistants() -> None:
    demo = ensure_demo()

    assert demo.user.is_superuser
    assert not demo.user.has_usable_password()
    assert demo.assistant is not None
    assert demo.assistant.name == "Math Assist"
    assert demo.assistant.tools == [{"type": "code_interpreter"}]
    policies = Assistant.objects.order_by("pk").values_list("release_policy", flat=True)
    assert list(policies) == [ReleasePolicy.IMMEDIATELY, ReleasePolicy.AFTER_REVIEW]


def test_doing_it_again_adds_nothing() -> None:
    assert ensure_demo() == ensure_demo()
    assert User.objects.count() == 1
    assert Assistant.objects.count() == 2


def test_what_a_person_changed_stays_changed() -> None:
    demo = ensure_demo()
    assert demo.assistant is not None
    Assistant.objects.filter(pk=demo.assistant.pk).update(name="Ours", retired_at=timezone.now())
    User.objects.filter(pk=demo.user.pk).update(is_active=False)

    again = ensure_demo()

    assert again.assistant is not None
    assert again.assistant.name == "Math Assist, after review"
    assert not again.user.is_active
    assert Assistant.objects.count() == 2


def test_the_key_is_the_same_each_time_and_private(tmp_path: Path) -> None:
    ensure_demo()
    file = tmp_path / "key"

    assert ensure_key(file) == ensure_key(file) == file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ApiKey.objects.count() == 1


def test_a_revoked_key_is_replaced(tmp_path: Path) -> None:
    ensure_demo()
    first = ensure_key(tmp_path / "key")
    ApiKey.objects.all().revoke()

    second = ensure_key(tmp_path / "key")

    assert second != first
    assert ApiKey.objects.for_token(second) is not None
    assert ApiKey.objects.for_token(first) is None
