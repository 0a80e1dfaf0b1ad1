"""The Celery app is loaded with the settings, so that a task called anywhere finds its broker."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
