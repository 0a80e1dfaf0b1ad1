"""What a person can ask for in this app: assistants made, changed, retired; files kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.files.base import File as Upload
from django.db import transaction
from django.utils import timezone
from simple_history.utils import update_change_reason

from assistant_manager.ids import make_id
from assistant_manager.models import Assistant, Connection, ConnectionKind, File, Model, Project
from assistant_manager.models.connections import ANY_MODEL
from assistant_manager.tasks import inspect_connection
from assistant_manager.vendors import from_environment

DEFAULT_PROJECT = "default"
EMBEDDED_MODEL = "embedded"
"""The name that leads to the offline engine where any other leads to a vendor."""


@transaction.atomic
def ensure_defaults() -> None:
    """The project, connections and models that a fresh database starts with. Safe to repeat."""
    Project.objects.get_or_create(name=DEFAULT_PROJECT)
    if not Model.objects.exists():
        embedded, _ = Connection.objects.get_or_create(
            name="Embedded", defaults={"kind": ConnectionKind.EMBEDDED}
        )
        Model.objects.create(name=ANY_MODEL, connection=embedded)
    if not Assistant.objects.exists():
        _connect_to_vendor()


def _connect_to_vendor() -> None:
    """Have every name lead to the vendor whose key is in the environment; `embedded` still leads to
    the offline engine. Does nothing once somebody has set up a connection or a model."""
    others = Connection.objects.exclude(kind=ConnectionKind.EMBEDDED).exists()
    default = Model.objects.filter(name=ANY_MODEL, upstream_name="").first()
    vendor = from_environment()
    if vendor is None or others or default is None or Model.objects.count() > 1:
        return
    vendor.save()
    Model.objects.create(name=EMBEDDED_MODEL, connection=default.connection)
    Model.objects.filter(pk=default.pk).update(connection=vendor)


class NoModelNamed(Exception):
    """A connection test has to name the model that is to say hello."""


def request_inspection(*, connection: Connection, model: str) -> None:
    """Have a worker say hello to the connection with `model`, a name that the upstream knows.

    Raises NoModelNamed, and kombu's OperationalError where the queue cannot be reached.
    """
    if not model and connection.kind != ConnectionKind.EMBEDDED:
        raise NoModelNamed("Name a model that the upstream knows: it is asked to say hello.")
    report = {"model": model, "asked_at": timezone.now().isoformat()}
    Connection.objects.filter(pk=connection.pk).update(inspection=report)
    inspect_connection.delay(connection.pk, report["asked_at"])


def resume_connection(*, connection: Connection) -> None:
    """End a pause now. Drivers read the row every few seconds."""
    Connection.objects.filter(pk=connection.pk).update(paused_until=None, pause_reason="")


@transaction.atomic
def create_assistant(*, project: Project, reason: str = "", **fields: Any) -> Assistant:
    """`fields` are columns of Assistant; `reason` is who asked, for the history."""
    assistant = Assistant(project=project, **fields)
    assistant.save()
    if reason:
        update_change_reason(assistant, reason)
    return assistant


@transaction.atomic
def change_assistant(*, assistant: Assistant, reason: str = "", **fields: Any) -> Assistant:
    """Replace the named columns, leave the others as another request may just have set them."""
    locked = Assistant.objects.select_for_update().get(pk=assistant.pk)
    for name, value in fields.items():
        setattr(locked, name, value)
    locked.save()
    if reason:
        update_change_reason(locked, reason)
    return locked


@transaction.atomic
def retire_assistant(*, assistant: Assistant, reason: str = "") -> None:
    """Take the assistant out of lists and new runs. Running runs hold copies and go on."""
    change_assistant(assistant=assistant, reason=reason, retired_at=timezone.now())


@transaction.atomic
def keep_file(
    *,
    project: Project,
    upload: Upload[Any],
    filename: str,
    purpose: str,
    id_prefix: str = "file-",
    expires_after: timedelta | None = None,
) -> File:
    """Store bytes under a new id. Raises OSError when the disk is full; then no row is left."""
    now = timezone.now()
    file = File(
        public_id=make_id(id_prefix),
        project=project,
        filename=filename[:512],
        purpose=purpose,
        bytes=upload.size,
        created_at=now,
        expires_at=now + expires_after if expires_after else None,
    )
    file.content.save(file.public_id, upload, save=False)
    try:
        file.save()
    except BaseException:
        file.content.storage.delete(str(file.content.name))
        raise
    return file
