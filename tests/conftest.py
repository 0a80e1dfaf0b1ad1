"""Fixtures that more than one room of tests needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from assistant_manager.engines.base import Inspection
from assistant_manager.models import ApiKey, Assistant, Connection, Model, Project
from config.celery import app
from conversations.driver import Driver
from conversations.models import Thread
from tests import factories
from tests.fakes import engine
from tests.fakes.upstream.running import Upstream, running_upstream


@pytest.fixture
def project(db: None) -> Project:
    return factories.make_project()


@pytest.fixture
def token(project: Project) -> str:
    """An API key of `project`, as a program would hold it."""
    return ApiKey.objects.issue(project=project, name="tests")[1]


@pytest.fixture
def assistant(project: Project) -> Assistant:
    return factories.make_assistant(project=project)


@pytest.fixture
def thread(project: Project) -> Thread:
    return factories.make_thread(project=project)


@pytest.fixture
def scripted(settings: Settings, db: None) -> None:
    """Every model leads to the ScriptedEngine."""
    settings.ENGINES = {**settings.ENGINES, engine.KIND: engine.PATH}
    connection = Connection.objects.create(name="Scripted", kind=engine.KIND)
    Model.objects.update(connection=connection)
    engine.ScriptedEngine.starts.clear()
    engine.ScriptedEngine.cancelled.clear()
    engine.ScriptedEngine.gate.clear()
    engine.ScriptedEngine.known.clear()
    engine.ScriptedEngine.discarded.clear()
    engine.ScriptedEngine.hello = Inspection("Hello.")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's small jobs are done at once, by whoever asks for them."""
    monkeypatch.setitem(app.conf, "task_always_eager", True)


@pytest.fixture
def driver(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A driver in this process, stopped before the tables are emptied."""
    # What it gave up on a slow machine would be among the rows or the warnings of the next test.
    monkeypatch.setattr("conversations.driver.STOP_WITHIN", 60)
    monkeypatch.setattr("conversations.desk.CLOSE_WITHIN", 60)
    driver = Driver()
    driver.start()
    yield driver
    driver.stop()


@pytest.fixture(scope="session")
def upstream_process() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(upstream_process: Upstream) -> Upstream:
    """A fake of the vendors' servers that remembers nothing of the test before."""
    upstream_process.reset()
    return upstream_process
