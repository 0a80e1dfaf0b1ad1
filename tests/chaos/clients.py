"""Those who ask, cancel, submit and review while everything around them breaks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from assistant_manager.models import Assistant, Project
from conversations.exceptions import AlreadyDecided, NotCancellable
from conversations.models import Review, ReviewStatus, Run, RunAttempt, RunStatus
from conversations.services import reviews, runs
from conversations.services.threads import text_content
from tests.chaos.disturbances import Question
from tests.engines.turns import WEATHER
from tests.factories import QUESTION, make_assistant, make_staff

WORD_WITHIN = timedelta(seconds=5)
"""How long a webhook has here to tell of a start whose reply was lost."""
LONG_AGO = timedelta(minutes=10)


class Clients:
    def __init__(self, project: Project, questions: Iterable[Question]) -> None:
        self.project = project
        self.questions = {question.number: question for question in questions}
        self.staff: User = make_staff(project)
        self._assistants: dict[tuple[str, str, bool], Assistant] = {}
        self._to_ask = list(self.questions.values())[::-1]

    @property
    def have_asked(self) -> bool:
        return not self._to_ask

    def ask(self, count: int) -> None:
        """Put the next questions, `count` of them at most."""
        for _ in range(min(count, len(self._to_ask))):
            question = self._to_ask.pop()
            assistant = self._assistant(question)
            thread = assistant.project.threads.create()
            runs.request_run(
                thread=thread,
                assistant=assistant,
                instructions=json.dumps(question.script) if question.script else None,
                additional_messages=[{"role": "user", "content": text_content(QUESTION)}],
                metadata={"number": str(question.number)},
            )

    def cancel_one(self, share: float) -> None:
        """Cancel a run that goes on, whichever stands at `share` of them."""
        going = list(Run.objects.active().order_by("pk"))
        if going:
            self._cancel(going[int(share * len(going))])

    def act(self) -> None:
        """Do what runs wait for: submit outputs, judge answers, cancel what would take for ever."""
        for run in Run.objects.filter(status=RunStatus.REQUIRES_ACTION):
            with suppress(NotCancellable):
                number = run.metadata["number"]
                outputs = {call["id"]: number for call in runs.pending_calls(run)}
                runs.submit_tool_outputs(run=run, outputs=outputs)
        for review in Review.objects.waiting().select_related("run"):
            with suppress(AlreadyDecided):
                self._judge(review)
        endless = [str(q.number) for q in self.questions.values() if q.cancelled]
        begun = Run.objects.active().exclude(status=RunStatus.CANCELLING)
        for run in begun.filter(metadata__number__in=endless, attempts__state__isnull=False):
            self._cancel(run)

    def hear_no_word(self) -> None:
        """Let the time pass that a lost start is given for a webhook to tell whose it was."""
        waiting = RunAttempt.objects.filter(
            run__status=RunStatus.IN_PROGRESS,
            run__waiting_for__contains="Waiting for word",
            number=F("run__attempt"),
            state=None,
            sent_at__lt=timezone.now() - WORD_WITHIN,
            sent_at__gt=timezone.now() - LONG_AGO / 2,
        )
        for attempt in waiting:
            late = RunAttempt.objects.filter(pk=attempt.pk, state=None, sent_at=attempt.sent_at)
            late.update(sent_at=attempt.sent_at - LONG_AGO)
            Run.objects.filter(pk=attempt.run_id, status=RunStatus.IN_PROGRESS).update(
                due_at=timezone.now()
            )

    def _assistant(self, question: Question) -> Assistant:
        place = (question.model, question.policy, "tools" in question.script)
        if place not in self._assistants:
            self._assistants[place] = make_assistant(
                project=self.project,
                model=question.model,
                release_policy=question.policy,
                tools=[WEATHER] if "tools" in question.script else [],
            )
        return self._assistants[place]

    def _judge(self, review: Review) -> None:
        question = self.questions[int(review.run.metadata["number"])]
        seen_before = review.decisions.filter(status=ReviewStatus.ASKED_AGAIN).exists()
        match question.verdict:
            case "edit":
                reviews.edit(review=review, by=self.staff, text=f"{question.answer}, checked")
            case "reject":
                reviews.reject(review=review, by=self.staff, reason="No.")
            case "ask_again" if not seen_before:
                reviews.ask_again(review=review, by=self.staff, note="Once more.")
            case _:
                reviews.approve(review=review, by=self.staff)

    @staticmethod
    def _cancel(run: Run) -> None:
        with suppress(NotCancellable):
            runs.cancel_run(run=run)
