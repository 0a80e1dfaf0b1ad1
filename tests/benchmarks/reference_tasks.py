"""The two designs that tutorials and packages of this field have, as small as they can be, to
compare with: a Celery task that sleeps and polls until its run is answered, and one that looks once
and schedules itself anew. Both write the rows that our worker writes, by the ORM.
"""

from __future__ import annotations

import time
from typing import Any

from django.db import transaction
from django.utils import timezone
from openai import OpenAI
from openai.types.responses import Response

from conversations.models import Message, Run, RunAttempt, RunStatus, RunStep
from conversations.services.threads import text_content
from tests.benchmarks.reference_app import app

PACE = 2.0

_clients: dict[int, OpenAI] = {}


@app.task(name="reference.answer")
def answer(run_id: int) -> None:
    """A task a run: it keeps its worker slot until the answer is there."""
    run, attempt, response = _start(run_id)
    while response.status in ("queued", "in_progress"):
        time.sleep(PACE)
        response = _client(run).responses.retrieve(response.id)
    _store(run, attempt, response)


@app.task(name="reference.start")
def start(run_id: int) -> None:
    """The first of many short tasks of a run."""
    _start(run_id)
    look.apply_async((run_id,), countdown=PACE)


@app.task(name="reference.look")
def look(run_id: int) -> None:
    run = Run.objects.select_related("connection").get(pk=run_id)
    attempt = run.attempts.get()
    response = _client(run).responses.retrieve(attempt.upstream_id)
    if response.status in ("queued", "in_progress"):
        look.apply_async((run_id,), countdown=PACE)
    else:
        _store(run, attempt, response)


def _start(run_id: int) -> tuple[Run, RunAttempt, Response]:
    run = Run.objects.select_related("connection").get(pk=run_id)
    messages = run.thread.messages.order_by("pk")
    asked: Any = [{"role": message.role, "content": message.text} for message in messages]
    with transaction.atomic():
        run.move(RunStatus.IN_PROGRESS, started_at=timezone.now(), leased_by=None, attempt=1)
        attempt = RunAttempt.objects.create(run=run, number=1, sent_at=timezone.now())
    response = _client(run).responses.create(
        model=run.upstream_model,
        instructions=run.instructions,
        input=asked,
        background=True,
        metadata={"am_attempt": attempt.key},
    )
    attempt.upstream_id, attempt.sent_at = response.id, None
    attempt.started_at, attempt.state = timezone.now(), {"id": response.id}
    attempt.save()
    return run, attempt, response


def _store(run: Run, attempt: RunAttempt, response: Response) -> None:
    now = timezone.now()
    with transaction.atomic():
        message = Message.objects.create(
            thread_id=run.thread_id,
            run=run,
            assistant_id=run.assistant_id,
            role="assistant",
            content=text_content(response.output_text),
            attempt=1,
            item="message-0",
            completed_at=now,
            released_at=now,
        )
        step = RunStep.objects.create(
            run=run,
            attempt=1,
            item="message-0",
            type="message_creation",
            status="completed",
            details={
                "type": "message_creation",
                "message_creation": {"message_id": message.public_id},
            },
            completed_at=now,
            released_at=now,
        )
        attempt.ended_at, attempt.state = now, response.model_dump(mode="json")
        attempt.save()
        said = ["created", "in_progress", "completed"]
        run.move(
            RunStatus.COMPLETED,
            events=[
                *((f"thread.run.step.{name}", {"step": step.public_id}) for name in said),
                *((f"thread.message.{name}", {"message": message.public_id}) for name in said),
            ],
            prompt_tokens=response.usage.input_tokens if response.usage else 0,
            completion_tokens=response.usage.output_tokens if response.usage else 0,
        )
    _client(run).responses.delete(response.id)


def _client(run: Run) -> OpenAI:
    """One a process and connection; the packages that make one a poll need 22 ms for each."""
    if run.connection_id not in _clients:
        info = run.connection.info()
        _clients[run.connection_id] = OpenAI(
            base_url=info.base_url, api_key=info.keys[0].text, max_retries=0
        )
    return _clients[run.connection_id]
