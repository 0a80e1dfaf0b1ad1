from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.site import Site, fresh_environment


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running quickstart that tests share; they must leave it as they found it."""
    with fresh_environment(tmp_path_factory.mktemp("shared") / "var") as environment:
        running = Site(environment, "--port", "8100")
        yield running
        running.close()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with fresh_environment(tmp_path / "var") as values:
        yield values


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., Site]]:
    """Start quickstarts of one's own, all in one data folder; whatever happens, they end."""
    with ExitStack() as stack:

        def start_one(*arguments: str) -> Site:
            running = Site(environment, *(arguments or ("--port", "8200")))
            stack.callback(running.close)
            return running

        yield start_one
