"""Everything the compatible doors answer instead of an object, in the vendor's words.

Texts, codes and params follow the vendor's, since programs match on them; where the vendor points
to its own web pages, ours point to whoever runs this server.
"""

from __future__ import annotations

from typing import Any

Wire = dict[str, Any]
"""A JSON object as it goes out."""

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class WireError(Exception):
    """An answer that is an error. `headers` go out with it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = INVALID_REQUEST,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.type = message, status, type
        self.code, self.param, self.headers = code, param, headers or {}

    def body(self) -> Wire:
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


class GatewayError(WireError):
    """What Azure's gateway says before its assistants service is reached: the code is the HTTP
    status as a string, and there is no type and no param."""

    def body(self) -> Wire:
        return {"error": {"code": str(self.status), "message": self.message}}


class GatewayUnauthorized(GatewayError):
    """Azure's answer where a key or token is missing or no token at all: flat, no `error`."""

    def __init__(self) -> None:
        super().__init__(
            "Unauthorized. Access token is missing, invalid, audience is incorrect "
            "(https://cognitiveservices.azure.com), or have expired.",
            status=401,
        )

    def body(self) -> Wire:
        return {"statusCode": 401, "message": self.message}


def not_found(noun: str, id: str) -> WireError:
    """Absent and foreign ids are answered alike."""
    return WireError(f"No {noun} found with id '{id}'.", status=404)


def no_such_file(id: str, *, param: str = "id", status: int = 404) -> WireError:
    return WireError(f"No such File object: {id}", status=status, param=param)


def malformed_id(param: str, value: str, prefix: str) -> WireError:
    begins = prefix.rstrip("_-")
    return WireError(
        f"Invalid '{param}': '{value}'. Expected an ID that begins with '{begins}'.",
        code="invalid_value",
        param=param,
    )


def unknown_url(method: str, path: str) -> WireError:
    return WireError(f"Invalid URL ({method} {path})", status=404, code="unknown_url")


def resource_not_found() -> WireError:
    """Azure's word for a wrong path and for a wrong `api-version` alike."""
    return GatewayError("Resource not found", status=404)


def method_not_allowed(method: str, path: str, allowed: list[str]) -> WireError:
    return WireError(
        f"Not allowed to {method} on {path}. "
        "(HINT: Perhaps you meant to use a different HTTP method?)",
        status=405,
        code="method_not_supported",
        headers={"Allow": ", ".join(allowed)},
    )


def too_large(limit: int) -> WireError:
    return WireError(
        f"The request is too large: at most {limit} bytes are accepted here.",
        status=413,
        code="request_too_large",
    )


def server_error() -> WireError:
    return WireError(
        "The server had an error processing your request. Sorry about that! You can retry your "
        "request. If it goes on, tell whoever runs this server the request id in the "
        "x-request-id header.",
        status=500,
        type=SERVER_ERROR,
    )


def database_busy() -> WireError:
    return WireError(
        "The database is busy or cannot be reached; nothing was changed. Please try again.",
        status=503,
        type=SERVER_ERROR,
        headers={"Retry-After": "1"},
    )


def disk_full() -> WireError:
    """SDKs retry every 5xx unless told not to; a full disk does not empty itself in a second."""
    return WireError(
        "The server's disk is full; nothing was stored. Tell whoever runs this server.",
        status=507,
        type=SERVER_ERROR,
        headers={"x-should-retry": "false"},
    )
