"""The routes of this app, relative to a prefix."""

from __future__ import annotations

from django.urls import path

from conversations.openai_api.views.events import RunEvents
from conversations.openai_api.views.messages import Messages, OneMessage
from conversations.openai_api.views.runs import (
    CancelRun,
    OneRun,
    Runs,
    ThreadAndRun,
    ToolOutputs,
)
from conversations.openai_api.views.steps import OneStep, Steps
from conversations.openai_api.views.threads import OneThread, Threads

_THREAD = "threads/<str:thread_id>"
_RUN = f"{_THREAD}/runs/<str:run_id>"

urlpatterns = [
    path("threads", Threads.as_view()),
    path("threads/runs", ThreadAndRun.as_view()),  # before the next: "runs" is no thread
    path(_THREAD, OneThread.as_view()),
    path(f"{_THREAD}/messages", Messages.as_view()),
    path(f"{_THREAD}/messages/<str:message_id>", OneMessage.as_view()),
    path(f"{_THREAD}/runs", Runs.as_view()),
    path(_RUN, OneRun.as_view()),
    path(f"{_RUN}/cancel", CancelRun.as_view()),
    path(f"{_RUN}/submit_tool_outputs", ToolOutputs.as_view()),
    path(f"{_RUN}/events", RunEvents.as_view()),
    path(f"{_RUN}/steps", Steps.as_view()),
    path(f"{_RUN}/steps/<str:step_id>", OneStep.as_view()),
]
