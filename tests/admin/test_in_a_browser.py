"""The path of a person through the admin, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from assistant_manager.models import Project, ReleasePolicy, SignInLink
from conversations.driver import Driver
from conversations.models import Review, ReviewStatus, Run, RunStatus
from tests.admin.conftest import look
from tests.conversations.driving import wait_for
from tests.factories import make_assistant, make_project, make_run, make_staff
from tests.fakes.engine import ScriptedEngine

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("scripted"),
]

CODE = (
    "from sympy import Eq, solve, symbols\n\nx = symbols('x')\nprint(solve(Eq(3 * x + 11, 14), x))"
)
ANSWER = """\
The solution is **x = 1**.

1. Subtract 11 from both sides: `3x = 3`.
2. Divide by 3.

| Step | Left side | Right side |
|:-----|----------:|-----------:|
| start | 3x + 11 | 14 |
| end | x | 1 |
"""


@pytest.fixture
def project(transactional_db: None) -> Project:
    return make_project(name="algebra")


@pytest.fixture
def staff(project: Project) -> User:
    return make_staff(project, first_name="Mira")


@pytest.fixture
def gate() -> Iterator[Any]:
    """Closed: runs with `gate` in their script wait until a test opens it."""
    ScriptedEngine.gate.clear()
    yield ScriptedEngine.gate
    ScriptedEngine.gate.set()


def assistant_that(project: Project, policy: str = ReleasePolicy.IMMEDIATELY, **script: Any) -> Any:
    script = {"code": CODE, "answer": ANSWER} | script
    return make_assistant(project=project, instructions=json.dumps(script), release_policy=policy)


def sign_in(tab: Page, live_server: LiveServer, user: User) -> None:
    tab.goto(f"{live_server.url}/start/{SignInLink.objects.issue(user)}")
    expect(tab.get_by_role("heading", name="Ask")).to_be_visible()


def test_a_person_signs_in_by_link_asks_and_sees_the_answer_without_reloading(
    tab: Page, live_server: LiveServer, project: Project, staff: User, driver: Driver, gate: Any
) -> None:
    assistant_that(project, gate=True)
    sign_in(tab, live_server, staff)
    expect(tab.get_by_label("Question")).to_have_value(
        "I need to solve the equation `3x + 11 = 14`. Can you help me?"
    )
    look(tab, "ask")
    tab.get_by_label("Question").press("Control+Enter")
    expect(tab.get_by_role("status")).to_have_text("In progress")
    tab.evaluate("window.sameDocument = true")
    look(tab, "run-working")
    gate.set()
    expect(tab.get_by_role("status")).to_have_text("Completed")
    expect(tab.get_by_label("Code")).to_have_text(CODE)
    expect(tab.get_by_label("Output", exact=True)).to_have_text("1")
    expect(tab.locator("#live strong", has_text="x = 1")).to_be_visible()
    assert tab.evaluate("window.sameDocument") is True
    look(tab, "run-completed")
    assert Run.objects.get().asked_by == staff


def test_a_follow_up_question_stays_in_the_thread(
    tab: Page, live_server: LiveServer, project: Project, staff: User, driver: Driver
) -> None:
    run = make_run(assistant=assistant_that(project), status=RunStatus.COMPLETED)
    sign_in(tab, live_server, staff)
    first = f"{live_server.url}/admin/conversations/run/{run.pk}/change/"
    tab.goto(first)
    tab.get_by_label("Follow-up question").fill("And what is 2x?")
    tab.get_by_role("button", name="Ask").click()
    expect(tab).not_to_have_url(first)
    expect(tab.get_by_role("status")).to_have_text("Completed")
    assert [run.thread_id, run.thread_id] == list(Run.objects.values_list("thread", flat=True))
    tab.get_by_role("link", name="Whole thread").click()
    tab.wait_for_url("**/conversations/thread/**")
    expect(tab.get_by_text("And what is 2x?")).to_be_visible()
    look(tab, "thread")


def test_a_run_is_stopped_from_its_page(
    tab: Page, live_server: LiveServer, project: Project, staff: User, driver: Driver, gate: Any
) -> None:
    assistant_that(project, gate=True)
    sign_in(tab, live_server, staff)
    tab.get_by_role("button", name="Ask").click()
    # From here on nothing takes the button from under the pointer.
    expect(tab.get_by_role("status")).to_have_text("In progress")
    tab.get_by_role("button", name="Stop").click()
    expect(tab.get_by_text("This run was stopped.")).to_be_visible()


def test_without_a_worker_the_page_says_so_until_one_starts(
    tab: Page,
    live_server: LiveServer,
    project: Project,
    staff: User,
    request: pytest.FixtureRequest,
) -> None:
    assistant_that(project)
    sign_in(tab, live_server, staff)
    tab.get_by_role("button", name="Ask").click()
    expect(tab.get_by_text("No worker is running")).to_be_visible()
    look(tab, "run-no-worker")
    request.getfixturevalue("driver")
    expect(tab.get_by_role("status")).to_have_text("Completed")
    expect(tab.get_by_text("No worker is running")).to_be_hidden()


def test_the_outputs_of_a_function_are_typed_in_and_the_run_goes_on(
    tab: Page, live_server: LiveServer, project: Project, staff: User, driver: Driver
) -> None:
    assistant_that(project, code="", function="get_weather")
    sign_in(tab, live_server, staff)
    tab.get_by_role("button", name="Ask").click()
    box = tab.get_by_label('get_weather({"city": "Bern"})')
    box.fill("sunny")
    look(tab, "run-requires-action")
    tab.get_by_role("button", name="Submit outputs").click()
    expect(tab.get_by_text("The tools say: sunny")).to_be_visible()


def test_held_answers_are_approved_edited_rejected_and_asked_again(
    tab: Page, live_server: LiveServer, project: Project, staff: User, driver: Driver
) -> None:
    careful = assistant_that(project, ReleasePolicy.AFTER_REVIEW)
    sign_in(tab, live_server, staff)
    for _ in range(4):
        tab.goto(f"{live_server.url}/admin/conversations/run/add/")
        tab.get_by_label("Question").fill("What is x?")
        tab.get_by_role("button", name="Ask").click()
        expect(tab.get_by_role("status")).to_have_text("Held for review")
    first, second, third, fourth = Run.objects.filter(assistant=careful).order_by("pk")
    look(tab, "run-held")

    # The driver queues reviews after the answers, and this page does not go on asking.
    wait_for(lambda: Review.objects.count() == 4, seconds=60)
    tab.get_by_role("link", name="Waiting for review").click()
    expect(tab.locator(".queue li")).to_have_count(4)
    look(tab, "waiting")
    tab.locator(".queue a").first.click()
    tab.wait_for_url("**/conversations/review/*/change/")
    look(tab, "review")
    tab.get_by_role("button", name="Approve").click()
    expect(tab.get_by_text("Approved. This one is next.")).to_be_visible()
    first.refresh_from_db()
    assert first.status == RunStatus.COMPLETED

    tab.locator("summary", has_text="Edit").click()
    look(tab, "review-edit")
    tab.get_by_label("The answer as it should be").fill("x is exactly **one**.")
    tab.get_by_role("button", name="Save and approve").click()
    expect(tab.get_by_text("Approved with your changes.")).to_be_visible()
    answer = second.messages.get(role="assistant")
    assert answer.text == "x is exactly **one**."
    assert ANSWER.strip() in answer.revisions.get(number=0).content[-1]["text"]["value"]

    tab.locator("summary", has_text="Reject").click()
    tab.get_by_label("Reason").fill("It does not show the way.")
    tab.get_by_role("button", name="Reject").click()
    expect(tab.get_by_text("Rejected. This one is next.")).to_be_visible()
    third.refresh_from_db()
    assert third.status == RunStatus.FAILED

    tab.locator("summary", has_text="Ask again").click()
    tab.get_by_label("Note").fill("Be brief.")
    tab.get_by_role("button", name="Send back").click()
    expect(tab.get_by_text("Sent back.")).to_be_visible()
    review = Review.objects.get(run=fourth)
    tab.goto(f"{live_server.url}/admin/conversations/run/{fourth.pk}/change/")
    expect(tab.get_by_role("status")).to_have_text("Held for review")
    expect(tab.get_by_text("A reviewer asked again: Be brief.")).to_be_visible()
    tab.get_by_role("button", name="Review").click()
    tab.get_by_role("button", name="Approve").click()
    expect(tab.get_by_text("Nothing else waits for review.")).to_be_visible()
    look(tab, "waiting-empty")
    review.refresh_from_db()
    assert review.status == ReviewStatus.APPROVED
    tab.goto(f"{live_server.url}/admin/conversations/review/{second.review.pk}/change/")
    tab.get_by_text("Earlier texts of this answer").click()
    look(tab, "review-decided")


def test_every_page_of_the_menu_keeps_the_policy_and_fits_a_phone(
    tab: Page, live_server: LiveServer, project: Project, staff: User
) -> None:
    staff.is_superuser = True
    staff.save()
    assistant = assistant_that(project)
    for status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.QUEUED):
        make_run(assistant=assistant, status=status, asked_by=staff)
    sign_in(tab, live_server, staff)
    links = tab.locator("#menu a").evaluate_all("all => all.map(a => a.href)")
    assert len(links) == 12
    for link in links:
        tab.goto(link)
        name = "-".join(link.rstrip("/").split("/")[4:])
        look(tab, f"page-{name}", all_four=False)
        add = tab.locator(".object-tools .addlink")
        if add.count() and "/run/" not in link:
            tab.goto(add.evaluate("link => link.href"))
            look(tab, f"page-{name}-add", all_four=False)
    tab.goto(f"{live_server.url}/admin/assistant_manager/assistant/{assistant.pk}/change/")
    look(tab, "page-assistant-change", all_four=False)
    tab.get_by_role("link", name="History").click()
    tab.wait_for_url("**/history/")
    look(tab, "page-assistant-history", all_four=False)
    tab.goto(f"{live_server.url}/admin/")
    look(tab, "page-index", all_four=False)


def test_pages_outside_the_menu_keep_the_policy_and_fit_a_phone(
    tab: Page, live_server: LiveServer, project: Project, staff: User
) -> None:
    tab.goto(f"{live_server.url}/admin/login/")
    look(tab, "login", all_four=False)
    sign_in(tab, live_server, staff)
    tab.goto(f"{live_server.url}/admin/assistant_manager/apikey/add/")
    tab.get_by_label("Name").fill("robot")
    tab.get_by_label("Project").select_option("algebra")
    tab.get_by_role("button", name="Save", exact=True).click()
    expect(tab.get_by_text("Copy the key now.")).to_be_visible()
    look(tab, "key-issued", all_four=False)


def test_on_a_phone_the_menu_opens_over_the_page(
    tab: Page, live_server: LiveServer, project: Project, staff: User
) -> None:
    assistant_that(project)
    sign_in(tab, live_server, staff)
    tab.set_viewport_size({"width": 390, "height": 800})
    expect(tab.get_by_role("link", name="Threads")).to_be_hidden()
    tab.get_by_role("button", name="Menu").click()
    tab.get_by_role("link", name="Threads").click()
    expect(tab.get_by_role("heading", name="thread")).to_be_visible()
