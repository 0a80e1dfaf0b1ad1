"""The connection that the vendors' own environment variables describe."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

from assistant_manager.models import Connection, ConnectionKind
from assistant_manager.secrets import Secret

AZURE_PATH = "/openai/v1/"


def from_environment() -> Connection | None:
    """Not saved yet; None where no variable names a key. Azure comes first where both do.

    The row holds the variable's name: the key itself stays in the environment.
    """
    azure, openai = Secret("env:AZURE_OPENAI_API_KEY"), Secret("env:OPENAI_API_KEY")
    if settings.AZURE_OPENAI_ENDPOINT and azure.reveal():
        base_url = _azure_v1(settings.AZURE_OPENAI_ENDPOINT)
        return Connection(name="Azure OpenAI", kind="responses", base_url=base_url, key_1=azure)
    if openai.reveal():
        return _openai(settings.OPENAI_BASE_URL, openai)
    return None


def _openai(base_url: str, key: Secret) -> Connection:
    """Another address than the vendor's is a server of its own make: nearly all speak Chat
    Completions, and few can work in the background."""
    host = urlsplit(base_url).hostname or "api.openai.com"
    if host == "api.openai.com":
        return Connection(name="OpenAI", kind="responses", base_url=base_url, key_1=key)
    if host.endswith(".azure.com"):
        return Connection(name="Azure OpenAI", kind="responses", base_url=base_url, key_1=key)
    return Connection(name=host, kind=ConnectionKind.CHAT, base_url=base_url, key_1=key)


def _azure_v1(endpoint: str) -> str:
    return endpoint.rstrip("/").removesuffix(AZURE_PATH.rstrip("/")) + AZURE_PATH
