"""What an answer costs: a fixed number of queries, however long the list."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assistant_manager.models import ApiKey, Project
from assistant_manager.services import keep_file
from conversations.models import Message, RunStatus, RunStep, Thread
from conversations.models.steps import StepType
from tests import factories


@pytest.fixture
def used_token(token: str, project: Project) -> str:
    """A key whose use was noted lately, as that of a program at work: whenever it is asked."""
    used_at = timezone.now() + timedelta(hours=1)
    ApiKey.objects.filter(project=project).update(last_used_at=used_at)
    return token


def count(client: Client, path: str, token: str, rows: int | None = None) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = client.get(path, headers={"api-key": token})
    assert answer.status_code == 200
    if rows is not None:
        assert len(answer.json()["data"]) == rows
    return len(queries)


@pytest.mark.parametrize("noun", ["assistants", "files", "messages", "runs", "steps"])
def test_a_longer_list_costs_no_more(
    client: Client, project: Project, used_token: str, noun: str
) -> None:
    assistant = factories.make_assistant(project=project)
    thread = factories.make_thread(project=project)
    run = factories.make_run(assistant=assistant, thread=thread, status=RunStatus.COMPLETED)
    base = f"/v1/threads/{thread.public_id}"
    path = {
        "assistants": "/v1/assistants",
        "files": "/v1/files",
        "messages": f"{base}/messages",
        "runs": f"{base}/runs",
        "steps": f"{base}/runs/{run.public_id}/steps",
    }[noun]

    def grow(number: int) -> None:
        for _ in range(number):
            if noun == "assistants":
                factories.make_assistant(project=project)
            elif noun == "files":
                keep_file(
                    project=project,
                    upload=ContentFile(b""),
                    filename="a",
                    purpose="assistants",
                )
            elif noun == "messages":
                message = factories.make_message(thread=thread)
                Message.objects.filter(pk=message.pk).update(run=run, assistant=assistant)
            elif noun == "runs":
                factories.make_run(assistant=assistant, thread=thread, status=RunStatus.COMPLETED)
            else:
                RunStep.objects.create(
                    run=run,
                    attempt=1,
                    item=str(RunStep.objects.count()),
                    type=StepType.TOOL_CALLS,
                    released_at=timezone.now(),
                )

    extra = 1 if noun in ("assistants", "runs") else 0
    grow(2)
    few = count(client, path, used_token, 2 + extra)
    grow(10)
    assert count(client, path, used_token, 12 + extra) == few <= 4


def test_reading_a_run_takes_one_query_and_more_only_while_it_waits(
    client: Client, project: Project, used_token: str
) -> None:
    assistant = factories.make_assistant(project=project)
    for status, cost in [(RunStatus.IN_PROGRESS, 1), (RunStatus.REQUIRES_ACTION, 4)]:
        run = factories.make_run(assistant=assistant, status=status)
        path = f"/v1/threads/{run.thread.public_id}/runs/{run.public_id}"
        assert count(client, path, used_token) == cost


def test_adding_a_message_stays_cheap(client: Client, thread: Thread, used_token: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        answer: Any = client.post(
            f"/v1/threads/{thread.public_id}/messages",
            {"role": "user", "content": "x"},
            content_type="application/json",
            headers={"api-key": used_token},
        )
    assert answer.status_code == 200
    markers = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    told = [query["sql"] for query in queries if not query["sql"].startswith(markers)]
    assert len(told) <= 5, told
