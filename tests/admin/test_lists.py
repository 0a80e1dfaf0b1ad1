"""The lists: what they say, and what they cost."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from assistant_manager.models import ApiKey, File, Project
from conversations.models import Review, RunStatus
from tests.factories import make_assistant, make_run

LISTS = {
    "runs": "/admin/conversations/run/",
    "threads": "/admin/conversations/thread/",
    "reviews": "/admin/conversations/review/",
    "waiting": "/admin/conversations/review/waiting/",
    "assistants": "/admin/assistant_manager/assistant/",
    "keys": "/admin/assistant_manager/apikey/",
    "files": "/admin/assistant_manager/file/",
}


def five_of_everything(project: Project, staff: User) -> None:
    for _ in range(5):
        assistant = make_assistant(project=project)
        run = make_run(assistant=assistant, status=RunStatus.COMPLETED, asked_by=staff)
        Review.objects.create(run=run)
        ApiKey.objects.issue(project=project, name="k")
        File.objects.create(project=project, filename="f", purpose="assistants", bytes=1)


@pytest.mark.parametrize("url", LISTS.values(), ids=LISTS)
def test_a_longer_list_asks_the_database_no_more_often(
    as_staff: Client, project: Project, staff: User, url: str
) -> None:
    five_of_everything(project, staff)
    as_staff.get(url)
    with CaptureQueriesContext(connection) as short:
        as_staff.get(url)
    five_of_everything(project, staff)
    with CaptureQueriesContext(connection) as long:
        assert as_staff.get(url).status_code == 200
    assert len(long) == len(short) <= 12


def test_the_list_of_runs_does_not_carry_their_instructions(
    as_staff: Client, project: Project, staff: User
) -> None:
    five_of_everything(project, staff)
    with CaptureQueriesContext(connection) as queries:
        as_staff.get(LISTS["runs"])
    assert not [query for query in queries if '"instructions"' in query["sql"]]


def test_runs_are_found_by_status_and_by_id(as_staff: Client, project: Project) -> None:
    assistant = make_assistant(project=project)
    failed = make_run(assistant=assistant, status=RunStatus.FAILED)
    done = make_run(assistant=assistant, status=RunStatus.COMPLETED)
    for query, found in [
        ("?status__exact=failed", failed),
        (f"?q={done.public_id}", done),
        (f"?q={done.thread.public_id}", done),
    ]:
        assert list(as_staff.get(LISTS["runs"] + query).context["cl"].result_list) == [found]


def test_assistants_in_use_and_retired_are_told_apart(as_staff: Client, project: Project) -> None:
    live, retired = make_assistant(project=project), make_assistant(project=project)
    as_staff.post(f"{LISTS['assistants']}{retired.pk}/retire/")
    for use, found in [("live", live), ("retired", retired)]:
        page = as_staff.get(f"{LISTS['assistants']}?use={use}")
        assert list(page.context["cl"].result_list) == [found]


def test_the_menu_counts_what_waits_up_to_ninety_nine(
    as_staff: Client, project: Project, staff: User
) -> None:
    badge = '<span class="badge">'
    assert badge not in as_staff.get(LISTS["runs"]).content.decode()
    run = make_run(assistant=make_assistant(project=project), status=RunStatus.COMPLETED)
    Review.objects.create(run=run)
    assert f"{badge}1<" in as_staff.get(LISTS["runs"]).content.decode()
    runs = [make_run(assistant=run.assistant, status=RunStatus.COMPLETED) for _ in range(99)]
    Review.objects.bulk_create(Review(run=run) for run in runs)
    assert f"{badge}99+<" in as_staff.get(LISTS["runs"]).content.decode()


def test_the_menu_marks_one_entry_on_nested_pages(as_staff: Client, project: Project) -> None:
    for url in LISTS.values():
        assert as_staff.get(url).content.decode().count('aria-current="page"') == 1
    ask = as_staff.get("/admin/conversations/run/add/").content.decode()
    assert ask.count('aria-current="page"') == 1
