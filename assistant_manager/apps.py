from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


def make_defaults(**_: Any) -> None:
    from assistant_manager.services import ensure_defaults

    ensure_defaults()


class AssistantManagerConfig(AppConfig):
    name = "assistant_manager"
    verbose_name = "Assistants"

    def ready(self) -> None:
        from assistant_manager import checks  # noqa: F401

        post_migrate.connect(make_defaults, sender=self)
