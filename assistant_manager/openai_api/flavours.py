"""The two flavours of one API: OpenAI's under /v1, Azure's under /openai and /openai/v1."""

from __future__ import annotations

import re
from datetime import date

from django.conf import settings

from assistant_manager.openai_api.errors import WireError, resource_not_found, unknown_url

PREFIXES = ("/v1", "/openai")
VERSIONED = "/openai/v1"
"""Azure's newer surface: its key header and gateway, but no `api-version`."""

OLDEST_VERSION = date(2024, 5, 1)
"""Earlier versions speak another dialect, in which assistants had `file_ids`."""
_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
_SLASHES = re.compile(r"/{2,}")
_DEPLOYMENT = re.compile(r"^/openai/deployments/[^/]+(?=/)")


def under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def door_path(path: str) -> str | None:
    """`path` as the routes know it, or None when it leads to no compatible door.

    Older SDKs send `//openai/assistants` for an endpoint written with a slash at its end, and a
    redirect would turn their POST into a GET: the extra slashes are dropped in silence. So is
    the deployment that openai-python before 1.65.2 puts in front of every route once it is told
    one; which model answers, the assistant says.
    """
    plain = _DEPLOYMENT.sub("/openai", _SLASHES.sub("/", path))
    if not any(under(plain, prefix) for prefix in PREFIXES):
        return None
    return plain.rstrip("/")


def is_azure(path: str) -> bool:
    return under(path, "/openai")


def check_version(path: str, version: str | None) -> None:
    """Raise Azure's 404 for an `api-version` that is missing or not spoken here."""
    if not is_azure(path) or under(path, VERSIONED):
        return
    match = _VERSION.fullmatch(version or settings.AZURE_DEFAULT_API_VERSION)
    if match is None or not _since_oldest(match[1]):
        raise resource_not_found()


def _since_oldest(day: str) -> bool:
    try:
        return date.fromisoformat(day) >= OLDEST_VERSION
    except ValueError:
        return False


def no_such_route(method: str, path: str) -> WireError:
    return resource_not_found() if is_azure(path) else unknown_url(method, path)
