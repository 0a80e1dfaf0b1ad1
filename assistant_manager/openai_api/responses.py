"""What the doors answer with. The middleware lets these through and replaces all else."""

from __future__ import annotations

import json
from typing import Any

import orjson
from django.http import FileResponse, HttpResponse

from assistant_manager.openai_api.errors import Wire, WireError


class WireResponse(HttpResponse):
    """A JSON object; `body` None is an empty answer. `body` stays at hand for who adds headers."""

    def __init__(
        self, body: Wire | None, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.body = body
        content = b"" if body is None else _json(body)
        super().__init__(content, "application/json", status, headers=headers)


class ContentResponse(FileResponse):
    """The bytes of a file, for saving: never shown, never sniffed, whatever they claim to be."""

    def __init__(self, content: Any, filename: str) -> None:
        super().__init__(
            content, as_attachment=True, filename=filename, content_type="application/octet-stream"
        )
        self.headers["X-Content-Type-Options"] = "nosniff"


def error_response(error: WireError) -> WireResponse:
    return WireResponse(error.body(), status=error.status, headers=error.headers)


def _json(body: Wire) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # numbers of more than 64 bits, halves of surrogate pairs
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="replace")
