"""Clients as programs use them: the official SDK, strict, and bare HTTP, on a live server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AzureOpenAI, OpenAI

from assistant_manager.models import ApiKey, Project
from tests import factories
from tests.openai_api.http import PATIENCE, Door, in_process, on_socket

VENDOR_SAYS_DEPRECATED = pytest.mark.filterwarnings(
    "ignore:(deprecated$|The Assistants API is deprecated):DeprecationWarning"
)
"""The SDK says so of every call of the API that we go on serving."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(VENDOR_SAYS_DEPRECATED)


OPTIONS: dict[str, Any] = {
    "max_retries": 0,
    "timeout": PATIENCE,
    "_strict_response_validation": True,
}


@pytest.fixture
def openai(live_server: Any, token: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live_server.url}/v1", api_key=token, **OPTIONS) as client:
        yield client


@pytest.fixture
def azure(live_server: Any, token: str) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(
        azure_endpoint=live_server.url, api_key=token, api_version="2024-05-01-preview", **OPTIONS
    ) as client:
        yield client


@pytest.fixture(params=["openai", "azure"])
def sdk(request: pytest.FixtureRequest) -> Any:
    """The official client, once in each flavour. Every answer is checked against its types."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def door(token: str) -> Door:
    """The whole server but for the socket, for what an SDK would not send."""
    return Door(token, in_process)


@pytest.fixture
def live_door(live_server: Any, token: str) -> Door:
    """Bare HTTP on a socket, for what the test client would put right on its way."""
    return Door(token, on_socket(live_server.url))


@pytest.fixture
def foreign_token(project: Project) -> str:
    return ApiKey.objects.issue(project=factories.make_project(), name="another team")[1]
