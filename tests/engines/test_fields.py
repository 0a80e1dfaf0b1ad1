"""docs/engines.md is true: each cell of its table of fields, and its table of options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from assistant_manager.engines import engine_class
from assistant_manager.engines.options import ConnectionOptions
from assistant_manager.models import Connection
from assistant_manager.secrets import Secret
from tests.engines.conftest import Await
from tests.engines.fields import assistants, chat, embedded, responses
from tests.engines.fields.asked import ROWS
from tests.engines.fields.seen import Table
from tests.engines.fields.signs import Sign
from tests.fakes.upstream.running import Upstream
from tests.openai_api.http import Door, Send, through

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
SIGNS: dict[str, dict[str, list[Sign]]] = {
    "embedded": embedded.SIGNS,
    "responses": responses.SIGNS,
    "chat": chat.SIGNS,
    "assistants": assistants.SIGNS,
}


def table(heading: str) -> list[list[str]]:
    """The rows of the table under this heading, its head first."""
    section = PAGE.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]


def test_the_table_has_a_row_for_each_field_and_a_column_for_each_engine() -> None:
    head, *rows = table("Fields")
    assert head == ["field", *SIGNS]
    assert [row[0] for row in rows] == list(ROWS)
    for signs in SIGNS.values():
        assert list(signs) == list(ROWS)


@pytest.fixture(scope="session")
def send() -> Send:
    return through(Client())


@pytest.mark.django_db
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("engine", SIGNS)
def test_a_cell_says_what_is_seen(
    engine: str,
    row: str,
    request: pytest.FixtureRequest,
    upstream: Upstream,
    token: str,
    send: Send,
    wait_for: Await,
) -> None:
    asking = Table(request.getfixturevalue(engine), upstream, Door(token, send), wait_for)
    seen = asking.ask(ROWS[row])
    verdicts = [cell for cell, holds in SIGNS[engine][row] if holds(seen)]
    head, *rows = table("Fields")
    (cell,) = (cells[head.index(engine)] for cells in rows if cells[0] == row)
    shown = [seen.run["status"], seen.run["last_error"], seen.answer, seen.calls]
    sent = [[entry["path"], entry["body"]] for entry in seen.journal]
    assert upstream.violations() == []
    assert [cell] == verdicts, json.dumps([shown, sent], indent=1)


@pytest.mark.django_db
def test_each_connection_that_the_page_proposes_can_be_saved() -> None:
    for upstream, kinds, url, version, _ in table("Which kind for which upstream")[1:]:
        for kind in kinds.split(" or "):
            written = {"base_url": url.strip("`"), "api_version": version.strip("`")}
            given = {name: value for name, value in written.items() if value != "–"}
            Connection(name=upstream, kind=kind, key_1=Secret("any text"), **given).full_clean()


def test_the_table_of_options_is_that_of_the_code() -> None:
    expected = [["kind", "option", "default", "what it means"]]
    common = set(ConnectionOptions.model_fields)
    expected += [["all", *line] for line in described(ConnectionOptions, common)]
    for kind in ("responses", "chat", "assistants"):
        options = engine_class(kind).options
        own = {
            name
            for name, field in options.model_fields.items()
            if field.description
            != getattr(ConnectionOptions.model_fields.get(name), "description", "")
        }
        expected += [[kind, *line] for line in described(options, own)]
    assert table("Options") == expected


def described(options: type[ConnectionOptions], names: set[str]) -> list[list[str]]:
    return [
        [f"`{name}`", shown(field.default), field.description or ""]
        for name, field in options.model_fields.items()
        if name in names
    ]


def shown(default: Any) -> str:
    """As it would stand in the JSON of the connection's form."""
    return f"`{json.dumps(default)}`"
