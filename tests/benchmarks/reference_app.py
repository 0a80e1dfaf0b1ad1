"""The Celery app of the designs to compare with; it loads their tasks once Django is ready."""

from __future__ import annotations

from celery import Celery
from django.conf import settings

from config.broker import Transport

app = Celery("reference")
app.conf.update(
    broker_url=settings.CELERY["broker_url"],
    broker_transport_options=settings.CELERY["broker_transport_options"],
    broker_connection_retry_on_startup=True,
    imports=("tests.benchmarks.reference_tasks",),
    task_default_queue=f"{settings.REDIS_PREFIX}-reference",
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)
if not settings.REDIS_URL:
    app.conf.broker_transport = f"{Transport.__module__}:{Transport.__name__}"
