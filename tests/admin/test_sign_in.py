"""The one-time link, and the door for everybody else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from assistant_manager.models import SignInLink
from assistant_manager.models.sign_in import LIFETIME


@pytest.fixture
def link(staff: User) -> str:
    return f"/start/{SignInLink.objects.issue(staff)}"


def test_a_link_signs_in_and_leads_to_the_ask_page(client: Client, link: str) -> None:
    response = client.get(link)
    assert response["Location"] == "/admin/conversations/run/add/"
    assert client.get(response["Location"]).status_code == 200


def test_the_address_of_a_link_is_told_to_nobody(client: Client, link: str) -> None:
    for response in (client.get(link), client.get("/start/wrong")):
        assert response["Referrer-Policy"] == "no-referrer"
        assert "no-store" in response["Cache-Control"]


def test_a_link_works_once(client: Client, link: str) -> None:
    client.get(link)
    response = Client().get(link)
    assert response.status_code == 410
    assert "Each link works once" in response.content.decode()
    assert not response.wsgi_request.user.is_authenticated


def test_a_link_works_for_fifteen_minutes(client: Client, link: str) -> None:
    assert timedelta(minutes=15) == LIFETIME
    SignInLink.objects.update(expires_at=timezone.now())
    assert client.get(link).status_code == 410


def test_spent_and_unknown_links_answer_alike(client: Client, link: str) -> None:
    client.get(link)
    assert Client().get(link).content == Client().get("/start/never-issued").content


def test_a_link_of_a_closed_account_does_not_work(client: Client, link: str, staff: User) -> None:
    User.objects.filter(pk=staff.pk).update(is_active=False)
    assert client.get(link).status_code == 410


@pytest.mark.parametrize("header", ["Sec-Purpose", "Purpose"])
def test_loading_ahead_of_a_click_does_not_spend_a_link(
    client: Client, link: str, header: str
) -> None:
    assert client.get(link, headers={header: "prefetch;prerender"}).status_code == 503
    assert client.head(link).status_code == 405
    assert client.get(link).status_code == 302


def test_the_root_leads_to_the_ask_page(as_staff: Client) -> None:
    assert as_staff.get("/")["Location"] == "/admin/conversations/run/add/"
    assert as_staff.get("/admin")["Location"] == "/admin/"


def test_strangers_are_asked_to_sign_in(client: Client, db: None) -> None:
    response = client.get("/admin/conversations/run/add/")
    assert response["Location"] == "/admin/login/?next=/admin/conversations/run/add/"
    assert client.get(response["Location"]).status_code == 200
