"""What holds for every answer under the compatible prefixes, known route or not."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve

from assistant_manager.openai_api import errors
from assistant_manager.openai_api.flavours import door_path, is_azure, no_such_route
from assistant_manager.openai_api.responses import error_response

REQUEST_ID = "REQUEST_ID"
"""Where `request.META` keeps the id that the answer and the log share."""


class CompatibleDoors:
    """Extra slashes dropped without a redirect, a request id on every answer, and the vendor's
    envelope for unknown routes.

    The view is called from here: sessions, cookies, forms and pages are no matter of these doors,
    and the middleware that looks after them would take longer than most answers.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = door_path(request.path_info)
        if path is None:
            return self.get_response(request)
        started = time.perf_counter()
        request.path_info = path
        request.META[REQUEST_ID] = f"req_{uuid.uuid4().hex}"
        response = self._answer(request)
        response.headers["x-request-id"] = request.META[REQUEST_ID]
        response.headers["openai-processing-ms"] = f"{(time.perf_counter() - started) * 1000:.0f}"
        if is_azure(path):
            response.headers["apim-request-id"] = str(uuid.uuid4())
        return response

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost:
            return error_response(
                errors.WireError(
                    "This server does not answer to the host name it was called by. Whoever runs "
                    "it can add the name to ALLOWED_HOSTS."
                )
            )
        try:
            view, positional, named = resolve(request.path_info)
        except Resolver404:
            return error_response(no_such_route(str(request.method), request.path_info))
        return view(request, *positional, **named)
