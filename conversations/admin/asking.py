"""Asking, as the Ask page and the follow-up boxes do it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet
from django.http import HttpRequest

from assistant_manager.demo import MATH_ASSIST
from assistant_manager.models import Assistant
from conversations.admin.forms import QuestionForm
from conversations.exceptions import Refusal, RunActive, ThreadBusy, UnknownModel
from conversations.models import Run, Thread
from conversations.services import runs

FIRST_QUESTION = "I need to solve the equation `3x + 11 = 14`. Can you help me?"


def assistants_for(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Assistant]:
    rows: QuerySet[Assistant] = Assistant.objects.visible_to(user).live()
    return rows.order_by("name", "pk").defer("instructions", "tools", "tool_resources")


def question_form(
    request: HttpRequest,
    assistants: QuerySet[Assistant],
    *,
    assistant: Assistant | None = None,
    text: str = "",
    autofocus: bool = False,
) -> QuestionForm:
    """The form as posted, or fresh with the likeliest assistant chosen."""
    chosen = assistant or _last_asked(request, assistants) or _example(assistants)
    return QuestionForm(
        request.POST if request.method == "POST" else None,
        assistants=assistants,
        autofocus=autofocus,
        initial={"assistant": chosen, "text": text},
    )


def _last_asked(request: HttpRequest, assistants: QuerySet[Assistant]) -> Assistant | None:
    last = Run.objects.filter(asked_by=request.user.pk).order_by("-pk").values("assistant")[:1]
    return assistants.filter(pk__in=last).first()


def _example(assistants: QuerySet[Assistant]) -> Assistant | None:
    return assistants.filter(name=MATH_ASSIST["name"]).first()


def ask(form: QuestionForm, *, by: Any, thread: Thread | None = None) -> Run | None:
    """Put the question; None when the form or the service refuses, with the reason on the form."""
    if not form.is_valid():
        return None
    try:
        return runs.ask(
            assistant=form.cleaned_data["assistant"],
            text=form.cleaned_data["text"],
            by=by,
            thread=thread,
        )
    except Refusal as refusal:
        form.add_error(None, plainly(refusal))
        return None


def plainly(refusal: Refusal) -> str:
    """The texts of refusals are the vendor's, for programs; these are for people."""
    match refusal:
        case ThreadBusy() | RunActive():
            return (
                "This thread is still busy with an earlier question. Wait until that run has "
                "ended, or stop it, and ask again. Your text is kept below."
            )
        case UnknownModel():
            return (
                f"{refusal} Ask an administrator to set the model up, or choose another assistant."
            )
        case _:
            return str(refusal)
