"""The view that every compatible view extends: key, ids, bodies, parameters, errors."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import (
    ObjectDoesNotExist,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request
from rest_framework.views import APIView

from assistant_manager.ids import has_prefix
from assistant_manager.models import ApiKey, Project
from assistant_manager.models.files import AZURE_ID_PREFIX
from assistant_manager.openai_api import errors, idempotency
from assistant_manager.openai_api.authentication import KeyAuthentication, shown_token
from assistant_manager.openai_api.bodies import parse_object
from assistant_manager.openai_api.chunked import whole_body
from assistant_manager.openai_api.errors import Wire, WireError
from assistant_manager.openai_api.flavours import check_version
from assistant_manager.openai_api.middleware import REQUEST_ID
from assistant_manager.openai_api.responses import WireResponse, error_response
from assistant_manager.openai_api.validation import Body, NoQuery, Query, read_body, read_query

logger = logging.getLogger(__name__)

ID_PREFIXES: dict[str, tuple[str, ...]] = {
    "assistant_id": ("asst_",),
    "thread_id": ("thread_",),
    "message_id": ("msg_",),
    "run_id": ("run_",),
    "step_id": ("step_",),
    "file_id": ("file-", AZURE_ID_PREFIX),
}
"""How an id begins, by its name in routes and bodies. The first is the one errors speak of."""


def check_id(param: str, value: str) -> None:
    """Raise the vendor's 400 for what cannot be an id of its kind, `undefined` above all."""
    prefixes = ID_PREFIXES.get(param)
    if prefixes is not None and not has_prefix(value, *prefixes):
        raise errors.malformed_id(param, value[:100], prefixes[0])


def accepts(
    *, body: type[Body] | None = None, query: type[Query] = NoQuery
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What a handler takes. It is called with the route's ids, each of the right form, and with
    `body` and `query` where it named schemas for them; parameters it did not name are refused.
    """

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def checked(view: CompatibleView, request: Request, **ids: str) -> Any:
            for param, value in ids.items():
                check_id(param, value)
            arguments: dict[str, Any] = {}
            parameters = read_query(query, request.query_params)
            if query is not NoQuery:
                arguments["query"] = parameters
            if body is not None:
                arguments["body"] = read_body(body, parse_object(view.read()))
            return handler(view, **ids, **arguments)

        return checked

    return decorate


class CompatibleView(APIView):
    """Handlers return the object to send, or a response of their own.

    Accept and Content-Type are not looked at: SDKs send odd ones, and there is one answer only.
    """

    authentication_classes = (KeyAuthentication,)
    permission_classes = ()
    parser_classes = ()

    def dispatch(self, request: HttpRequest, *args: Any, **ids: str) -> HttpResponseBase:
        try:
            answer = self._at_once(request, ids)
        except Exception as exc:
            return self.handle_exception(exc)
        return answer or super().dispatch(request, *args, **ids)

    def _at_once(self, request: HttpRequest, ids: dict[str, str]) -> HttpResponseBase | None:
        if request.method != "GET":
            return None
        try:
            check_version(request.path_info, request.GET.get("api-version"))
            return self.at_once(shown_token(request), **ids)
        except WireError:
            return None

    def at_once(self, token: str, **ids: str) -> HttpResponseBase | None:
        """The answer to a GET, where a shortcut knows it: the key is not checked yet. None, or a
        WireError, leaves it to the handler."""
        return None

    @property
    def key(self) -> ApiKey:
        return cast(ApiKey, self.request.auth)

    @property
    def project(self) -> Project:
        """The wall: every query of a handler starts with `of(self.project)`."""
        return self.key.project

    @property
    def reason(self) -> str:
        """Who asked, for the history; its column holds 100 characters."""
        return f"API key {self.key.name}"[:100]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """The key comes first, whatever else may be wrong."""
        self.perform_authentication(request)
        check_version(request._request.path_info, request.query_params.get("api-version"))

    def read(self) -> bytes:
        """The request's body. Raises WireError for one that is too large, or that the web server
        cannot hand on."""
        with whole_body(self.request._request, settings.BODY_MAX_BYTES):
            content: bytes = self.request.body
        return content

    def find(self, rows: QuerySet[Any], noun: str, id: str) -> Any:
        """The one of `rows` with this public id. Raises the vendor's 404."""
        try:
            return rows.get(public_id=id)
        except ObjectDoesNotExist:
            raise errors.not_found(noun, id) from None

    def once(self, create: Callable[[], Wire], *, content: bytes | None = None) -> WireResponse:
        """Answer what `create` makes; at most once for requests with the same Idempotency-Key.

        `content` stands for the body where that is not to be read again.
        """
        key = self.request.headers.get(idempotency.HEADER)
        if not key:
            return WireResponse(create())
        what = (str(self.request.method).encode(), self.request.path_info.encode())
        made, replayed = idempotency.once(
            project=self.project,
            key=key,
            fingerprint=idempotency.fingerprint(
                [*what, self.read() if content is None else content]
            ),
            create=create,
        )
        return WireResponse(made, headers={"idempotent-replayed": "true"} if replayed else None)

    # REST framework's stubs say Response where any HttpResponse will do.

    def options(  # type: ignore[override]
        self, request: Request, *args: Any, **kwargs: Any
    ) -> WireResponse:
        return WireResponse(None, status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    def finalize_response(  # type: ignore[override]
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        return response if isinstance(response, HttpResponseBase) else WireResponse(response)

    def handle_exception(self, exc: Exception) -> WireResponse:  # type: ignore[override]
        return error_response(self.translated(exc))

    def translated(self, exc: Exception) -> WireError:
        """`exc` as the caller hears it. What is nobody's mistake but ours is logged in full."""
        request_id = self.request.META.get(REQUEST_ID)
        match exc:
            case WireError():
                return exc
            case MethodNotAllowed():
                method, path = str(self.request.method), self.request._request.path_info
                return errors.method_not_allowed(method, path, self.allowed_methods)
            case RequestDataTooBig():
                return errors.too_large(settings.BODY_MAX_BYTES)
            case SuspiciousOperation() | MultiPartParserError() | UnreadablePostError():
                return WireError(f"The request could not be read: {exc}")
            case ObjectDoesNotExist():
                return WireError("It was deleted while this request was under way.", status=404)
        if _is_disk_full(exc):
            logger.error("%s: the disk is full: %s", request_id, exc)
            return errors.disk_full()
        if isinstance(exc, OperationalError | InterfaceError):
            logger.error("%s: the database refused: %s", request_id, exc)
            return errors.database_busy()
        logger.exception("%s failed", request_id, exc_info=exc)
        return errors.server_error()


def _is_disk_full(exc: Exception) -> bool:
    if isinstance(exc, OperationalError):
        return "full" in str(exc) or "No space left" in str(exc)
    return isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
