"""The assistants engine: whose door it knocks at, in which manner, and what it says of a door that
is no more."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from assistant_manager.engines.assistants import AssistantsEngine
from assistant_manager.engines.assistants.options import AssistantsOptions
from assistant_manager.engines.base import ConnectionInfo, Key
from assistant_manager.engines.exceptions import Expired, Rejected, Unavailable
from tests.engines.assistants import scripted
from tests.engines.conftest import Await
from tests.engines.turns import answer_of, finish, sighting_of
from tests.fakes.upstream.running import Upstream

KEY = "sk-assistants-0001"


def at(connection: ConnectionInfo, path: str, api_version: str = "") -> ConnectionInfo:
    root = connection.base_url.removesuffix("/v1")
    return replace(connection, base_url=root + path, api_version=api_version)


@pytest.mark.parametrize(
    ("path", "api_version", "prefix", "signed_in_by"),
    [
        ("/v1", "", "/v1/", "authorization"),
        ("", "2024-05-01-preview", "/openai/", "api-key"),
        ("/api/projects/kitchen", "v1", "/api/projects/kitchen/", "authorization"),
        ("/openai/v1", "", "/openai/v1/", "authorization"),
    ],
)
def test_each_flavour_has_its_own_paths_and_manners(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    path: str,
    api_version: str,
    prefix: str,
    signed_in_by: str,
) -> None:
    connection = at(assistants_connection, path, api_version)
    script = {"answer": "here", "file": "table.csv", "code": "1"}
    turn = scripted(connection, script)
    progress = wait_for(finish(assistants, turn))
    wait_for(assistants.tidy(sighting_of(turn, progress)))

    assert answer_of(progress).startswith("here")
    for entry in upstream.journal():
        assert entry["status"] == 200, entry
        assert entry["path"].startswith(prefix)
        assert entry["query"].get("api-version", "") == api_version
        assert entry["headers"][signed_in_by] == f"…{KEY[-4:]}"
        if "/files" not in entry["path"]:
            assert entry["headers"]["openai-beta"] == "assistants=v2"


def test_the_beta_header_can_be_left_out(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    plain = AssistantsOptions(beta_header=False, poll_seconds=0.02)
    connection = at(assistants_connection, "", "2024-05-01-preview")
    wait_for(finish(assistants, scripted(replace(connection, options=plain), {})))
    assert all("openai-beta" not in entry["headers"] for entry in upstream.journal())


def test_the_second_key_is_used_where_the_first_is_refused(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    upstream.revoke(KEY)
    keys = [Key(1, KEY), Key(2, "sk-assistants-0002")]
    turn = scripted(replace(assistants_connection, keys=keys), {"answer": "let in"})
    assert answer_of(wait_for(finish(assistants, turn))) == "let in"


@pytest.mark.parametrize("how", ["410", "404"])
@pytest.mark.parametrize("flavour", [("/v1", ""), ("", "2024-05-01-preview")])
def test_a_retired_api_is_called_by_its_name_and_the_way_out_is_told(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    how: str,
    flavour: tuple[str, str],
) -> None:
    upstream.retire(how)
    with pytest.raises(Rejected) as refusal:
        wait_for(assistants.start(scripted(at(assistants_connection, *flavour), {})))
    said = str(refusal.value)
    assert "“Assistants fake”" in said
    assert "retired" in said
    assert "26 August 2026" in said
    assert "kind “Responses API”" in said
    assert KEY not in said


def test_an_api_that_retires_under_a_run_fails_it_with_the_same_words(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    turn = scripted(assistants_connection, {"seconds": 60})
    progress = wait_for(assistants.start(turn))
    upstream.retire("404")
    with pytest.raises(Expired):  # it looks as if only the thread were gone
        wait_for(assistants.look(sighting_of(turn, progress)))
    with pytest.raises(Rejected, match="retired"):
        wait_for(assistants.start(turn))
    upstream.retire("410")
    with pytest.raises(Rejected, match="retired"):
        wait_for(assistants.look(sighting_of(turn, progress)))


@pytest.mark.parametrize("flavour", [("/v1", ""), ("", "2024-05-01-preview")])
def test_a_model_that_is_not_there_is_no_retired_api(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    wait_for: Await,
    flavour: tuple[str, str],
) -> None:
    turn = scripted(at(assistants_connection, *flavour), {"assistant_faults": ["missing_model"]})
    with pytest.raises(Rejected, match="does not exist") as refusal:
        wait_for(assistants.start(turn))
    assert "retired" not in str(refusal.value)


@pytest.mark.parametrize("path", ["/v2", "/v1/there/is/no/such/place"])
def test_a_wrong_address_is_named_as_a_possible_cause(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    wait_for: Await,
    path: str,
) -> None:
    with pytest.raises(Rejected, match="check the connection's address"):
        wait_for(assistants.start(scripted(at(assistants_connection, path), {})))


def test_an_upstream_that_is_away_is_asked_again(
    assistants: AssistantsEngine, assistants_connection: ConnectionInfo, wait_for: Await
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and never listens
        nowhere = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        turn = scripted(replace(assistants_connection, base_url=nowhere), {})
        with pytest.raises(Unavailable, match="cannot be reached"):
            wait_for(assistants.start(turn))


def test_a_connection_test_says_hello_and_leaves_nothing_behind(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    report = wait_for(assistants.inspect(assistants_connection, "gpt-4o"))
    assert report.answer == "x = 1"  # what the fake says to anything
    assert report.seconds is not None
    assert report.models
    assert report.supports == {"Assistants API": True, "list of models": True}
    assert len(upstream.journal("DELETE")) == 2


def test_a_connection_test_of_a_retired_api_says_so(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    upstream.retire("410")
    with pytest.raises(Rejected, match="retired on 26 August 2026"):
        wait_for(assistants.inspect(assistants_connection, "gpt-4o"))
