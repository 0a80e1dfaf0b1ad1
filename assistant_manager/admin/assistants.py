"""Assistants: a form for people, every version kept, retired instead of deleted."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model as Row
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from simple_history.admin import SimpleHistoryAdmin

from assistant_manager.admin.base import ProjectFilter, WalledAdmin
from assistant_manager.admin.tools import check_tools
from assistant_manager.models import Assistant, Model
from assistant_manager.services import change_assistant, create_assistant, retire_assistant


class AssistantForm(forms.ModelForm):
    class Meta:
        model = Assistant
        fields = [
            *("project", "name", "description", "instructions", "model", "tools"),
            *("release_policy", "sample_percent"),
            *("temperature", "top_p", "response_format", "reasoning_effort"),
        ]
        labels = {
            "release_policy": "Answers are shown",
            "sample_percent": "Sample, in per cent",
            "top_p": "Top p",
        }
        help_texts = {
            "description": "For people who choose an assistant; the model never sees it.",
            "model": "The name under which the model is known here, or any name if there is a “*”.",
            "tools": 'A list such as [{"type": "code_interpreter"}]; functions as the API takes them.',
            "response_format": "“auto”, or an object as the API takes it.",
        }
        widgets = {
            "description": forms.Textarea(attrs={"rows": 2, "class": "vLargeTextField"}),
            "instructions": forms.Textarea(attrs={"rows": 8, "class": "vLargeTextField"}),
            "tools": forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField code"}),
            "response_format": forms.Textarea(attrs={"rows": 2, "class": "vLargeTextField code"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Programs may leave the name out; people have to find the assistant again.
        if "name" in self.fields:
            self.fields["name"].required = True

    def clean_model(self) -> str:
        name: str = self.cleaned_data["model"]
        if Model.objects.resolve(name) is None:
            raise ValidationError("No model of this name is set up, and no “*” stands in for it.")
        return name

    def clean_tools(self) -> Any:
        tools = self.cleaned_data["tools"] or []
        check_tools(tools)
        return tools


class RetiredFilter(admin.SimpleListFilter):
    title = "use"
    parameter_name = "use"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Any:
        return [("live", "In use"), ("retired", "Retired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "live":
                return queryset.filter(retired_at=None)
            case "retired":
                return queryset.exclude(retired_at=None)
        return queryset


@admin.register(Assistant)
class AssistantAdmin(WalledAdmin, SimpleHistoryAdmin):
    form = AssistantForm
    list_display = ["name_or_id", "model", "release_policy", "project", "retired_at"]
    list_filter = [RetiredFilter, ("project", ProjectFilter)]
    list_select_related = ["project"]
    search_fields = ["name", "=public_id"]
    actions = ["retire"]
    change_form_template = "admin/assistant_manager/assistant/change_form.html"
    object_history_list_template = "admin/assistant_manager/assistant/history_list.html"
    readonly_fields = ["public_id", "tool_resources", "metadata", "created_at", "retired_at"]
    fieldsets = [
        (None, {"fields": ["project", "name", "description", "instructions", "model", "tools"]}),
        ("Review", {"fields": ["release_policy", "sample_percent"]}),
        (
            "Fine tuning",
            {
                "classes": ["collapse"],
                "fields": ["temperature", "top_p", "response_format", "reasoning_effort"],
            },
        ),
    ]
    kept_by_programs = ("Set by programs", {"classes": ["collapse"], "fields": readonly_fields})

    def get_fieldsets(self, request: HttpRequest, obj: Row | None = None) -> Any:
        return [*self.fieldsets, self.kept_by_programs] if obj else self.fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Row | None = None) -> Any:
        # Threads and files of the old project would stay behind the wall.
        return ["project", *self.readonly_fields] if obj else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        retired = isinstance(obj, Assistant) and obj.retired_at is not None
        return super().has_change_permission(request, obj) and not retired

    @admin.display(description="name", ordering="name")
    def name_or_id(self, assistant: Assistant) -> str:
        return str(assistant)

    def save_model(
        self, request: HttpRequest, obj: Assistant, form: forms.ModelForm[Assistant], change: bool
    ) -> None:
        if not change:
            made = create_assistant(reason="admin", **form.cleaned_data)
            obj.pk = made.pk
            obj.refresh_from_db()
            return
        # A restored version differs from the row in more than was typed, so all of it is taken.
        restored = request.resolver_match and request.resolver_match.url_name == self._restore_url
        names = form.cleaned_data if restored else form.changed_data
        change_assistant(
            assistant=obj,
            reason="admin, restored" if restored else "admin",
            **{name: form.cleaned_data[name] for name in names},
        )

    # History: the package looks rows up by itself, past get_queryset and so past the walls.

    _restore_url = "assistant_manager_assistant_simple_history"

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        self._only_behind_the_wall(request, object_id)
        return super().history_view(request, object_id, extra_context)

    def history_form_view(
        self,
        request: HttpRequest,
        object_id: str,
        version_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self._only_behind_the_wall(request, object_id)
        if not version_id.isdecimal():
            raise Http404
        if request.method == "POST" and not self.has_change_permission(request, row):
            # The package checks only that the version may be seen.
            raise PermissionDenied
        return super().history_form_view(request, object_id, version_id, extra_context)

    def _only_behind_the_wall(self, request: HttpRequest, object_id: str) -> Assistant:
        row = cast("Assistant | None", self.get_object(request, object_id))
        if row is None:
            raise Http404
        return row

    # Retiring.

    def get_urls(self) -> list[URLPattern]:
        retire = path(
            "<path:object_id>/retire/",
            self.admin_site.admin_view(self.retire_view),
            name="assistant_manager_assistant_retire",
        )
        return [retire, *super().get_urls()]

    def retire_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        assistant = self._only_behind_the_wall(request, object_id)
        if request.method != "POST" or not self.has_change_permission(request, assistant):
            raise PermissionDenied
        self._retire(request, assistant)
        messages.success(request, f"“{assistant}” is retired. What it answered stays.")
        return HttpResponseRedirect(reverse("admin:assistant_manager_assistant_changelist"))

    @admin.action(description="Retire the selected assistants", permissions=["change"])
    def retire(self, request: HttpRequest, assistants: Any) -> None:
        chosen = list(assistants.live())
        for assistant in chosen:
            self._retire(request, assistant)
        messages.success(
            request, f"{len(chosen)} assistant{'' if len(chosen) == 1 else 's'} retired."
        )

    def _retire(self, request: HttpRequest, assistant: Assistant) -> None:
        retire_assistant(assistant=assistant, reason="admin")
        self.log_change(request, assistant, "Retired.")
