"""Who may call, and what is said to those who may not."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import openai
import pytest
from django.test import Client
from django.utils import timezone

from assistant_manager.models import ApiKey, Project
from tests.openai_api.http import Door

WRONG = "am-this-key-was-never-issued-yz"


@pytest.mark.parametrize("path", ["/v1/assistants", "/openai/assistants", "/openai/v1/assistants"])
def test_either_header_opens_either_flavour(door: Door, token: str, path: str) -> None:
    for headers in (
        {"api-key": token},
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"bearer {token}"},
        {"api-key": token, "Authorization": "Bearer eyJ.an.entra-token"},
        {"api-key": "", "Authorization": f"Bearer {token}"},
    ):
        assert door("GET", path, headers=headers, token="").status == 200


def test_no_key_is_told_how_to_send_one(door: Door) -> None:
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
        answer = door("GET", "/v1/assistants", headers=headers, token="")
        assert answer.status == 401
        assert answer.error["message"].startswith("You didn't provide an API key.")
        assert answer.error["code"] is None


def test_a_wrong_key_is_named_but_not_repeated(door: Door) -> None:
    answer = door("GET", "/v1/assistants", token=WRONG)
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert answer.error["message"].startswith("Incorrect API key provided: am-th***yz.")
    assert WRONG not in answer.content.decode()
    short = door("GET", "/v1/assistants", token="hunter2hunter2")
    assert "hunter2" not in short.content.decode()


def test_azure_refuses_in_its_own_words(door: Door) -> None:
    missing = door("GET", "/openai/assistants", token="")
    assert missing.status == 401
    assert missing.body["statusCode"] == 401
    assert missing.body["message"].startswith("Unauthorized. Access token is missing")
    wrong = door("GET", "/openai/assistants", headers={"api-key": WRONG})
    assert wrong.status == 401
    assert wrong.body["error"]["code"] == "401"
    assert wrong.body["error"]["message"].startswith("Access denied due to invalid subscription")
    assert door("GET", "/openai/assistants", token=WRONG).body == missing.body


def test_azure_keeps_its_words_where_an_old_client_adds_a_slash(db: None) -> None:
    plain, doubled = (
        Client().get("/", headers={"api-key": WRONG}, PATH_INFO=path)
        for path in ("/openai/assistants", "//openai/assistants")
    )
    assert doubled.status_code == 401
    assert doubled.json() == plain.json()


def test_the_sdk_raises_its_authentication_error(live_server: Any, db: None) -> None:
    with (
        openai.OpenAI(base_url=f"{live_server.url}/v1", api_key=WRONG, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.beta.assistants.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.request_id.startswith("req_")


def test_a_key_works_until_it_expires_or_is_revoked(door: Door, project: Project) -> None:
    key, token = ApiKey.objects.issue(project=project, name="k", expires_in=timedelta(hours=1))
    assert door("GET", "/v1/assistants", token=token).status == 200
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())
    assert door("GET", "/v1/assistants", token=token).status == 401
    ApiKey.objects.filter(pk=key.pk).update(expires_at=None)
    assert door("GET", "/v1/assistants", token=token).status == 200
    ApiKey.objects.filter(pk=key.pk).revoke()
    assert door("GET", "/v1/assistants", token=token).status == 401


def test_the_last_use_of_a_key_is_noted(door: Door, project: Project) -> None:
    door("GET", "/v1/assistants")
    used = ApiKey.objects.get(project=project).last_used_at
    assert used is not None
    door("GET", "/v1/assistants")
    assert ApiKey.objects.get(project=project).last_used_at == used


def test_no_log_line_holds_a_key(door: Door, token: str, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    door("GET", "/v1/assistants")
    door("GET", "/v1/assistants", token=WRONG)
    door("POST", "/v1/assistants", b"{")
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert token not in said
    assert WRONG not in said


@pytest.mark.parametrize(
    "version",
    ["2024-05-01-preview", "2024-05-01", "2025-01-01-preview", "2026-08-26", ""],
)
def test_azure_versions_of_this_protocol_are_spoken(door: Door, version: str) -> None:
    assert door("GET", f"/openai/assistants?api-version={version}").status == 200


@pytest.mark.parametrize(
    "version", ["2024-02-15-preview", "2023-12-01", "latest", "2024-13-01", "2024-05-01-beta"]
)
def test_other_azure_versions_are_no_resource(door: Door, version: str) -> None:
    answer = door("GET", f"/openai/assistants?api-version={version}")
    assert answer.status == 404
    assert answer.body == {"error": {"code": "404", "message": "Resource not found"}}
    assert door("GET", f"/openai/v1/assistants?api-version={version}").status == 200
    assert door("GET", f"/v1/assistants?api-version={version}").status == 200


def test_without_a_default_version_azure_wants_one_named(door: Door, settings: Any) -> None:
    assert door("GET", "/openai/assistants").status == 200
    settings.AZURE_DEFAULT_API_VERSION = ""
    assert door("GET", "/openai/assistants").body == {
        "error": {"code": "404", "message": "Resource not found"}
    }
    assert door("GET", "/openai/v1/assistants").status == 200
