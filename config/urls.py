"""Which door is where."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from assistant_manager.health import healthz, readyz
from conversations.admin.sign_in import start
from conversations.webhooks import webhook

handler500 = "conversations.admin.errors.server_error"

urlpatterns = [
    # One implementation, both of the vendors' flavours. First, since they are asked most.
    *[
        path(prefix, include(routes))
        for prefix in ("v1/", "openai/v1/", "openai/")
        for routes in ("conversations.openai_api.urls", "assistant_manager.openai_api.urls")
    ],
    path("healthz", healthz),
    path("readyz", readyz),
    path("", RedirectView.as_view(pattern_name="admin:conversations_run_add")),
    path("webhooks/<int:pk>", webhook, name="webhook"),
    path("start/<str:code>", start, name="start"),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
]
