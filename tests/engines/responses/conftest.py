"""Turns to the fake upstream, which refuses and remembers every body that breaks the schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.base import ConnectionInfo, Progress, Turn, TurnFile, TurnMessage
from assistant_manager.engines.responses import ResponsesEngine
from assistant_manager.engines.responses.options import ResponsesOptions
from tests.engines.conftest import Await
from tests.engines.turns import finish, make_turn, say
from tests.fakes.upstream.running import Upstream

Ask = Callable[..., Turn]
Play = Callable[..., Progress]


@pytest.fixture(autouse=True)
def every_body_is_valid(upstream: Upstream) -> Iterator[None]:
    yield
    assert upstream.violations() == []


@pytest.fixture
def ask(responses_connection: ConnectionInfo) -> Ask:
    """A turn; `script` is for the fake, `options` change those of the connection."""

    def make(
        *questions: str | TurnMessage,
        script: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Turn:
        if script is not None:
            changes["instructions"] = json.dumps(script)
        if options:
            kept = responses_connection.options.model_dump()
            changed = ResponsesOptions(**{**kept, **options})
            changes["connection"] = replace(responses_connection, options=changed)
        return make_turn(*questions, **{"connection": responses_connection, **changes})

    return make


@pytest.fixture
def play(responses: ResponsesEngine, ask: Ask, wait_for: Await) -> Play:
    return lambda *questions, **changes: wait_for(finish(responses, ask(*questions, **changes)))


@pytest.fixture
def bodies(upstream: Upstream) -> Callable[[], list[dict[str, Any]]]:
    """What was asked so far, refused or not."""
    return lambda: [entry["body"] for entry in upstream.journal("POST", "/responses")]


def file_of(name: str, content: bytes = b"a,b\n1,2\n", **changes: Any) -> TurnFile:
    return TurnFile(f"file-{name}", name, len(content), lambda: content, **changes)


def attached(text: str, *files: TurnFile, tool: str) -> TurnMessage:
    return replace(
        say(text),
        attachments=[{"file_id": file.id, "tools": [{"type": tool}]} for file in files],
    )


def shown(text: str, *files: TurnFile) -> TurnMessage:
    images = [
        {"type": "image_file", "image_file": {"file_id": file.id, "detail": "low"}}
        for file in files
    ]
    return TurnMessage("user", [*say(text).content, *images])


def by_id(*files: TurnFile) -> dict[str, TurnFile]:
    return {file.id: file for file in files}
