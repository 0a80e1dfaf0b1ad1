"""What the quickstart puts into an empty database, so that the first minute has something to see."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from assistant_manager.models import ApiKey, Assistant, Model, Project, ReleasePolicy
from assistant_manager.services import (
    DEFAULT_PROJECT,
    EMBEDDED_MODEL,
    create_assistant,
    ensure_defaults,
)

USERNAME = "demo"
KEY_NAME = "quickstart"

MATH_ASSIST: dict[str, Any] = {
    "name": "Math Assist",
    "instructions": "You are an AI assistant that can write code to help answer math questions.",
    "tools": [{"type": "code_interpreter"}],
    "model": "gpt-4-1106-preview",
}
"""The assistant of the vendor's quickstart, word for word."""

REVIEWED: dict[str, Any] = {
    **MATH_ASSIST,
    "name": "Math Assist, after review",
    "description": "Its answers wait until a person has approved them.",
    "release_policy": ReleasePolicy.AFTER_REVIEW,
}


@dataclass(frozen=True, slots=True)
class Demo:
    user: User
    assistant: Assistant | None
    """The one to try first; None when every assistant of the project was retired."""


@transaction.atomic
def ensure_demo() -> Demo:
    """Make the demo user and the demo assistants where they are missing. Safe to repeat.

    Assistants are made once only, in a project that never had any: what a person changed or
    retired stays that way. The user has no password; links issued on this machine let it in.
    """
    ensure_defaults()
    project = Project.objects.get(name=DEFAULT_PROJECT)
    user = User.objects.filter(username=USERNAME).first()
    if user is None:
        user = User.objects.create_superuser(USERNAME)
    if not Assistant.objects.of(project).exists():
        for fields in (MATH_ASSIST, REVIEWED):
            create_assistant(project=project, reason="quickstart", **{**fields, **_offline()})
    return Demo(user=user, assistant=Assistant.objects.of(project).live().order_by("pk").first())


def _offline() -> dict[str, str]:
    """The demo needs no vendor: where the name of its model leads to one, it takes another."""
    offline = Model.objects.filter(name=EMBEDDED_MODEL).exists()
    return {"model": EMBEDDED_MODEL} if offline else {}


def ensure_key(file: Path) -> str:
    """The token of the quickstart's API key, the same one each time.

    It is kept in `file` (mode 600): a line pasted yesterday still works today, and starting
    twenty times does not leave twenty keys. Revoked, expired or from another database, a new one
    is made.
    """
    token = file.read_text().strip() if file.exists() else ""
    if token and ApiKey.objects.for_token(token):
        return token
    project = Project.objects.get(name=DEFAULT_PROJECT)
    _, token = ApiKey.objects.issue(project=project, name=KEY_NAME)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        target.write(token)
    draft.replace(file)
    return token
