"""What every page of the admin keeps to: walls around projects, and habits for big tables."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Field, ForeignKey, Model, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

from assistant_manager.models import Project


class PlainAdmin(admin.ModelAdmin):
    """Lists that say what they are, and ask the database no more than they show."""

    ordering = ["-pk"]
    list_per_page = 50
    # Counts of the whole table, or for each choice of a filter, cost more than they tell.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # The stock title, "Select run to change", says what to click and not what it is.
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def absent(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What the stock pages answer where no row is, or none that the person may see."""
        answer: HttpResponse = self._get_obj_does_not_exist_redirect(  # type: ignore[attr-defined]
            request, self.opts, object_id
        )
        return answer


class WalledAdmin(PlainAdmin):
    """Rows of the signed-in person's projects only, in lists, pages, searches and choices.

    A row behind the wall answers as one that does not exist.
    """

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        return rows.visible_to(request.user)

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        visible_to = getattr(db_field.remote_field.model._default_manager, "visible_to", None)
        if visible_to is not None:
            kwargs["queryset"] = visible_to(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class ReadOnly(admin.ModelAdmin):
    """Looked at here, changed elsewhere: by programs, drivers or the pages' own buttons."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class SuperuserOnly(PlainAdmin):
    """What reaches across the walls: upstream keys, projects and who belongs to them."""

    def _allowed(self, request: HttpRequest) -> bool:
        user = request.user
        return user.is_active and user.is_superuser

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # The stock history page looks for the row before it asks for the permission, and so
        # tells which rows exist.
        rows = super().get_queryset(request)
        return rows if self._allowed(request) else rows.none()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._allowed(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._allowed(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._allowed(request)


class ProjectFilter(admin.RelatedFieldListFilter):
    """Offers the person's own projects: the stock filter would name everybody's."""

    def field_choices(
        self, field: Field[Any, Any], request: HttpRequest, model_admin: admin.ModelAdmin
    ) -> list[tuple[str, Any]]:
        return [(str(row.pk), row.name) for row in Project.objects.visible_to(request.user)]
