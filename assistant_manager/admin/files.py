"""Files, to look at. Only pictures are ever shown, and only as pictures."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path

from assistant_manager.admin.base import ProjectFilter, ReadOnly, WalledAdmin
from assistant_manager.models import File

PNG = b"\x89PNG\r\n\x1a\n"


@admin.register(File)
class FileAdmin(ReadOnly, WalledAdmin):
    list_display = ["public_id", "filename", "purpose", "size", "project", "created_at"]
    list_filter = ["purpose", ("project", ProjectFilter)]
    list_select_related = ["project"]
    search_fields = ["=public_id", "filename"]
    fields = ["public_id", "filename", "purpose", "size", "project", "created_at", "expires_at"]

    @admin.display(ordering="bytes")
    def size(self, file: File) -> str:
        return filesizeformat(file.bytes)

    def get_urls(self) -> list[URLPattern]:
        picture = path(
            "<str:public_id>/picture/",
            self.admin_site.admin_view(self.picture_view),
            name="assistant_manager_file_picture",
        )
        return [picture, *super().get_urls()]

    def picture_view(self, request: HttpRequest, public_id: str) -> HttpResponse:
        """The bytes of a PNG. Anything else is a 404: what a program uploaded may be a page
        that would run in the admin's name."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        file = self.get_queryset(request).filter(public_id=public_id).first()
        if file is None:
            raise Http404
        try:
            with file.content.open("rb") as stored:
                content = stored.read()
        except FileNotFoundError as error:
            raise Http404 from error
        if not content.startswith(PNG):
            raise Http404
        return HttpResponse(
            content,
            content_type="image/png",
            headers={
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "private, max-age=3600, immutable",
            },
        )
