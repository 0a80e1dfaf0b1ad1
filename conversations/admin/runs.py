"""Runs: the Ask page, the list, and the page on which a run is watched.

Every button calls a service; what a service refuses is said on the page in plain words.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html

from assistant_manager.admin.base import ProjectFilter, ReadOnly, WalledAdmin
from conversations.admin.asking import FIRST_QUESTION, ask, assistants_for, plainly, question_form
from conversations.admin.forms import OutputsForm
from conversations.admin.lists import excerpt, large
from conversations.admin.story import tell
from conversations.exceptions import Refusal
from conversations.models import DriverHeartbeat, Run, RunStatus
from conversations.services.reviews import open_review
from conversations.services.runs import (
    cancel_run,
    end_if_overdue,
    pending_calls,
    submit_tool_outputs,
)
from conversations.waiting import outlook, queues

POLL_STOPS = 286
"""htmx takes the content of such an answer and asks no more."""
MOST_EVENTS = 200
OUTLOOK_EVERY = timedelta(seconds=5)
"""How often a page says anew how long a question still waits."""
QUEUES_AT_MOST = 5
"""Of how many connections the list says that questions wait for them, the longest wait first."""
ANSWERED = (RunStatus.HELD, RunStatus.COMPLETED, RunStatus.INCOMPLETE)


@admin.register(Run)
class RunAdmin(ReadOnly, WalledAdmin):
    list_display = ["asked", "badge", "assistant", "asked_by", "project", "took", "created_at"]
    list_display_links = ["asked"]
    list_filter = ["status", ("project", ProjectFilter)]
    list_select_related = ["assistant", "project", "asked_by", "question", "connection"]
    search_fields = ["=public_id", "=thread__public_id", "=assistant__public_id"]
    search_help_text = "Search by the id of a run, a thread or an assistant"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        secrets = [f"connection__{name}" for name in ("key_1", "key_2", "webhook_secret")]
        return super().get_queryset(request).defer(*large("", "assistant__"), *secrets)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("conversations.add_run")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Above the list, what waits in the person's own projects."""
        waiting = queues(self.get_queryset(request))[:QUEUES_AT_MOST]
        return super().changelist_view(request, {"waiting": waiting, **(extra_context or {})})

    @admin.display(description="question")
    def asked(self, run: Run) -> str:
        return excerpt(run.question, run.public_id)

    @admin.display(description="status", ordering="status")
    def badge(self, run: Run) -> str:
        return format_html(
            '<span class="status is-{}">{}</span> <span class="quiet">{}</span>',
            run.status,
            run.get_status_display(),
            run.wait,
        )

    @admin.display(description="took")
    def took(self, run: Run) -> str:
        return f"{(run.ended_at - run.created_at).total_seconds():.1f} s" if run.ended_at else ""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<path:object_id>/live/", self.live_view, name="conversations_run_live"),
            path("<path:object_id>/stop/", wrap(self.stop_view), name="conversations_run_stop"),
            path(
                "<path:object_id>/outputs/",
                wrap(self.outputs_view),
                name="conversations_run_outputs",
            ),
            path(
                "<path:object_id>/review/", wrap(self.review_view), name="conversations_run_review"
            ),
        ]
        return [*own, *super().get_urls()]

    # --- asking -------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The Ask page: adding a run is what asking is."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        assistants = assistants_for(request.user)
        first = not Run.objects.filter(asked_by=request.user.pk).exists()
        form = question_form(
            request, assistants, text=FIRST_QUESTION if first else "", autofocus=True
        )
        run = ask(form, by=request.user) if request.method == "POST" else None
        if run is not None:
            return redirect("admin:conversations_run_change", run.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": "Ask",
            "opts": self.opts,
            "form": form,
            "has_assistants": assistants.exists(),
            "may_make_assistant": request.user.has_perm("assistant_manager.add_assistant"),
            "first": first,
        }
        return TemplateResponse(request, "admin/conversations/run/ask.html", context)

    # --- watching -----------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """The run's page; posting to it asks a follow-up question."""
        run = self._run(request, object_id)
        if run is None:
            return self.absent(request, object_id)
        form = None
        if self.has_add_permission(request):
            assistants = assistants_for(request.user).filter(project=run.project_id)
            form = question_form(request, assistants, assistant=run.assistant)
            follow_up = (
                ask(form, by=request.user, thread=run.thread) if request.method == "POST" else None
            )
            if follow_up is not None:
                return redirect("admin:conversations_run_change", follow_up.pk)
        elif request.method == "POST":
            raise PermissionDenied
        events = run.events.exclude(type__endswith=".delta").order_by("seq")[:MOST_EVENTS]
        context = {
            **self.admin_site.each_context(request),
            **self._page(request, run),
            "title": "Run",
            "opts": self.opts,
            "form": form,
            "events": events,
        }
        return TemplateResponse(request, "admin/conversations/run/page.html", context)

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The moving part of the page: 204 while nothing has changed since `seen`, 286 at the end.

        Not wrapped like the others: a login page must not be put into the middle of this one.
        """
        run = self._run(request, object_id) if self.admin_site.has_permission(request) else None
        if run is None:
            if request.headers.get("HX-Request"):
                return HttpResponse(headers={"HX-Refresh": "true"})
            return redirect("admin:conversations_run_change", object_id)
        run = end_if_overdue(run)
        if request.GET.get("seen") == _fingerprint(run):
            return HttpResponse(status=204)
        page = self._page(request, run)
        status = 200 if page["pace"] else POLL_STOPS
        return render(request, "admin/conversations/run/live.html", page, status=status)

    def _page(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        run = end_if_overdue(run)
        now = timezone.now()
        calls = pending_calls(run) if run.state is RunStatus.REQUIRES_ACTION else []
        may_ask = self.has_add_permission(request)
        # Taken before the story is read: what comes in between is then sent once more, not missed.
        seen = _fingerprint(run)
        return {
            "run": run,
            "story": tell(run),
            "outlook": outlook(run),
            "elapsed": ((run.ended_at or now) - run.created_at).total_seconds(),
            "no_worker": _has_no_worker(run),
            # A form that is being filled in must not be swapped away.
            "pace": "500ms" if run.is_driven else "5s" if run.state is RunStatus.HELD else "",
            "seen": seen,
            "may_stop": may_ask and not run.is_ended and run.state is not RunStatus.CANCELLING,
            "outputs_form": OutputsForm(calls=calls, prefix="output")
            if calls and may_ask
            else None,
            "may_review": run.state in ANSWERED
            and request.user.has_perm("conversations.view_review"),
        }

    def _run(self, request: HttpRequest, object_id: str) -> Run | None:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return cast("Run | None", self.get_object(request, object_id))

    # --- buttons ------------------------------------------------------------------------

    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self._posted(request, object_id)
        if run is not None:
            try:
                cancel_run(run=run)
            except Refusal:
                messages.info(request, "The run had ended already; there was nothing to stop.")
        return self._back(request, run, object_id)

    def outputs_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self._posted(request, object_id)
        if run is not None:
            calls = pending_calls(run)
            form = OutputsForm(request.POST, calls=calls, prefix="output")
            try:
                form.full_clean()
                submit_tool_outputs(run=run, outputs=form.cleaned_data)
            except Refusal as refusal:
                messages.error(request, plainly(refusal))
        return self._back(request, run, object_id)

    def review_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not request.user.has_perm("conversations.change_review"):
            raise PermissionDenied
        run = self._run(request, object_id)
        if run is None or request.method != "POST":
            return self._back(request, run, object_id)
        try:
            review = open_review(run=run)
        except Refusal as refusal:
            messages.info(request, plainly(refusal))
            return self._back(request, run, object_id)
        return redirect("admin:conversations_review_change", review.pk)

    def _posted(self, request: HttpRequest, object_id: str) -> Run | None:
        if request.method != "POST" or not self.has_add_permission(request):
            raise PermissionDenied
        return self._run(request, object_id)

    def _back(self, request: HttpRequest, run: Run | None, object_id: str) -> HttpResponse:
        if run is None:
            return self.absent(request, object_id)
        return HttpResponseRedirect(reverse("admin:conversations_run_change", args=[run.pk]))


def _has_no_worker(run: Run) -> bool:
    return run.is_driven and not DriverHeartbeat.objects.alive(timezone.now()).exists()


def _fingerprint(run: Run) -> str:
    """Changes whenever the moving part of the page would; cheap, as it is asked twice a second."""
    last = run.events.aggregate(last=Max("seq"))["last"]
    waited = run.state is RunStatus.QUEUED and (timezone.now() - run.created_at) // OUTLOOK_EVERY
    signs = repr((run.status, last, run.wait, waited, _has_no_worker(run)))
    return hashlib.sha256(signs.encode()).hexdigest()[:16]
