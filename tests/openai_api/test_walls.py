"""Every route of both flavours, walked with every wrong key: nothing to read, nothing to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.core import serializers
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from assistant_manager.models import ApiKey, Assistant, File, Project
from assistant_manager.services import keep_file
from conversations.models import Message, Run, RunStatus, RunStep, Thread
from conversations.models.steps import StepType
from tests import factories

PREFIXES = ("v1/", "openai/", "openai/v1/")
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
MODELS = (Assistant, File, Thread, Message, Run, RunStep)


def routes() -> Iterator[str]:
    """Every registered path under the prefixes, as the URL configuration has it."""
    for entry in get_resolver().url_patterns:
        if isinstance(entry, URLResolver) and str(entry.pattern) in PREFIXES:
            for route in entry.url_patterns:
                assert isinstance(route, URLPattern)
                yield f"/{entry.pattern}{route.pattern}"


ROUTES = sorted(set(routes()))


@dataclass
class Ids:
    """One of everything that another team owns."""

    assistant_id: str
    thread_id: str
    message_id: str
    run_id: str
    step_id: str
    file_id: str
    model: str = "gpt-4"

    def path(self, route: str) -> str:
        return re.sub(r"<\w+:(\w+)>", lambda match: getattr(self, match[1]), route)

    def body(self, route: str) -> dict[str, Any]:
        """A body the route accepts, so that it is the wall that refuses."""
        message = {"role": "user", "content": "x"}
        match route.removesuffix("/").rsplit("/", 1)[-1]:
            case "assistants":
                return {"model": "m"}
            case "messages":
                return message
            case "runs":
                return {"assistant_id": self.assistant_id}
            case "submit_tool_outputs":
                return {"tool_outputs": [{"tool_call_id": "call_a", "output": "x"}]}
            case "cancel" | "files" | "threads":
                return {}
        return {"metadata": {"changed": "yes"}}


@pytest.fixture
def theirs(project: Project) -> Ids:
    run = factories.make_run(status=RunStatus.REQUIRES_ACTION)
    call = {
        "id": "call_a",
        "type": "function",
        "function": {"name": "f", "arguments": "{}", "output": None},
    }
    step = RunStep.objects.create(
        run=run,
        attempt=1,
        item="c",
        type=StepType.TOOL_CALLS,
        for_client=True,
        details={"type": "tool_calls", "tool_calls": [call]},
    )
    file = keep_file(
        project=run.project, upload=ContentFile(b"x"), filename="secret", purpose="assistants"
    )
    return Ids(
        assistant_id=run.assistant.public_id,
        thread_id=run.thread.public_id,
        message_id=run.thread.messages.get().public_id,
        run_id=run.public_id,
        step_id=step.public_id,
        file_id=file.public_id,
    )


ABSENT = Ids(
    **{
        name: prefix + "0" * 24
        for name, prefix in [
            ("assistant_id", "asst_"),
            ("thread_id", "thread_"),
            ("message_id", "msg_"),
            ("run_id", "run_"),
            ("step_id", "step_"),
            ("file_id", "file-"),
        ]
    }
)


def everything() -> str:
    return "\n".join(
        serializers.serialize("json", model.objects.order_by("pk"))  # type: ignore[attr-defined]
        for model in MODELS
    )


def send(client: Client, method: str, route: str, ids: Ids, headers: dict[str, str]) -> Any:
    return client.generic(
        method,
        ids.path(route),
        data=str(ids.body(route)).replace("'", '"') if method == "POST" else "",
        content_type="application/json",
        headers=headers,
    )


def test_the_walk_covers_the_protocol_and_the_one_route_of_our_own() -> None:
    assert len(ROUTES) == 3 * (18 + 1)
    assert "/v1/threads/<str:thread_id>/runs/<str:run_id>/events" in ROUTES
    assert "/openai/v1/threads/<str:thread_id>/runs/<str:run_id>/steps/<str:step_id>" in ROUTES


def test_without_a_good_key_no_route_answers(client: Client, theirs: Ids) -> None:
    project = Run.objects.get().project
    _, expired = ApiKey.objects.issue(project=project, name="a", expires_in=timedelta(hours=1))
    ApiKey.objects.filter(name="a").update(expires_at=timezone.now() - timedelta(hours=1))
    _, revoked = ApiKey.objects.issue(project=project, name="b")
    ApiKey.objects.filter(name="b").revoke()
    before = everything()
    for token in ("", "am-wrong", expired, revoked):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        for route in ROUTES:
            for method in METHODS:
                answer = send(client, method, route, theirs, headers)
                assert answer.status_code == 401, (method, route, answer.content)
    assert everything() == before


def test_with_a_foreign_key_everything_is_as_if_it_were_absent(
    client: Client, theirs: Ids, token: str
) -> None:
    before = everything()
    for route in ROUTES:
        if "_id>" not in route:
            continue
        for header in ({"Authorization": f"Bearer {token}"}, {"api-key": token}):
            for method in ("GET", "POST", "DELETE"):
                foreign = send(client, method, route, theirs, header)
                absent = send(client, method, route, ABSENT, header)
                assert foreign.status_code in (404, 405), (method, route)
                assert foreign.status_code == absent.status_code, (method, route)
                seen = foreign.content.decode()
                for name in vars(theirs):
                    seen = seen.replace(getattr(theirs, name), getattr(ABSENT, name))
                assert seen == absent.content.decode(), (method, route)
    assert everything() == before


def test_lists_hold_nothing_of_others(client: Client, theirs: Ids, token: str) -> None:
    for prefix in PREFIXES:
        for noun in ("assistants", "files", "models"):
            answer = client.get(f"/{prefix}{noun}", headers={"api-key": token})
            assert answer.json()["data"] == []


def test_what_a_body_names_must_be_ones_own(client: Client, theirs: Ids, token: str) -> None:
    project = ApiKey.objects.get(name="tests").project
    mine = factories.make_thread(project=project).public_id
    assistant = factories.make_assistant(project=project).public_id
    files = {"code_interpreter": {"file_ids": [theirs.file_id]}}
    attached = {"role": "user", "content": "x", "attachments": [{"file_id": theirs.file_id}]}
    before = everything()
    for path, body in [
        (f"/v1/threads/{mine}/runs", {"assistant_id": theirs.assistant_id}),
        ("/v1/threads/runs", {"assistant_id": theirs.assistant_id}),
        (
            f"/v1/threads/{mine}/runs",
            {"assistant_id": assistant, "additional_messages": [attached]},
        ),
        ("/v1/threads/runs", {"assistant_id": assistant, "tool_resources": files}),
        ("/v1/threads/runs", {"assistant_id": assistant, "thread": {"messages": [attached]}}),
        ("/v1/threads/runs", {"assistant_id": assistant, "thread": {"tool_resources": files}}),
        (f"/v1/threads/{mine}/messages", attached),
        (f"/v1/threads/{mine}", {"tool_resources": files}),
        ("/v1/threads", {"messages": [attached]}),
        ("/v1/threads", {"tool_resources": files}),
        ("/v1/assistants", {"model": "m", "tool_resources": files}),
        (f"/v1/assistants/{assistant}", {"tool_resources": files}),
    ]:
        answer = client.post(
            path, body, content_type="application/json", headers={"api-key": token}
        )
        assert answer.status_code in (400, 404), (path, body)
        message = answer.json()["error"]["message"]
        assert message in (
            f"No assistant found with id '{theirs.assistant_id}'.",
            f"No such File object: {theirs.file_id}",
        )
    assert everything() == before


def test_foreign_rows_are_no_cursors_and_no_children(
    client: Client, theirs: Ids, token: str
) -> None:
    mine = factories.make_thread(project=ApiKey.objects.get(name="tests").project).public_id
    for path in (
        f"/v1/assistants?after={theirs.assistant_id}",
        f"/v1/files?after={theirs.file_id}",
        f"/v1/threads/{mine}/messages?after={theirs.message_id}",
        f"/v1/threads/{mine}/runs?before={theirs.run_id}",
        f"/v1/threads/{mine}/messages/{theirs.message_id}",
        f"/v1/threads/{mine}/runs/{theirs.run_id}",
        f"/v1/threads/{mine}/runs/{theirs.run_id}/steps",
    ):
        assert client.get(path, headers={"api-key": token}).status_code == 404, path
    answer = client.get(
        f"/v1/threads/{mine}/messages?run_id={theirs.run_id}", headers={"api-key": token}
    )
    assert answer.json()["data"] == []
