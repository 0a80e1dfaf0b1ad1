"""Waiting for review, and deciding."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from assistant_manager.models import Project, ReleasePolicy
from conversations.models import Message, Review, ReviewStatus, Run, RunAttempt, RunStatus
from conversations.services import reviews
from tests.admin.conftest import signed_in
from tests.factories import make_assistant, make_run, make_staff

WAITING = "/admin/conversations/review/waiting/"


def held(project: Project, text: str = "x = 1") -> Review:
    assistant = make_assistant(project=project, release_policy=ReleasePolicy.AFTER_REVIEW)
    run = make_run(assistant=assistant, status=RunStatus.HELD, outcome="completed", attempt=1)
    return answered(run, text)


def sampled(project: Project, text: str = "x = 1") -> Review:
    run = make_run(assistant=make_assistant(project=project), status="completed", attempt=1)
    return answered(run, text)


def answered(run: Run, text: str) -> Review:
    RunAttempt.objects.create(run=run, number=1)
    Message.objects.create(
        thread=run.thread,
        run=run,
        attempt=1,
        item="a",
        role="assistant",
        content=[{"type": "text", "text": {"value": text, "annotations": []}}],
    )
    return Review.objects.create(run=run)


def page(review: Review) -> str:
    return f"/admin/conversations/review/{review.pk}/change/"


def decide(client: Client, review: Review, verdict: str, **typed: str) -> str:
    url = f"/admin/conversations/review/{review.pk}/decide/{verdict}/"
    html = client.post(url, typed, follow=True).content.decode()
    review.refresh_from_db()
    review.run.refresh_from_db()
    return html


def answer(review: Review) -> Message:
    return review.run.messages.get(role="assistant")


def test_the_longest_wait_comes_first(as_staff: Client, project: Project) -> None:
    first, second = held(project), sampled(project)
    assert list(as_staff.get(WAITING).context["page"]) == [first, second]


def test_the_list_is_paged(as_staff: Client, project: Project) -> None:
    run = sampled(project).run
    for _ in range(26):
        Review.objects.create(run=make_run(assistant=run.assistant, status="completed"))
    assert len(as_staff.get(WAITING).context["page"]) == 25
    assert len(as_staff.get(f"{WAITING}?p=2").context["page"]) == 2
    assert as_staff.get(f"{WAITING}?p=nonsense").status_code == 200


def test_an_empty_list_says_what_would_come_here(as_staff: Client) -> None:
    assert "Nothing waits for review." in as_staff.get(WAITING).content.decode()


def test_approving_releases_a_held_answer(as_staff: Client, project: Project, staff: User) -> None:
    review = held(project)
    html = decide(as_staff, review, "approve")
    assert "Approved. Nothing else waits for review." in html
    assert (review.status, review.reviewer) == (ReviewStatus.APPROVED, staff)
    assert review.run.status == RunStatus.COMPLETED
    assert answer(review).released_at is not None


def test_after_a_decision_the_next_one_opens(as_staff: Client, project: Project) -> None:
    review, following = held(project), held(project, "the following answer")
    html = decide(as_staff, review, "approve")
    assert "Approved. This one is next." in html
    assert "the following answer" in html
    assert following.status == ReviewStatus.WAITING


def test_an_edit_releases_the_new_text_and_keeps_the_original(
    as_staff: Client, project: Project
) -> None:
    review = held(project, "x = 2")
    decide(as_staff, review, "edit", text="x = 1")
    assert review.status == ReviewStatus.EDITED
    assert answer(review).text == "x = 1"
    html = as_staff.get(page(review)).content.decode()
    assert "As the assistant wrote it" in html
    assert '<pre class="output" tabindex="0">x = 2</pre>' in html


def test_rejecting_a_held_answer_fails_the_run_with_the_reason(
    as_staff: Client, project: Project
) -> None:
    review = held(project)
    decide(as_staff, review, "reject", reason="Not shown how.")
    assert review.run.status == RunStatus.FAILED
    assert "Not shown how." in review.run.last_error["message"]
    assert "Not shown how." in as_staff.get(page(review)).content.decode()


def test_asking_again_sends_the_note_to_the_engine(as_staff: Client, project: Project) -> None:
    review = held(project)
    decide(as_staff, review, "ask_again", note="Be brief.")
    assert review.status == ReviewStatus.ASKED_AGAIN
    assert review.run.status == RunStatus.IN_PROGRESS
    assert review.run.attempts.get(number=2).note == "Be brief."
    html = as_staff.get(page(review)).content.decode()
    assert "A reviewer asked again:</strong> Be brief." in html
    assert "Its new answer will wait here." in html


def test_a_new_answer_can_be_judged_as_soon_as_its_run_shows_it(
    as_staff: Client, project: Project
) -> None:
    review = held(project)
    decide(as_staff, review, "ask_again", note="Be brief.")
    assert review.run.move(RunStatus.HELD, outcome="completed")
    response = as_staff.post(f"/admin/conversations/run/{review.run_id}/review/")
    assert response["Location"] == page(review)
    decide(as_staff, review, "approve")
    assert review.status == ReviewStatus.APPROVED
    assert review.run.status == RunStatus.COMPLETED


def test_a_released_answer_cannot_be_asked_again(as_staff: Client, project: Project) -> None:
    review = sampled(project)
    assert "Ask again" not in as_staff.get(page(review)).content.decode()
    html = decide(as_staff, review, "ask_again", note="Be brief.")
    assert "nothing was changed" in html
    assert review.status == ReviewStatus.WAITING


@pytest.mark.parametrize(
    ("verdict", "typed", "said"),
    [
        ("reject", {"reason": " "}, "Say why"),
        ("edit", {"text": "  "}, "An answer cannot be empty."),
        ("ask_again", {"note": ""}, "Say what should be different"),
    ],
)
def test_a_decision_without_its_words_is_sent_back(
    as_staff: Client, project: Project, verdict: str, typed: dict[str, str], said: str
) -> None:
    review = held(project)
    html = decide(as_staff, review, verdict, **typed)
    assert said in html
    assert html.count('<details name="verdict" open>') == 1
    assert review.status == ReviewStatus.WAITING
    assert answer(review).text == "x = 1"


def test_the_second_of_two_reviewers_changes_nothing(
    as_staff: Client, project: Project, staff: User
) -> None:
    review = held(project)
    reviews.approve(review=review, by=make_staff(project))
    html = decide(as_staff, review, "reject", reason="Too late")
    assert "has been decided already; nothing was changed" in html
    assert review.status == ReviewStatus.APPROVED
    assert review.reviewer != staff


def test_a_decided_review_shows_its_story_and_no_buttons(
    as_staff: Client, project: Project, staff: User
) -> None:
    review = held(project)
    reviews.approve(review=review, by=staff)
    html = as_staff.get(page(review)).content.decode()
    assert "<strong>Approved</strong> by Mira" in html
    assert "/decide/" not in html


def test_an_unknown_verdict_changes_nothing(as_staff: Client, project: Project) -> None:
    review = held(project)
    decide(as_staff, review, "maybe")
    assert review.status == ReviewStatus.WAITING


def test_who_may_only_read_reviews_cannot_decide(project: Project) -> None:
    user = make_staff(project)
    user.user_permissions.set(Permission.objects.filter(codename="view_review"))
    client, review = signed_in(user), held(project)
    html = client.get(page(review)).content.decode()
    assert "You may read this review but not decide it." in html
    for verdict in ("approve", "edit", "reject", "ask_again"):
        decide(client, review, verdict, reason="r", text="t", note="n")
    assert review.status == ReviewStatus.WAITING


def test_a_decision_is_a_press_of_a_button(as_staff: Client, project: Project) -> None:
    review = held(project)
    url = f"/admin/conversations/review/{review.pk}/decide/approve/"
    assert as_staff.get(url).status_code == 403
    review.refresh_from_db()
    assert review.status == ReviewStatus.WAITING


def test_hostile_text_cannot_act_while_it_is_reviewed_or_edited(
    as_staff: Client, project: Project
) -> None:
    bad = "</textarea></pre><script>alert(1)</script>"
    review = held(project, bad)
    assert bad not in as_staff.get(page(review)).content.decode()
    decide(as_staff, review, "edit", text=bad + "!")
    assert bad not in as_staff.get(page(review)).content.decode()
