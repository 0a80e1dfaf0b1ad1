from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


def make_staff_group(**_: Any) -> None:
    from conversations.groups import ensure_staff_group

    ensure_staff_group()


class ConversationsConfig(AppConfig):
    name = "conversations"
    verbose_name = "Conversations"

    def ready(self) -> None:
        post_migrate.connect(make_staff_group, sender=self)
