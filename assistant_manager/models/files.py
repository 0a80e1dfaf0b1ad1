"""Files: bytes uploaded by programs or made by code, with their purpose."""

from __future__ import annotations

from typing import Any, Self

from django.db import models, transaction
from django.utils import timezone

from assistant_manager.models.base import ProjectQuerySet, public_id
from assistant_manager.models.projects import Project

AZURE_ID_PREFIX = "assistant-"


class FilePurpose(models.TextChoices):
    """The vendor's purposes; those it only reports, and never accepts, end in `_output`."""

    ASSISTANTS = "assistants"
    ASSISTANTS_OUTPUT = "assistants_output"
    BATCH = "batch"
    FINE_TUNE = "fine-tune"
    VISION = "vision"
    USER_DATA = "user_data"
    EVALS = "evals"


def storage_path(file: File, filename: str) -> str:
    """Named by id, so that nothing a client says becomes part of a path."""
    return f"{file.project_id}/{file.public_id}"


class FileQuerySet(ProjectQuerySet):
    def live(self) -> Self:
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now()))


class File(models.Model):
    """`bytes` is the size in bytes. `expires_at` None means kept until deleted."""

    public_id = public_id("file-")
    project = models.ForeignKey(Project, models.CASCADE, related_name="files")
    filename = models.CharField(max_length=512)
    purpose = models.CharField(max_length=32, choices=FilePurpose.choices)
    bytes = models.PositiveBigIntegerField()
    content = models.FileField(upload_to=storage_path, max_length=200)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = FileQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["project", "id"], name="file_project")]

    def __str__(self) -> str:
        return self.filename

    def read(self) -> Any:
        """The bytes, whole. Raises OSError where they are gone."""
        with self.content.storage.open(str(self.content.name)) as content:
            return content.read()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the row, and the bytes once that is certain."""
        storage, name = self.content.storage, str(self.content.name)
        with transaction.atomic():
            # Locked before its copies are looked for: a driver may be noting one just now.
            File.objects.select_for_update().filter(pk=self.pk).values_list("pk").exists()
            deleted = super().delete(*args, **kwargs)
            transaction.on_commit(lambda: storage.delete(name))
        return deleted


class FileCopy(models.Model):
    """A file of ours as a connection has it, so that it is uploaded there once."""

    file = models.ForeignKey(File, models.CASCADE, related_name="copies")
    connection = models.ForeignKey("assistant_manager.Connection", models.CASCADE, related_name="+")
    upstream_id = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["file", "connection"], name="one_copy_a_file_and_connection"
            )
        ]

    def __str__(self) -> str:
        return self.upstream_id
