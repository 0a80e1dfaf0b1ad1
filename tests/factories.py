"""Rows for tests, valid by default."""

from __future__ import annotations

from itertools import count
from typing import Any

from django.contrib.auth.models import Permission, User

from assistant_manager.models import Assistant, Model, Project
from conversations.models import Message, Run, RunStatus, Thread
from conversations.services.threads import store_messages, text_content

_numbers = count(1)

QUESTION = "I need to solve the equation `3x + 11 = 14`. Can you help me?"


def make_project(**fields: Any) -> Project:
    return Project.objects.create(**{"name": f"project-{next(_numbers)}"} | fields)


def make_staff(*projects: Project, **fields: Any) -> User:
    """A member of staff of these projects, with every permission of both apps."""
    user = User.objects.create_user(
        **{"username": f"staff-{next(_numbers)}", "is_staff": True} | fields
    )
    for project in projects:
        project.members.add(user)
    apps = ("assistant_manager", "conversations")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label__in=apps))
    return user


def make_assistant(**fields: Any) -> Assistant:
    values: dict[str, Any] = {
        "name": "Math Assist",
        "model": "gpt-4-1106-preview",
        "instructions": "You are an AI assistant that can write code to help answer math questions.",
        "tools": [{"type": "code_interpreter"}],
    } | fields
    if "project" not in values:
        values["project"] = make_project()
    return Assistant.objects.create(**values)


def make_thread(*, question: str | None = None, **fields: Any) -> Thread:
    if "project" not in fields:
        fields["project"] = make_project()
    thread = Thread.objects.create(**fields)
    if question is not None:
        make_message(thread=thread, text=question)
    return thread


def make_message(*, thread: Thread, text: str = QUESTION, role: str = "user") -> Message:
    return store_messages(thread, [{"role": role, "content": text_content(text)}])[0]


def make_run(*, status: RunStatus = RunStatus.QUEUED, **fields: Any) -> Run:
    """A run in any status, as if it had come there by itself; the rest follows the assistant."""
    assistant = fields.pop("assistant", None) or make_assistant(
        **({"project": fields["thread"].project} if "thread" in fields else {})
    )
    thread = fields.pop("thread", None) or make_thread(project=assistant.project, question=QUESTION)
    model = Model.objects.resolve(assistant.model)
    assert model is not None
    values: dict[str, Any] = {
        "project": assistant.project,
        "assistant": assistant,
        "thread": thread,
        "question": thread.messages.last(),
        "model": assistant.model,
        "instructions": assistant.instructions or "",
        "tools": assistant.tools,
        "connection": model.connection,
        "upstream_model": assistant.model,
        "release_policy": assistant.release_policy,
        "status": status,
    }
    return Run.objects.create(**values | fields)
