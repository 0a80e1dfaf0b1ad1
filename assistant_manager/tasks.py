"""Celery's door into this app: small jobs that speak to an upstream."""

from __future__ import annotations

from celery import shared_task

from assistant_manager.inspections import inspect


@shared_task
def inspect_connection(connection: int, asked_at: str) -> None:
    """Say hello to a connection for somebody who asked at this moment (ISO 8601)."""
    inspect(connection, asked_at)
