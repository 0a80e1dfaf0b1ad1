"""The chat engine and a real model: llama.cpp with SmolLM2, which is small and knows little."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from assistant_manager.engines.base import ConnectionInfo, Key, Turn
from assistant_manager.engines.chat import ChatEngine
from assistant_manager.engines.chat.options import ChatOptions
from tests.engines.chat import persist
from tests.engines.conftest import CONNECTION_IDS, Await
from tests.engines.turns import answer_of, make_turn
from tests.peers.llama import MODEL, running_llama

# The model answers as fast as the processor lets it.
pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

ATTEMPTS = itertools.count(1)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_llama(tmp_path_factory.mktemp("llama") / "log") as url:
        yield url


@pytest.fixture
def ask(url: str) -> Callable[..., Turn]:
    connection = ConnectionInfo(
        kind="chat",
        id=next(CONNECTION_IDS),
        name="llama.cpp",
        base_url=url,
        keys=[Key(1, "none-needed")],
        options=ChatOptions(token_limit="max_tokens"),
    )
    defaults = {
        "connection": connection,
        "model": MODEL,
        "tools": [],
        "temperature": 0.0,
        "max_completion_tokens": 48,
    }
    return lambda question, **changes: make_turn(
        question, **{**defaults, "attempt_key": f"llama-{next(ATTEMPTS)}", **changes}
    )


def test_a_real_model_answers(chat: ChatEngine, ask: Any, wait_for: Await) -> None:
    turn = ask("What is the capital of France? Answer in one short sentence.")
    ended = wait_for(persist(chat, turn))
    assert ended.outcome in ("completed", "incomplete")
    assert "Paris" in answer_of(ended)
    assert ended.usage.prompt_tokens > 10
    assert 0 < ended.usage.completion_tokens <= 48


def test_an_answer_ends_at_its_limit(chat: ChatEngine, ask: Any, wait_for: Await) -> None:
    ended = wait_for(persist(chat, ask("Tell me a long story.", max_completion_tokens=8)))
    assert (ended.outcome, ended.incomplete_reason) == ("incomplete", "max_completion_tokens")
    assert ended.usage.completion_tokens == 8


def test_an_answer_has_the_wanted_shape(chat: ChatEngine, ask: Any, wait_for: Await) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    ended = wait_for(persist(chat, ask("What colour is the sky?", response_format=wanted)))
    assert json.loads(answer_of(ended))["colour"] in ("red", "green", "blue")


def test_the_connection_is_tried(chat: ChatEngine, ask: Any, wait_for: Await) -> None:
    seen = wait_for(chat.inspect(ask("").connection, MODEL))
    assert seen.answer
    assert seen.models == [MODEL]
    assert seen.supports["streaming"]
    assert seen.supports["pictures"] is False
