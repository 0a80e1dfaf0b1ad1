"""The report of a connection's last test, in the shape that pages show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.timesince import timesince

from assistant_manager.inspections import PATIENCE, names_used
from assistant_manager.models import Connection, Model


@dataclass(frozen=True, slots=True)
class Report:
    """`is_late`: by now a worker should have answered. `unlisted` are names that assistants use
    and the upstream does not list, each with the page on which to give it another meaning."""

    asked_at: datetime | None = None
    tested_at: datetime | None = None
    model: str = ""
    error: str = ""
    answer: str = ""
    seconds: float | None = None
    models: Sequence[str] | None = None
    supports: Mapping[str, bool] = field(default_factory=dict)
    unlisted: Sequence[tuple[str, str]] = ()

    @property
    def is_awaited(self) -> bool:
        return self.asked_at is not None and self.tested_at is None

    @property
    def is_late(self) -> bool:
        if self.asked_at is None or self.tested_at is not None:
            return False
        return timezone.now() > self.asked_at + timedelta(seconds=PATIENCE + 5)


def report_of(connection: Connection) -> Report:
    stored = connection.inspection or {}
    models = stored.get("models")
    return Report(
        asked_at=_moment(stored.get("asked_at")),
        tested_at=_moment(stored.get("tested_at")),
        model=stored.get("model", ""),
        error=stored.get("error", ""),
        answer=stored.get("answer", ""),
        seconds=stored.get("seconds"),
        models=models,
        supports=stored.get("supports") or {},
        unlisted=[] if models is None else _unlisted(connection, set(models)),
    )


def summary_of(connection: Connection) -> str:
    """One line for the list."""
    stored = connection.inspection or {}
    tested_at = _moment(stored.get("tested_at"))
    if tested_at is None:
        return "under way" if stored else "not tested yet"
    is_fresh = timezone.now() - tested_at < timedelta(minutes=1)
    when = "just now" if is_fresh else f"{timesince(tested_at, depth=1)} ago"
    if stored.get("error"):
        return f"failed {when}"
    took = f" in {stored['seconds']:.1f} s" if stored.get("seconds") is not None else ""
    return f"answered{took}, {when}"


def _unlisted(connection: Connection, listed: set[str]) -> list[tuple[str, str]]:
    names = [said for said, led in names_used(connection).items() if led not in listed]
    rows = dict(Model.objects.filter(name__in=names).values_list("name", "pk"))
    return [(name, _model_page(name, rows.get(name), connection)) for name in sorted(names)]


def _model_page(name: str, pk: int | None, connection: Connection) -> str:
    if pk is not None:
        return reverse("admin:assistant_manager_model_change", args=[pk])
    query = urlencode({"name": name, "connection": str(connection.pk)})
    return f"{reverse('admin:assistant_manager_model_add')}?{query}"


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
