"""The routes of this app, relative to a prefix. No slash at the end, and no redirect to one."""

from __future__ import annotations

from django.urls import path

from assistant_manager.openai_api.views.assistants import Assistants, OneAssistant
from assistant_manager.openai_api.views.files import FileContent, Files, OneFile
from assistant_manager.openai_api.views.models import Models, OneModel

urlpatterns = [
    path("assistants", Assistants.as_view()),
    path("assistants/<str:assistant_id>", OneAssistant.as_view()),
    path("files", Files.as_view()),
    path("files/<str:file_id>", OneFile.as_view()),
    path("files/<str:file_id>/content", FileContent.as_view()),
    path("models", Models.as_view()),
    path("models/<path:model>", OneModel.as_view()),
]
