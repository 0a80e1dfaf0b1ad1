"""Threads: the list, and a page to read one."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from assistant_manager.admin.base import ProjectFilter, ReadOnly, WalledAdmin
from conversations.admin.asking import ask, assistants_for, question_form
from conversations.admin.lists import excerpt
from conversations.admin.story import said
from conversations.models import Message, Thread
from conversations.models.threads import Role

MOST_MESSAGES = 50


@admin.register(Thread)
class ThreadAdmin(ReadOnly, WalledAdmin):
    list_display = ["first_question", "public_id", "project", "created_at"]
    list_filter = [("project", ProjectFilter)]
    list_select_related = ["project"]
    search_fields = ["=public_id"]
    search_help_text = "Search by the id of a thread"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Thread]:
        questions = Message.objects.filter(thread=OuterRef("pk"), role=Role.USER).order_by("pk")
        return (
            super()
            .get_queryset(request)
            .annotate(opening=Subquery(questions.values("content")[:1]))
            .defer("metadata", "tool_resources")
        )

    @admin.display(description="first question")
    def first_question(self, thread: Thread) -> str:
        opening = Message(content=getattr(thread, "opening", None) or [])
        return excerpt(opening, "(no question yet)")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        """The newest messages in reading order; posting asks the next question."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        thread = cast("Thread | None", self.get_object(request, object_id))
        if thread is None:
            return self.absent(request, object_id)
        last = thread.runs.select_related("assistant").order_by("-pk").first()
        form = None
        if request.user.has_perm("conversations.add_run"):
            assistants = assistants_for(request.user).filter(project=thread.project_id)
            form = question_form(request, assistants, assistant=last.assistant if last else None)
            run = ask(form, by=request.user, thread=thread) if request.method == "POST" else None
            if run is not None:
                return redirect("admin:conversations_run_change", run.pk)
        elif request.method == "POST":
            raise PermissionDenied
        newest = thread.messages.select_related("assistant").order_by("-pk")[: MOST_MESSAGES + 1]
        messages = list(newest)
        context = {
            **self.admin_site.each_context(request),
            "title": "Thread",
            "opts": self.opts,
            "thread": thread,
            "messages_said": [
                (message, said(message)) for message in reversed(messages[:MOST_MESSAGES])
            ],
            "is_cut": len(messages) > MOST_MESSAGES,
            "last_run": last,
            "form": form,
        }
        return TemplateResponse(request, "admin/conversations/thread/page.html", context)
