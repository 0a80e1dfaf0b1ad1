"""Projects, and the API keys that open them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from assistant_manager.admin.base import ProjectFilter, SuperuserOnly, WalledAdmin
from assistant_manager.models import ApiKey, Project


@admin.register(Project)
class ProjectAdmin(SuperuserOnly):
    list_display = ["name", "created_at"]
    ordering = ["name"]
    search_fields = ["name"]
    filter_horizontal = ["members"]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # It would take every question and answer of a team with it.
        return False


class ApiKeyForm(forms.ModelForm):
    class Meta:
        model = ApiKey
        fields = ["project", "name", "expires_at"]
        help_texts = {"expires_at": "Leave empty for a key that works until it is revoked."}

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError("Choose a time in the future.")
        return expires_at


@admin.register(ApiKey)
class ApiKeyAdmin(WalledAdmin):
    form = ApiKeyForm
    list_display = ["name", "ending", "project", "state", "last_used_at", "expires_at"]
    list_filter = [("project", ProjectFilter)]
    list_select_related = ["project"]
    search_fields = ["name", "=hint"]
    readonly_fields = ["ending", "state", "created_at", "created_by", "last_used_at", "revoked_at"]
    actions = ["revoke"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # The rows know one project and no walls of their own: `for_token` must see all of them.
        rows = admin.ModelAdmin.get_queryset(self, request)
        return rows.filter(project__in=Project.objects.visible_to(request.user))

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        asked = ["project", "name", "expires_at"]
        return [*asked, *self.readonly_fields] if obj else asked

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ["project", *self.readonly_fields] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Runs name the key they came by; revoking keeps that.
        return False

    @admin.display(description="ends in")
    def ending(self, key: ApiKey) -> str:
        return f"…{key.hint}"

    @admin.display
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "works"

    def save_model(
        self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm[ApiKey], change: bool
    ) -> None:
        if change:
            return super().save_model(request, obj, form, change)
        key, token = ApiKey.objects.issue(
            project=obj.project,
            name=obj.name,
            expires_in=obj.expires_at - timezone.now() if obj.expires_at else None,
            created_by=request.user if request.user.is_authenticated else None,
        )
        obj.pk = key.pk
        obj.refresh_from_db()
        request.new_token = token  # type: ignore[attr-defined]
        return None

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the token in this very response: a message or a redirect would have to keep it
        in a cookie, the session or the address."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"API key “{obj.name}”",
            "opts": self.opts,
            "key": obj,
            "token": request.new_token,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/assistant_manager/apikey/issued.html", context)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: Any) -> None:
        for key in keys.filter(revoked_at=None):
            self.log_change(request, key, "Revoked.")
        count = keys.revoke()
        messages.success(request, f"{count} key{'' if count == 1 else 's'} revoked.")
