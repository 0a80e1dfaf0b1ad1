"""What must hold before a process may start, each with an id and what to do about it."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from assistant_manager.engines.base import Engine

TIERS = ("auto", "bubblewrap", "landlock", "none")


@register()
def engines_exist(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for kind, path in settings.ENGINES.items():
        try:
            good = issubclass(import_string(path), Engine)
        except (ImportError, TypeError):
            good = False
        if not good:
            found.append(
                Error(
                    f"ENGINES[{kind!r}] names {path!r}, which is not an Engine.",
                    hint="Give the dotted path of a subclass of assistant_manager.engines.base.Engine.",
                    id="assistant_manager.E001",
                )
            )
    return found


@register()
def encryption_keys_are_keys(**_: Any) -> list[CheckMessage]:
    for number, key in enumerate(settings.FIELD_ENCRYPTION_KEYS, start=1):
        try:
            Fernet(key)
        except ValueError:
            return [
                Error(
                    f"Number {number} of FIELD_ENCRYPTION_KEYS is not a Fernet key.",
                    hint="Make one with: python -c 'from cryptography.fernet import Fernet; "
                    "print(Fernet.generate_key().decode())'",
                    id="assistant_manager.E002",
                )
            ]
    return []


@register()
def sandbox_tier_is_known(**_: Any) -> list[CheckMessage]:
    if settings.SANDBOX_TIER in TIERS:
        return []
    return [
        Error(
            f"SANDBOX_TIER is {settings.SANDBOX_TIER!r}.",
            hint=f"Choose one of {', '.join(TIERS)}.",
            id="assistant_manager.E003",
        )
    ]
