"""Connections and models: how to reach an upstream, how it stands, and a test of it."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from kombu.exceptions import OperationalError

from assistant_manager.admin.base import SuperuserOnly
from assistant_manager.admin.connection_form import (
    KEYS,
    SECRETS,
    ConnectionForm,
    declarations,
)
from assistant_manager.admin.inspections import report_of, summary_of
from assistant_manager.inspections import suggested_model
from assistant_manager.models import Connection, ConnectionKind, Model
from assistant_manager.secrets import SecretUnreadable
from assistant_manager.services import NoModelNamed, request_inspection, resume_connection

LIST = "admin:assistant_manager_connection_changelist"
STANDING = "admin:assistant_manager_connection_standing"
POLL_STOPS = 286
"""htmx takes the content of such an answer and asks no more."""


@admin.register(Connection)
class ConnectionAdmin(SuperuserOnly):
    form = ConnectionForm
    list_display = ["name", "standing", "last_test", "kind_label", "base_url"]
    ordering = ["name"]
    search_fields = ["name"]

    def get_fieldsets(self, request: HttpRequest, obj: Connection | None = None) -> Any:
        removal = [f"remove_{name}" for name in KEYS if obj and getattr(obj, name)]
        webhooks = ["webhook_secret"]
        if obj and obj.webhook_secret:
            webhooks.append("remove_webhook_secret")
        return [
            (None, {"fields": ["name", "kind", "base_url", "api_version"]}),
            ("Keys", {"fields": ["authentication", *KEYS, *removal]}),
            ("Limits", {"fields": ["max_concurrent", "requests_per_minute"]}),
            ("Webhooks", {"fields": webhooks, "description": _webhook_advice(request, obj)}),
            ("Options", {"fields": ["options"], "description": declarations()}),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        # Lists need no keys, and stay readable when one of them cannot be decrypted.
        return super().get_queryset(request).defer(*SECRETS)

    @admin.display(description="kind", ordering="kind")
    def kind_label(self, connection: Connection) -> str:
        return dict(ConnectionKind.choices).get(connection.kind, connection.kind).split(" (")[0]

    @admin.display(description="standing")
    def standing(self, connection: Connection) -> str:
        badge = ("failed", "Paused") if connection.pause else ("completed", "Open")
        return format_html(
            '<a href="{}"><span class="status is-{}">{}</span></a> {}',
            reverse(STANDING, args=[connection.pk]),
            *badge,
            connection.pause or connection.key_note,
        )

    @admin.display(description="last test")
    def last_test(self, connection: Connection) -> str:
        return format_html(
            '<a href="{}">{}</a>', reverse(STANDING, args=[connection.pk]), summary_of(connection)
        )

    # --- the form -----------------------------------------------------------------------

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except SecretUnreadable as error:
            messages.error(request, f"{error} Put that key back into the setting and try again.")
            return HttpResponseRedirect(reverse(LIST))

    def save_model(self, request: HttpRequest, obj: Connection, form: Any, change: bool) -> None:
        if not change:
            return obj.save()
        columns = list(ConnectionForm.Meta.fields)
        if form.changes_the_way_in:
            obj.paused_until, obj.pause_reason, obj.key_in_use, obj.key_note = None, "", 1, ""
            columns += ["paused_until", "pause_reason", "key_in_use", "key_note"]
        # The rest of the row is the drivers', who may have written to it since it was read.
        return obj.save(update_fields=columns)

    def response_add(
        self, request: HttpRequest, obj: Connection, post_url_continue: str | None = None
    ) -> HttpResponse:
        """A new connection wants to be tried."""
        stays = {"_continue", "_addanother", "_popup"} & request.POST.keys()
        response = super().response_add(request, obj, post_url_continue)
        return response if stays else redirect(STANDING, obj.pk)

    # --- standing and test --------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap, name = self.admin_site.admin_view, "assistant_manager_connection"
        own = [
            path("<path:object_id>/standing/", wrap(self.standing_view), name=f"{name}_standing"),
            path("<path:object_id>/live/", self.live_view, name=f"{name}_live"),
            path("<path:object_id>/test/", wrap(self.test_view), name=f"{name}_test"),
            path("<path:object_id>/resume/", wrap(self.resume_view), name=f"{name}_resume"),
        ]
        return [*own, *super().get_urls()]

    def standing_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        connection = self._connection(request, object_id)
        if connection is None:
            return self.absent(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": str(connection),
            "opts": self.opts,
            "connection": connection,
            "kind": self.kind_label(connection),
            "webhook_address": _webhook_address(request, connection)
            if connection.webhook_secret
            else "",
            "model": (connection.inspection or {}).get("model") or suggested_model(connection),
            "report": report_of(connection),
        }
        page = "admin/assistant_manager/connection/standing.html"
        return TemplateResponse(request, page, context)

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The result of the test: 204 while it is awaited, 286 once it is there.

        Not wrapped like the others: a login page must not be put into the middle of this one.
        """
        allowed = self.admin_site.has_permission(request)
        connection = self._connection(request, object_id) if allowed else None
        if connection is None:
            if request.headers.get("HX-Request"):
                return HttpResponse(headers={"HX-Refresh": "true"})
            return redirect(STANDING, object_id)
        report = report_of(connection)
        if report.is_awaited and not report.is_late:
            return HttpResponse(status=204)
        page = "admin/assistant_manager/connection/result.html"
        context = {"connection": connection, "report": report}
        status = 200 if report.is_awaited else POLL_STOPS
        return render(request, page, context, status=status)

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        connection = self._posted(request, object_id)
        if connection is None:
            return self.absent(request, object_id)
        try:
            model = request.POST.get("model", "").strip()[:256]
            request_inspection(connection=connection, model=model)
        except NoModelNamed as refusal:
            messages.error(request, str(refusal))
        except OperationalError:
            messages.error(request, "The queue cannot be reached, so no worker can do the test.")
        return redirect(STANDING, connection.pk)

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        connection = self._posted(request, object_id)
        if connection is None:
            return self.absent(request, object_id)
        resume_connection(connection=connection)
        messages.success(request, "The pause is over: waiting questions go on within seconds.")
        return redirect(STANDING, connection.pk)

    def _connection(self, request: HttpRequest, object_id: str) -> Connection | None:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return cast("Connection | None", self.get_object(request, object_id))

    def _posted(self, request: HttpRequest, object_id: str) -> Connection | None:
        if request.method != "POST":
            raise PermissionDenied
        return self._connection(request, object_id)


def _webhook_address(request: HttpRequest, connection: Connection) -> str:
    return request.build_absolute_uri(reverse("webhook", args=[connection.pk]))


def _webhook_advice(request: HttpRequest, connection: Connection | None) -> str:
    advice = "Optional, Responses only: the vendor tells us when an answer is ready. "
    if connection is None:
        return f"{advice}The address to give to the vendor is shown once this is saved."
    return format_html(
        "{}At the vendor, subscribe the four events <code>response.…</code> to "
        "<code>{}</code> and put the secret it shows here.",
        advice,
        _webhook_address(request, connection),
    )


class ModelForm(forms.ModelForm):
    class Meta:
        model = Model
        fields = ["name", "connection", "upstream_name"]
        help_texts = {
            "upstream_name": "What the connection calls it: the name of a deployment, or of the "
            "model that took the place of a retired one. Empty: the same name."
        }


@admin.register(Model)
class ModelAdmin(SuperuserOnly):
    form = ModelForm
    list_display = ["name", "connection", "upstream_name"]
    list_select_related = ["connection"]
    ordering = ["name"]
    search_fields = ["name", "upstream_name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        deferred = [f"connection__{name}" for name in SECRETS]
        return super().get_queryset(request).defer(*deferred)
