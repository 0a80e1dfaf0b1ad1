"""The chat engine and CopilotKit's aimock: an upstream that nobody here has written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.base import ConnectionInfo, Key, ToolCallsItem, Turn
from assistant_manager.engines.chat import ChatEngine
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.exceptions import Unavailable
from tests.engines.chat import persist
from tests.engines.conftest import CONNECTION_IDS, Await
from tests.engines.turns import CODE, WEATHER, answer_of, finish, make_turn
from tests.peers.aimock import Aimock, running_aimock

pytestmark = [pytest.mark.peer, pytest.mark.node]

ATTEMPTS = itertools.count(1)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aimock]:
    with running_aimock(tmp_path_factory.mktemp("aimock") / "log") as aimock:
        yield aimock


@pytest.fixture
def aimock(process: Aimock) -> Iterator[Aimock]:
    yield process
    process.behave()


@pytest.fixture
def ask(aimock: Aimock) -> Callable[..., Turn]:
    connection = ConnectionInfo(
        kind="chat",
        id=next(CONNECTION_IDS),
        name="Aimock",
        base_url=f"{aimock.url}/v1",
        keys=[Key(1, "sk-aimock-0001")],
        options=ChatOptions(),
    )
    return lambda question, **changes: make_turn(
        question, **{"connection": connection, "attempt_key": f"aimock-{next(ATTEMPTS)}", **changes}
    )


def test_an_answer_streams_in(chat: ChatEngine, ask: Any, wait_for: Await) -> None:
    ended = wait_for(finish(chat, ask("hello", tools=[])))
    assert ended.outcome == "completed"
    assert answer_of(ended) == "Hello from a server that nobody here has written. Привет 🙏"
    assert ended.usage.completion_tokens > 0


def test_its_code_runs_here(chat: ChatEngine, ask: Any, aimock: Aimock, wait_for: Await) -> None:
    ended = wait_for(finish(chat, ask("code")))
    assert ended.items[0].calls[0].logs == "42"
    assert answer_of(ended) == "Your code printed it."
    told = aimock.journal()[-1]["body"]["messages"]
    assert (told[-1]["role"], told[-1]["content"]) == ("tool", "42")


def test_a_function_is_called_and_its_output_comes_back(
    chat: ChatEngine, ask: Any, wait_for: Await
) -> None:
    turn = ask("weather", tools=[WEATHER, CODE])
    asking = wait_for(finish(chat, turn))
    assert asking.outcome == "requires_action"
    (step,) = asking.items
    assert isinstance(step, ToolCallsItem)
    answered = replace(step, calls=[replace(step.calls[0], output="dry")], done=True)
    after = replace(turn, attempt=2, attempt_key=f"{turn.attempt_key}-next", past=[answered])
    assert answer_of(wait_for(finish(chat, after))) == "Dry in Bern."


@pytest.mark.parametrize("rate", ["rateLimitRate", "dropRate", "disconnectRate", "malformedRate"])
def test_a_bad_hour_is_waited_out(
    chat: ChatEngine, ask: Any, aimock: Aimock, wait_for: Await, rate: str
) -> None:
    turn = ask("hello", tools=[])
    aimock.misbehave(**{rate: 1})
    with pytest.raises(Unavailable):
        wait_for(finish(chat, turn))
    aimock.behave()
    assert answer_of(wait_for(persist(chat, turn))).startswith("Hello")


def test_the_connection_is_tried(chat: ChatEngine, ask: Any, wait_for: Await) -> None:
    seen = wait_for(chat.inspect(ask("").connection, "gpt-4"))
    assert seen.answer.startswith("Hello")
    assert "gpt-4" in seen.models
    assert seen.supports["streaming"]
