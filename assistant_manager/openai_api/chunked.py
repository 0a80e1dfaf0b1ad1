"""Bodies that come in chunks, their length unsaid: Node's SDK sends files from a disk so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from django.conf import settings
from django.http import HttpRequest

from assistant_manager.openai_api.errors import WireError, too_large

CHUNK = 64 * 1024
IN_MEMORY = 1024 * 1024
"""Bytes. What is longer waits in a temporary file."""


@contextmanager
def whole_body(request: HttpRequest, limit: int) -> Iterator[None]:
    """Within it, a body of up to `limit` bytes can be read, whether its length was said or not.

    Django takes a body without Content-Length for an empty one; a chunked one is therefore first
    read to its end. Raises WireError for one over `limit`, and where the WSGI server does not
    promise that reading ends with the body (`wsgi.input_terminated`).
    """
    if not _is_chunked(request):
        yield
        return
    if not request.META.get("wsgi.input_terminated"):
        raise WireError("Send a Content-Length instead of a chunked body.", status=411)
    with SpooledTemporaryFile(IN_MEMORY, dir=settings.FILE_UPLOAD_TEMP_DIR) as spool:
        size = _copy(request.META["wsgi.input"], spool, limit)
        spool.seek(0)
        request.META["CONTENT_LENGTH"] = str(size)
        request._stream = cast(BinaryIO, spool)  # where Django itself reads from
        yield


def _is_chunked(request: HttpRequest) -> bool:
    """Once read, a body has a length and is chunked no more."""
    if request.META.get("CONTENT_LENGTH"):
        return False
    return "chunked" in request.headers.get("Transfer-Encoding", "").lower()


def _copy(source: BinaryIO, spool: SpooledTemporaryFile[bytes], limit: int) -> int:
    size = 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        spool.write(chunk)
    return size
