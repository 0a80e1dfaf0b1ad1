"""Engines by kind. The list is the `ENGINES` setting; an engine is imported when first used."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string

from assistant_manager.engines.base import Engine


def engine_class(kind: str) -> type[Engine]:
    """Raises KeyError for a kind no setting names, ImportError for a wrong path."""
    cls: type[Engine] = import_string(settings.ENGINES[kind])
    return cls


def engine_for(kind: str) -> Engine:
    """A new instance of the engine of this kind."""
    return engine_class(kind)()
