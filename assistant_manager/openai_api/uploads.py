"""Reading an upload: one file and its few text parts, in whatever order they come."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, QueryDict

from assistant_manager.openai_api.chunked import whole_body
from assistant_manager.openai_api.errors import WireError, too_large
from assistant_manager.openai_api.schemas import UploadFile
from assistant_manager.openai_api.validation import read_body

ROOM_FOR_PARTS = 64 * 1024
"""What the headers and text parts around the file may weigh, in bytes."""


@dataclass(frozen=True)
class Upload:
    file: UploadedFile
    fields: UploadFile

    def digest(self) -> bytes:
        """Tells two uploads apart by what is in them; the boundary between parts is random."""
        content = hashlib.sha256()
        for chunk in self.file.chunks():
            content.update(chunk)
        self.file.seek(0)
        said = json.dumps([self.file.name, self.fields.model_dump()]).encode()
        return content.digest() + said


def read_upload(request: HttpRequest) -> Upload:
    """Raises WireError for whatever is not one file with a purpose, and before reading it for one
    that is too large."""
    if request.content_type != "multipart/form-data":
        raise WireError(
            "Files are uploaded as multipart/form-data, with the parts 'file' and 'purpose'."
        )
    limit = settings.UPLOAD_MAX_BYTES + ROOM_FOR_PARTS
    if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
        raise too_large(settings.UPLOAD_MAX_BYTES)
    with whole_body(request, limit):
        texts, files = request.POST, request.FILES
    _refuse_repeated(texts)
    if "file" in texts:
        raise WireError(
            "Invalid type for 'file': expected a file, but got a string instead.",
            code="invalid_type",
            param="file",
        )
    fields = read_body(UploadFile, _nested(texts))
    for name in files:
        if name != "file":
            raise WireError(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    found = files.getlist("file")
    if not found:
        raise WireError(
            "Missing required parameter: 'file'.", code="missing_required_parameter", param="file"
        )
    if len(found) > 1:
        raise WireError("Only one file may be uploaded in a request.", param="file")
    if (found[0].size or 0) > settings.UPLOAD_MAX_BYTES:
        raise too_large(settings.UPLOAD_MAX_BYTES)
    return Upload(file=found[0], fields=fields)


def _refuse_repeated(texts: QueryDict) -> None:
    for name, values in texts.lists():
        if len(values) > 1:
            raise WireError(f"Duplicate parameter: '{name[:100]}'.", param=name[:100])


def _nested(texts: QueryDict) -> dict[str, Any]:
    """`expires_after[seconds]` is how a form says `expires_after.seconds`."""
    fields: dict[str, Any] = {}
    for name, value in texts.items():
        outer, bracket, inner = name.partition("[")
        if bracket and inner.endswith("]") and isinstance(fields.setdefault(outer, {}), dict):
            fields[outer][inner[:-1]] = value
        else:
            fields[name] = value
    return fields
