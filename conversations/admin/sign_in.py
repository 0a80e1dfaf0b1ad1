"""The door that the quickstart's one-time link leads to."""

from __future__ import annotations

from typing import cast

from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from assistant_manager.models import SignInLink


@never_cache
@require_GET
def start(request: HttpRequest, code: str) -> HttpResponse:
    """Sign in with `code` and go to the Ask page.

    A plain GET spends the code, as a person expects of a link in a terminal. Browsers that load
    it ahead of a click say so and are refused; HEAD, which link checkers send, is not served.
    The address carries a secret, so it is told to nobody: no referrer, no cache.
    """
    if "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        return HttpResponse(status=503, headers={"Cache-Control": "no-store"})
    user = cast("User | None", SignInLink.objects.redeem(code))
    if user is None:
        response = render(request, "sign_in_link_spent.html", status=410)
    else:
        login(request, user)
        response = redirect("admin:conversations_run_add")
    response["Referrer-Policy"] = "no-referrer"
    return response
