"""The page for what went wrong on our side, without asking the database for anything."""

from __future__ import annotations

import errno
import sys

from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.views.decorators.csrf import requires_csrf_token

DISK_FULL = "The disk of the server is full. Nothing was stored. An administrator has to make room."
DATABASE = (
    "The database is busy or cannot be reached. Nothing was stored. Wait a moment, go back and "
    "try again; if it stays so, tell an administrator."
)
OTHER = (
    "Something went wrong here, and it was written to the server's log. Go back and try again; "
    "if it stays so, tell an administrator."
)


@requires_csrf_token
def server_error(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    text, status = explain(error)
    page = loader.get_template("500.html").render({"text": text})
    return HttpResponse(page, status=status)


def explain(error: BaseException | None) -> tuple[str, int]:
    """A sentence a person can act on, and the status that says whether to try again."""
    seen = error
    while seen is not None:
        full = isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or (isinstance(seen, DatabaseError) and "disk is full" in str(seen)):
            return DISK_FULL, 507
        if isinstance(seen, OperationalError | InterfaceError):
            return DATABASE, 503
        seen = seen.__cause__
    return OTHER, 500
