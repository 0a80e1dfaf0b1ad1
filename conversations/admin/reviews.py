"""Reviews: what waits, the page on which a person decides, and everything decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from assistant_manager.admin.base import ReadOnly, WalledAdmin
from conversations.admin.asking import plainly
from conversations.admin.forms import ApproveForm, AskAgainForm, EditForm, RejectForm
from conversations.admin.lists import excerpt, large
from conversations.admin.story import tell
from conversations.exceptions import Refusal
from conversations.models import AnswerRevision, Message, Review, ReviewStatus, RunStatus
from conversations.services import reviews
from conversations.services.runs import answer_of

PAGE = 25


@dataclass(frozen=True, slots=True)
class Verdict:
    """A button: what it is called, what it asks for, what it calls and what is said after."""

    name: str
    label: str
    sends: str
    form: type[forms.Form]
    service: Callable[..., None]
    done: str


VERDICTS = {
    verdict.name: verdict
    for verdict in (
        Verdict("approve", "Approve", "Approve", ApproveForm, reviews.approve, "Approved."),
        Verdict(
            "edit",
            "Edit",
            "Save and approve",
            EditForm,
            reviews.edit,
            "Approved with your changes.",
        ),
        Verdict("reject", "Reject", "Reject", RejectForm, reviews.reject, "Rejected."),
        Verdict(
            "ask_again",
            "Ask again",
            "Send back",
            AskAgainForm,
            reviews.ask_again,
            "Sent back. The new answer will wait here.",
        ),
    )
}


@admin.register(Review)
class ReviewAdmin(ReadOnly, WalledAdmin):
    list_display = ["asked", "status", "assistant", "reviewer", "decided_at", "created_at"]
    list_filter = ["status"]
    list_select_related = ["run__question", "run__assistant", "reviewer"]
    search_fields = ["=run__public_id"]
    search_help_text = "Search by the id of a run"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        return super().get_queryset(request).defer(*large("run__", "run__assistant__"))

    @admin.display(description="question")
    def asked(self, review: Review) -> str:
        return excerpt(review.run.question, review.run.public_id)

    @admin.display
    def assistant(self, review: Review) -> str:
        return str(review.run.assistant)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("waiting/", wrap(self.waiting_view), name="conversations_review_waiting"),
            path(
                "<path:object_id>/decide/<str:verdict>/",
                wrap(self.decide_view),
                name="conversations_review_decide",
            ),
        ]
        return [*own, *super().get_urls()]

    def waiting_view(self, request: HttpRequest) -> HttpResponse:
        """Oldest first: whoever has waited longest is next."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows: Any = self.get_queryset(request).select_related(
            *self.list_select_related, "run__project"
        )
        page = Paginator(rows.waiting(), PAGE).get_page(request.GET.get("p"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Waiting for review",
            "opts": self.opts,
            "page": page,
        }
        return TemplateResponse(request, "admin/conversations/review/waiting.html", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        review = self._review(request, object_id)
        if review is None:
            return self.absent(request, object_id)
        return self._page(request, review)

    def decide_view(self, request: HttpRequest, object_id: str, verdict: str) -> HttpResponse:
        """One click, one decision; then on to the next that waits."""
        if request.method != "POST" or not request.user.has_perm("conversations.change_review"):
            raise PermissionDenied
        review = self._review(request, object_id)
        chosen = VERDICTS.get(verdict)
        if review is None or chosen is None:
            return self.absent(request, object_id)
        form = chosen.form(request.POST)
        if not form.is_valid():
            return self._page(request, review, refused=(chosen.name, form))
        try:
            chosen.service(review=review, by=request.user, **form.cleaned_data)
        except Refusal as refusal:
            messages.warning(request, plainly(refusal))
            return redirect("admin:conversations_review_change", review.pk)
        return self._next(request, chosen.done)

    def _next(self, request: HttpRequest, done: str) -> HttpResponse:
        rows: Any = self.get_queryset(request)
        following = rows.waiting().first()
        if following is None:
            messages.success(request, f"{done} Nothing else waits for review.")
            return redirect("admin:conversations_review_waiting")
        messages.success(request, f"{done} This one is next.")
        return redirect("admin:conversations_review_change", following.pk)

    def _review(self, request: HttpRequest, object_id: str) -> Review | None:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return cast("Review | None", self.get_object(request, object_id))

    def _page(
        self,
        request: HttpRequest,
        review: Review,
        refused: tuple[str, forms.Form] | None = None,
    ) -> HttpResponse:
        run = review.run
        answer = answer_of(run)
        context = {
            **self.admin_site.each_context(request),
            "title": "Review",
            "opts": self.opts,
            "review": review,
            "run": run,
            "story": tell(run),
            "decisions": review.decisions.select_related("by"),
            "revisions": _revisions(answer),
            "verdicts": self._choices(request, review, answer, refused),
            "asked_again": review.status == ReviewStatus.ASKED_AGAIN,
        }
        return TemplateResponse(request, "admin/conversations/review/page.html", context)

    def _choices(
        self,
        request: HttpRequest,
        review: Review,
        answer: Message | None,
        refused: tuple[str, forms.Form] | None,
    ) -> list[tuple[Verdict, forms.Form, bool]]:
        """What may be decided, its form, and whether that form stands open for a correction."""
        waiting = review.status == ReviewStatus.WAITING
        if not waiting or not request.user.has_perm("conversations.change_review"):
            return []
        if review.run.holds_answers and review.run.state is not RunStatus.HELD:
            return []
        choices = []
        for verdict in VERDICTS.values():
            if verdict.name == "ask_again" and review.run.state is not RunStatus.HELD:
                continue
            if refused is not None and refused[0] == verdict.name:
                choices.append((verdict, refused[1], True))
            else:
                initial = {"text": answer.text if answer else ""}
                choices.append((verdict, verdict.form(initial=initial), False))
        return choices


def _revisions(answer: Message | None) -> list[tuple[AnswerRevision, str]]:
    """The texts an answer had, oldest first; empty while it is as the engine wrote it."""
    if answer is None:
        return []
    rows = answer.revisions.select_related("author")
    return [(row, Message(content=row.content).text) for row in rows]
