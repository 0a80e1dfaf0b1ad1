"""`manage.py ask`: a question from the terminal; progress on stderr, the answer on stdout."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from conversations.exceptions import Refusal
from conversations.management.following import NoWorker, follow
from conversations.management.naming import Unknown, assistant_named, thread_named
from conversations.models import Run, RunStatus
from conversations.services import runs


class Command(BaseCommand):
    help = "Ask an assistant a question and wait for the answer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("question")
        parser.add_argument(
            "--assistant",
            metavar="NAME_OR_ID",
            help="default: the one that answered last in the thread, else the project's first",
        )
        parser.add_argument(
            "--thread", metavar="ID", help="go on in this thread; default: a new one"
        )
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")

    def handle(
        self,
        *,
        question: str,
        assistant: str | None,
        thread: str | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        if not question.strip():
            raise CommandError("The question is empty.")
        try:
            place = thread_named(thread) if thread else None
            who = assistant_named(assistant, place)
            run = runs.ask(assistant=who, text=question, thread=place)
        except (Unknown, Refusal) as error:
            raise CommandError(str(error)) from error
        self._note(f"{who} · {run.thread.public_id} · {run.public_id}")
        self._watch(run)
        self._report(run, as_json)

    def _watch(self, run: Run) -> None:
        try:
            for line in follow(run):
                self._note(line)
        except KeyboardInterrupt:
            raise CommandError(f"Not waiting any longer; {run} goes on.", returncode=130) from None
        except NoWorker as error:
            minutes = settings.RUN_LIFETIME_SECONDS / 60
            raise CommandError(
                f"No worker is running, so nothing answers yet. The question is kept: {run} is "
                f"answered if one starts within {minutes:g} minutes. Start one with: "
                "celery -A config.celery worker -P threads -B   (or make run)"
            ) from error

    def _report(self, run: Run, as_json: bool) -> None:
        answer = runs.answer_of(run)
        text = answer.text if answer is not None and answer.released_at else ""
        if as_json:
            self.stdout.write(json.dumps(as_dict(run, text), ensure_ascii=False, indent=2))
        elif text:
            self.stdout.write(text)
        if run.state is not RunStatus.COMPLETED:
            raise CommandError(reason(run))

    def _note(self, line: str) -> None:
        self.stderr.write(line, self.style.HTTP_INFO)
        self.stderr.flush()


def reason(run: Run) -> str:
    """Why there is no (whole) answer, in a sentence."""
    match run.state:
        case RunStatus.REQUIRES_ACTION:
            names = ", ".join(call["function"]["name"] for call in runs.pending_calls(run))
            return f"{run} waits for the outputs of: {names}. Submit them over the API."
        case RunStatus.INCOMPLETE:
            return f"The answer is cut short: {run.incomplete_reason}."
        case RunStatus.FAILED:
            return f"The run failed: {(run.last_error or {}).get('message', 'no reason given')}"
        case RunStatus.EXPIRED:
            return "The run expired before it was answered."
        case _:
            return f"The run was {run.state.label.lower()}."


def as_dict(run: Run, answer: str) -> dict[str, Any]:
    return {
        "assistant": run.assistant.public_id,
        "thread": run.thread.public_id,
        "run": run.public_id,
        "status": run.state.wire,
        "answer": answer or None,
        "error": None if run.state is RunStatus.COMPLETED else reason(run),
        "steps": [call for step in run.steps.released() for call in step.calls],
        "usage": {
            "prompt_tokens": run.prompt_tokens or 0,
            "completion_tokens": run.completion_tokens or 0,
        },
    }
