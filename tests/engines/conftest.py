"""One event loop and one embedded engine for the whole room: kernels are slow to start."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from assistant_manager.engines import clients, web
from assistant_manager.engines.assistants import AssistantsEngine
from assistant_manager.engines.assistants.options import AssistantsOptions
from assistant_manager.engines.base import ConnectionInfo, Key
from assistant_manager.engines.chat import ChatEngine
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.embedded import EmbeddedEngine
from assistant_manager.engines.options import ConnectionOptions
from assistant_manager.engines.responses import ResponsesEngine
from assistant_manager.engines.responses.options import ResponsesOptions
from assistant_manager.sandbox import Sandbox
from tests.engines.turns import PATIENCE
from tests.fakes.upstream.running import Upstream

T = TypeVar("T")
Await = Callable[[Awaitable[T]], T]

CONNECTION_IDS = itertools.count(1)
"""Each connection has a gate of its own, which remembers what it has met."""


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A server that this machine is slow to reach is there all the same."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (clients, web):
            patch.setattr(module, "CONNECT_SECONDS", PATIENCE)
        yield


@pytest.fixture(scope="session")
def wait_for() -> Iterator[Await]:
    """Runs an awaitable to its end, always on the same loop."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


@pytest.fixture(scope="session")
def sandbox(wait_for: Await, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(work_dir=tmp_path_factory.mktemp("sandbox"), max_kernels=2)
    yield sandbox
    wait_for(sandbox.close())


@pytest.fixture(scope="session")
def embedded(sandbox: Sandbox) -> EmbeddedEngine:
    return EmbeddedEngine(sandbox)


def connected(kind: str, upstream: Upstream, options: ConnectionOptions) -> ConnectionInfo:
    """A connection of its own for one test, so that gates and clients remember nothing."""
    return ConnectionInfo(
        kind=kind,
        id=next(CONNECTION_IDS),
        name=f"{kind.capitalize()} fake",
        base_url=f"{upstream.url}/v1",
        keys=[Key(1, f"sk-{kind}-0001")],
        options=options,
    )


@pytest.fixture
def embedded_connection() -> ConnectionInfo:
    return ConnectionInfo(kind="embedded")


@pytest.fixture
def assistants(wait_for: Await) -> Iterator[AssistantsEngine]:
    engine = AssistantsEngine()
    yield engine
    wait_for(engine.close())


@pytest.fixture
def assistants_connection(upstream: Upstream) -> ConnectionInfo:
    return connected("assistants", upstream, AssistantsOptions(poll_seconds=0.02))


@pytest.fixture
def chat(wait_for: Await, sandbox: Sandbox) -> Iterator[ChatEngine]:
    engine = ChatEngine(sandbox)
    yield engine
    wait_for(engine.close())


@pytest.fixture
def chat_connection(upstream: Upstream) -> ConnectionInfo:
    return connected("chat", upstream, ChatOptions())


@pytest.fixture
def responses(wait_for: Await) -> Iterator[ResponsesEngine]:
    engine = ResponsesEngine()
    yield engine
    wait_for(engine.close())


@pytest.fixture
def responses_connection(upstream: Upstream) -> ConnectionInfo:
    options = ResponsesOptions(listen=False, poll_seconds=0.02, image_file_ids=True)
    return connected("responses", upstream, options)


@pytest.fixture
def listening(responses: ResponsesEngine) -> ResponsesEngine:
    """The same engine, which is told by its connection to listen."""
    return responses


@pytest.fixture
def listening_connection(upstream: Upstream) -> ConnectionInfo:
    return connected("responses", upstream, ResponsesOptions(listen=True, poll_seconds=0.02))
