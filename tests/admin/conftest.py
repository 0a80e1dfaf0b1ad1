"""People who use the admin, and a browser that lets nothing pass."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from assistant_manager.models import Project
from tests.factories import make_staff

SCREENSHOTS = Path(__file__).parent.parent / "screenshots"
WIDE, PHONE = 1360, 390
PATIENCE = 60_000
"""Milliseconds for whatever is awaited in a browser; a busy machine stands still for seconds."""
expect.set_options(timeout=PATIENCE)
CUT_OFF = """() => [...document.querySelectorAll("main :is(input, select, textarea, button, h1, h2)")]
    .filter(part => part.checkVisibility() && !part.closest(".results, .visually-hidden"))
    .filter(part => part.getBoundingClientRect().right > innerWidth - 4)
    .map(part => part.outerHTML.slice(0, 100))"""
"""Parts of forms that a clipping box hides, which no scroll bar would show."""


@pytest.fixture
def staff(project: Project) -> User:
    """A member of `project` with every permission of both apps."""
    return make_staff(project, first_name="Mira")


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create_superuser("root")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def as_staff(staff: User) -> Client:
    return signed_in(staff)


@pytest.fixture
def as_superuser(superuser: User) -> Client:
    return signed_in(superuser)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's own Chromium; as root it runs only without its sandbox.

    One for each module and not for the session: while Playwright runs, an event loop runs in
    this thread, and Django would refuse the ORM to every later test. Here the ORM is used
    between Playwright's steps only, which is safe.
    """
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    path = next((path for path in found if path), None)
    if path is None:
        pytest.fail("The browser tests need Chromium: apt-get install chromium.")
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=path, args=args, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A page in a fresh session. Any complaint on its console, CSP violations included, fails
    the test."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.type}: {message.text}")

    def note_failure(request: Request) -> None:
        # A click on a link ends the poll that is under way; that is no failure.
        if request.failure != "net::ERR_ABORTED":
            complaints.append(f"failed: {request.url}")

    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.set_viewport_size({"width": WIDE, "height": 900})
    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on("requestfailed", note_failure)
    yield page
    context.close()
    assert complaints == []


def look(page: Page, name: str, *, all_four: bool = True) -> None:
    """Look at the page wide and on a phone, light and dark, and keep pictures for people; without
    `all_four` only wide and light, narrow and dark. On no width may it scroll sideways.
    """
    SCREENSHOTS.mkdir(exist_ok=True)
    page.wait_for_load_state()  # without its styles a page has no width of its own
    for width in (WIDE, PHONE):
        page.set_viewport_size({"width": width, "height": 900})
        sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert sideways <= 0, f"{name} at {width} is {sideways} pixels too wide"
        cut = page.evaluate(CUT_OFF)
        assert cut == [], f"{name} at {width}: {cut} reach past the edge"
        for scheme in ("light", "dark"):
            if not all_four and (width == WIDE) != (scheme == "light"):
                continue
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(
                path=SCREENSHOTS / f"{name}-{width}-{scheme}.png",
                full_page=True,
                animations="disabled",
            )
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDE, "height": 900})
