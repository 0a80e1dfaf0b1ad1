"""Who is calling: an API key, in either flavour's header."""

from __future__ import annotations

import logging

from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from assistant_manager.models import ApiKey
from assistant_manager.openai_api.errors import GatewayError, GatewayUnauthorized, WireError
from assistant_manager.openai_api.flavours import is_azure

logger = logging.getLogger(__name__)

WHERE_KEYS_COME_FROM = "Whoever runs this server makes keys, in its admin under API keys."


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey]:
        """The key becomes `request.auth`. Raises WireError in the words of the path's flavour."""
        token = shown_token(request._request)
        key = ApiKey.objects.for_token(token) if token else None
        if key is not None:
            _note_use(key)
            return AnonymousUser(), key
        if is_azure(request._request.path_info):
            raise _wrong_on_azure() if _named(request._request) else GatewayUnauthorized()
        raise _wrong(token) if token else _missing()


def shown_token(request: HttpRequest) -> str:
    """`api-key` first, since older Azure SDKs send the same key as a bearer token too. "" where
    neither header has one."""
    return _named(request) or _bearer(request.META.get("HTTP_AUTHORIZATION", ""))


def _named(request: HttpRequest) -> str:
    name: str = request.META.get("HTTP_API_KEY", "")
    return name.strip()


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _note_use(key: ApiKey) -> None:
    """A database that cannot write must still let a key read."""
    try:
        ApiKey.objects.note_use(key, timezone.now())
    except OperationalError as error:
        logger.warning("The last use of API key %s was not noted: %s", key.pk, error)


def masked(token: str) -> str:
    """Enough to recognise a key by, never the key: `am-ab***yz`."""
    if len(token) < 16 or not token.isascii() or not token.isprintable():
        return "***"
    return f"{token[:5]}***{token[-2:]}"


def _missing() -> WireError:
    return WireError(
        "You didn't provide an API key. You need to provide your API key in an Authorization "
        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or in an api-key header. "
        + WHERE_KEYS_COME_FROM,
        status=401,
    )


def _wrong(token: str) -> WireError:
    return WireError(
        f"Incorrect API key provided: {masked(token)}. {WHERE_KEYS_COME_FROM}",
        status=401,
        code="invalid_api_key",
    )


def _wrong_on_azure() -> WireError:
    return GatewayError(
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
        "provide a valid key for an active subscription and use a correct regional API endpoint "
        "for your resource.",
        status=401,
    )
