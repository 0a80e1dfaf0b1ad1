"""The vendors' own environment variables make the first connection of a fresh database."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_django import Settings

from assistant_manager.demo import ensure_demo
from assistant_manager.models import Connection, Model
from assistant_manager.services import ensure_defaults

pytestmark = pytest.mark.django_db

AZURE = {
    "AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com",
    "AZURE_OPENAI_API_KEY": "azure-secret",
}
OPENAI = {"OPENAI_API_KEY": "sk-secret"}


@pytest.fixture
def environment(settings: Settings) -> Callable[[dict[str, str]], None]:
    """Set these variables."""

    def set_to(variables: dict[str, str]) -> None:
        settings.READ_ENVIRONMENT = variables.get
        for name in ("AZURE_OPENAI_ENDPOINT", "OPENAI_BASE_URL"):
            setattr(settings, name, variables.get(name, ""))

    return set_to


def default() -> Connection:
    return Model.objects.get(name="*").connection


@pytest.mark.parametrize(
    ("variables", "kind", "base_url", "key"),
    [
        (AZURE, "responses", "https://res.openai.azure.com/openai/v1/", "env:AZURE_OPENAI_API_KEY"),
        (
            AZURE | {"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/openai/v1/"},
            *("responses", "https://res.openai.azure.com/openai/v1/", "env:AZURE_OPENAI_API_KEY"),
        ),
        (OPENAI, "responses", "", "env:OPENAI_API_KEY"),
        (
            OPENAI | {"OPENAI_BASE_URL": "https://api.openai.com/v1"},
            *("responses", "https://api.openai.com/v1", "env:OPENAI_API_KEY"),
        ),
        (
            OPENAI | {"OPENAI_BASE_URL": "http://localhost:11434/v1"},
            *("chat", "http://localhost:11434/v1", "env:OPENAI_API_KEY"),
        ),
        (
            OPENAI | {"OPENAI_BASE_URL": "https://res.openai.azure.com/openai/v1/"},
            *("responses", "https://res.openai.azure.com/openai/v1/", "env:OPENAI_API_KEY"),
        ),
        (
            AZURE | OPENAI,
            *("responses", "https://res.openai.azure.com/openai/v1/", "env:AZURE_OPENAI_API_KEY"),
        ),
    ],
)
def test_every_name_leads_to_the_vendor_whose_key_is_there(
    environment: Callable[[dict[str, str]], None],
    variables: dict[str, str],
    kind: str,
    base_url: str,
    key: str,
) -> None:
    environment(variables)
    ensure_defaults()
    made = default()
    assert (made.kind, made.base_url, made.key_1.stored) == (kind, base_url, key)
    made.full_clean()
    made.info()
    ensure_defaults()
    assert Connection.objects.count() == 2


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com"},
        {"AZURE_OPENAI_API_KEY": "x"},
        {"OPENAI_BASE_URL": "http://localhost:11434/v1"},
        {"OPENAI_API_KEY": ""},
    ],
)
def test_half_a_connection_is_none(
    environment: Callable[[dict[str, str]], None], variables: dict[str, str]
) -> None:
    environment(variables)
    ensure_defaults()
    assert default().kind == "embedded"
    assert Connection.objects.count() == 1


def test_what_somebody_has_set_up_is_left_alone(
    environment: Callable[[dict[str, str]], None],
) -> None:
    environment(OPENAI)
    Model.objects.create(name="mine", connection=default())
    ensure_defaults()
    assert default().kind == "embedded"


def test_a_database_with_assistants_is_not_fresh(
    environment: Callable[[dict[str, str]], None],
) -> None:
    ensure_demo()
    environment(OPENAI)
    ensure_defaults()
    assert default().kind == "embedded"


def test_the_demo_works_offline_all_the_same(
    environment: Callable[[dict[str, str]], None],
) -> None:
    environment(OPENAI)
    demo = ensure_demo()
    assert demo.assistant is not None
    model = Model.objects.resolve(demo.assistant.model)
    assert model is not None
    assert model.connection.kind == "embedded"
