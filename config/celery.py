"""The Celery app. Its settings, the beat schedule among them, are `CELERY` in settings.py."""

import os
from functools import partial

from celery import Celery, beat
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

TRANSPORT_ALIASES["filesystem"] = "config.broker:Transport"

# `-B` would take a process for the schedule, of 40 MiB; a thread of the worker does as well.
beat.EmbeddedService = partial(beat.EmbeddedService, thread=True)

app = Celery("assistant_manager")
app.config_from_object("config.settings:CELERY")
app.autodiscover_tasks()
app.steps["worker"].add("conversations.worker.DriverStep")
