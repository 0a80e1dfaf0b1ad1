"""Walls: every address of the admin, walked by people it is not for.

The addresses come from the URL configuration, so a page added tomorrow is walked as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.db.models import Model as Row
from django.test import Client
from django.urls import URLPattern, URLResolver

from assistant_manager.models import ApiKey, Assistant, Project
from assistant_manager.services import keep_file
from conversations.models import Message, Review, Run, RunStatus
from tests.admin.conftest import signed_in
from tests.factories import make_assistant, make_project, make_run

SECRET = "hush-hush"
ABSENT = "987654321"
OUR_APPS = ("assistant_manager", "conversations")


def addresses() -> Iterator[tuple[str, type[Row] | None]]:
    """Each pattern of the admin as a template, `{}` for its parameters, with its model."""
    yield from _walk(admin.site.get_urls(), "/admin/", None)


def _walk(
    patterns: list[URLPattern | URLResolver], prefix: str, model: type[Row] | None
) -> Iterator[tuple[str, type[Row] | None]]:
    for pattern in patterns:
        address = prefix + re.sub(r"<[^>]+>|\([^)]*\)", "{}", str(pattern.pattern)).strip("^$")
        if isinstance(pattern, URLPattern):
            yield address.replace("\\", ""), model
            continue
        label, _, name = str(pattern.pattern).strip("/").partition("/")
        known = name and name in {
            m._meta.model_name for m in apps.get_app_config(label).get_models()
        }
        yield from _walk(
            pattern.url_patterns, address, apps.get_model(label, name) if known else None
        )


ROUTES = [(address, model) for address, model in addresses() if "(?P" not in address]
ROWS = [
    (address, model)
    for address, model in ROUTES
    if model is not None and model._meta.app_label in OUR_APPS and "{}" in address
]


@pytest.fixture
def rows(db: None) -> dict[str, Row]:
    """A project of other people, with one of everything in it."""
    project = make_project(name=SECRET)
    assistant = make_assistant(
        project=project, name=SECRET, release_policy="after_review", instructions=SECRET
    )
    run = make_run(assistant=assistant, status=RunStatus.HELD, outcome="completed", attempt=1)
    for message in run.thread.messages.all():
        message.content = [{"type": "text", "text": {"value": SECRET, "annotations": []}}]
        message.save()
    Message.objects.create(thread=run.thread, run=run, role="assistant", content=message.content)
    upload = ContentFile(b"\x89PNG\r\n\x1a\n" + SECRET.encode())
    file = keep_file(project=project, upload=upload, filename=SECRET, purpose="assistants_output")
    key, _ = ApiKey.objects.issue(project=project, name=SECRET)
    found = [project, assistant, run, run.thread, Review.objects.create(run=run), file, key]
    return {row._meta.label: row for row in found}


@pytest.fixture
def outsider(rows: dict[str, Row]) -> User:
    """Staff with every permission there is, in a project of their own."""
    own = make_project(name="own")
    user = User.objects.create_user("outsider", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    own.members.add(user)
    make_assistant(project=own, name="Own")
    return user


def state() -> list[Any]:
    return [
        list(model.objects.order_by("pk").values())
        for model in (Project, Assistant, Assistant.history.model, Run, Review, Message, ApiKey)
    ]


def filled(address: str, key: object) -> str:
    _, *others = ["approve" if "decide" in address else "1"] * address.count("{}")
    return address.format(key, *others)


def key_of(row: Row | None, address: str) -> object:
    if row is None:
        return "1"
    return row.public_id if "picture" in address else row.pk  # type: ignore[attr-defined]


POSTED = {
    **{"post": "yes", "text": "changed", "reason": "changed", "note": "changed"},
    **{"name": "changed", "model": "changed", "action": "retire", "tools": "[]"},
}


def test_the_walk_covers_the_pages_it_is_about() -> None:
    walked = {address for address, _ in ROWS}
    for part in ("run/{}/live/", "run/{}/stop/", "run/{}/outputs/", "review/{}/decide/{}/"):
        assert f"/admin/conversations/{part}" in walked
    for part in ("assistant/{}/history/{}/", "assistant/{}/retire/", "file/{}/picture/"):
        assert f"/admin/assistant_manager/{part}" in walked
    assert len(walked) > 40


@pytest.mark.parametrize("address", sorted({address for address, _ in ROUTES}))
def test_nobody_gets_in_without_signing_in(
    client: Client, rows: dict[str, Row], address: str
) -> None:
    before = state()
    url = filled(address, 1) if "{}" in address else address
    for response in (client.get(url), client.post(url, POSTED)):
        assert SECRET not in response.content.decode(errors="replace")
        if "/login/" not in url and "/logout/" not in url and "jsi18n" not in url:
            assert response.status_code in (302, 403, 404)
    assert state() == before


@pytest.mark.parametrize(("address", "model"), ROWS, ids=[address for address, _ in ROWS])
def test_rows_of_others_answer_as_absent_ones_and_never_change(
    outsider: User, rows: dict[str, Row], address: str, model: type[Row]
) -> None:
    client = signed_in(outsider)
    before = state()
    row = rows.get(model._meta.label)
    for method in ("get", "post"):
        seen = []
        for key in (key_of(row, address), ABSENT):
            response = getattr(client, method)(filled(address, key), POSTED)
            html = response.content.decode(errors="replace")
            assert SECRET not in html
            headers = response.headers.get("Location", "")
            told = client.get("/admin/").content.decode()
            assert SECRET not in told
            seen.append((response.status_code, _without(key, html + headers + told)))
        assert seen[0] == seen[1]
        assert seen[0][0] in (302, 403, 404)
    assert state() == before


def _without(key: object, html: str) -> str:
    """What may differ between two answers: the key that was asked for, and the CSRF token."""
    html = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", html)
    return html.replace(f"/{key}/", "/KEY/").replace(f"“{key}”", "“KEY”")


@pytest.mark.parametrize(
    "address", [address for address, _ in ROUTES if "{}" not in address and "logout" not in address]
)
def test_lists_searches_and_forms_tell_nothing_of_others(
    outsider: User, rows: dict[str, Row], address: str
) -> None:
    client = signed_in(outsider)
    for query in (
        "",
        f"?q={SECRET[:-1]}",
        f"?project__id__exact={rows['assistant_manager.Project'].pk}",
    ):
        html = client.get(address + query, follow=True).content.decode(errors="replace")
        assert SECRET not in html


@pytest.mark.parametrize(
    ("noun", "action"), [("assistant", "retire"), ("apikey", "revoke"), ("run", "delete_selected")]
)
def test_actions_do_not_reach_over_the_wall(
    outsider: User, rows: dict[str, Row], noun: str, action: str
) -> None:
    before = state()
    found = {label.split(".")[1].lower(): (label, row) for label, row in rows.items()}
    label, row = found[noun]
    app = label.split(".")[0]
    data = {"action": action, "_selected_action": [row.pk]}
    signed_in(outsider).post(f"/admin/{app}/{noun}/", data)
    assert state() == before


def test_a_member_sees_what_the_outsider_did_not(outsider: User, rows: dict[str, Row]) -> None:
    rows["assistant_manager.Project"].members.add(outsider)  # type: ignore[attr-defined]
    client = signed_in(outsider)
    for label in ("conversations.Run", "conversations.Review", "conversations.Thread"):
        url = f"/admin/{label.lower().replace('.', '/')}/{rows[label].pk}/change/"
        assert SECRET in client.get(url).content.decode()
