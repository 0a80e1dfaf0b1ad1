"""The one list of the menu, and what of it a person may open."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest
from django.urls import reverse

from conversations.models import Review

COUNT_AT_MOST = 99
"""Counting further would cost a look at every waiting row on every page."""


@dataclass(frozen=True, slots=True)
class Page:
    """`view` is the page a click opens; `noun` begins the names of all views that belong to it.
    `permission` None: superusers only."""

    label: str
    view: str
    noun: str
    permission: str | None = None

    def may_open(self, user: AbstractBaseUser | AnonymousUser) -> bool:
        superuser = bool(getattr(user, "is_superuser", False))
        return superuser if self.permission is None else user.has_perm(self.permission)  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True)
class Entry:
    label: str
    url: str
    icon: str
    is_current: bool
    badge: str = ""


def _rows(label: str, app: str, model: str, permission: bool = True) -> Page:
    noun = f"{app}_{model}"
    return Page(label, f"{noun}_changelist", noun, f"{app}.view_{model}" if permission else None)


ASK = Page("Ask", "conversations_run_add", "conversations_run_add", "conversations.add_run")
WAITING = Page(
    "Waiting for review",
    "conversations_review_waiting",
    "conversations_review",
    "conversations.view_review",
)
MENU = [
    (
        "Work",
        [
            ASK,
            WAITING,
            _rows("Runs", "conversations", "run"),
            _rows("Threads", "conversations", "thread"),
            _rows("Files", "assistant_manager", "file"),
        ],
    ),
    (
        "Set up",
        [
            _rows("Assistants", "assistant_manager", "assistant"),
            _rows("API keys", "assistant_manager", "apikey"),
            _rows("Connections", "assistant_manager", "connection", permission=False),
            _rows("Models", "assistant_manager", "model", permission=False),
            _rows("Projects", "assistant_manager", "project", permission=False),
            _rows("Users", "auth", "user", permission=False),
            _rows("Groups", "auth", "group", permission=False),
        ],
    ),
]


def menu_for(request: HttpRequest) -> list[tuple[str, list[Entry]]]:
    """Groups of what the signed-in person may open, empty groups left out."""
    owner = _owner(request.resolver_match.url_name if request.resolver_match else None)
    groups = [
        (title, [_entry(page, owner, request) for page in pages if page.may_open(request.user)])
        for title, pages in MENU
    ]
    return [group for group in groups if group[1]]


def _owner(view: str | None) -> Page | None:
    """The page that a view belongs to: by name, since addresses nest; the longest noun wins."""
    pages = [page for _, group in MENU for page in group]
    owners = [page for page in pages if f"{view}_".startswith(f"{page.noun}_")]
    return max(owners, key=lambda page: len(page.noun), default=None)


def _entry(page: Page, owner: Page | None, request: HttpRequest) -> Entry:
    return Entry(
        label=page.label,
        url=reverse(f"admin:{page.view}"),
        icon="ask" if page is ASK else page.noun.rpartition("_")[2],
        is_current=page is owner,
        badge=_waiting(request) if page is WAITING else "",
    )


def _waiting(request: HttpRequest) -> str:
    waiting = Review.objects.visible_to(request.user).waiting()
    count = waiting[: COUNT_AT_MOST + 1].count()
    return f"{COUNT_AT_MOST}+" if count > COUNT_AT_MOST else str(count or "")
