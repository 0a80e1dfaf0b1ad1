"""The responses engine and Microsoft's own host: an upstream that nobody here has written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from assistant_manager.engines.base import (
    ConnectionInfo,
    Key,
    Progress,
    ToolCallsItem,
    Turn,
    TurnMessage,
)
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.engines.responses import ResponsesEngine, engine
from assistant_manager.engines.responses.options import ResponsesOptions
from assistant_manager.models import Connection, Model
from assistant_manager.secrets import Secret
from conversations.driver import Driver
from conversations.models import Run
from conversations.services import runs
from tests.engines.conftest import CONNECTION_IDS, Await
from tests.engines.fields.asked import SCHEMA
from tests.engines.turns import (
    CODE,
    PATIENCE,
    WEATHER,
    answer_of,
    finish,
    make_turn,
    say,
    sighting_of,
)
from tests.factories import make_assistant
from tests.peers.agentserver import Peer

pytestmark = pytest.mark.peer

KEY = "peer-0001"
OPTIONS = {"poll_seconds": 0.05}
ATTEMPTS = itertools.count(1)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    peer = Peer(tmp_path_factory.mktemp("agentserver"))
    yield peer
    peer.close()


@pytest.fixture
def ask(peer: Peer) -> Callable[..., Turn]:
    connection = ConnectionInfo(
        kind="responses",
        id=next(CONNECTION_IDS),
        name="Peer",
        base_url=peer.url,
        keys=[Key(1, KEY)],
        options=ResponsesOptions(**OPTIONS),
    )
    return lambda question, **changes: make_turn(
        question, **{"connection": connection, "attempt_key": f"peer-{next(ATTEMPTS)}", **changes}
    )


def soon(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


def test_an_answer_is_made_in_the_background(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    turn = ask("hello", temperature=0.5, top_p=0.9, max_completion_tokens=500)
    started = wait_for(responses.start(turn))
    assert started.outcome == "working"
    assert started.upstream_id.startswith("caresp_"), "an id of another shape than OpenAI's"
    ended = wait_for(finish(responses, turn))
    assert (ended.outcome, answer_of(ended)) == ("completed", "echo: hello")
    assert ended.usage is None, "what the upstream does not count is not made up"


def test_a_failure_there_is_one_here(responses: ResponsesEngine, ask: Any, wait_for: Await) -> None:
    ended = wait_for(finish(responses, ask("fail")))
    assert (ended.outcome, ended.error_code) == ("failed", "server_error")
    assert ended.error


def test_a_function_is_called_and_its_output_comes_back(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    turn = ask("weather?", tools=[WEATHER])
    asking = wait_for(finish(responses, turn))
    assert asking.outcome == "requires_action"
    (item,) = asking.items
    assert isinstance(item, ToolCallsItem)
    (call,) = item.calls
    assert (call.name, call.arguments) == ("get_weather", '{"place": "Bern"}')
    submitted = replace(item, calls=[replace(call, output="snow")], done=True)
    ended = wait_for(
        finish(
            responses,
            replace(
                turn,
                attempt=2,
                attempt_key=f"{turn.attempt_key}-2",
                past=[submitted],
                past_states=[asking.state],
            ),
        )
    )
    assert (ended.outcome, answer_of(ended)) == ("completed", "echo: weather? snow")


def test_every_field_of_a_request_passes_its_own_check(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    seen = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    shown = TurnMessage("user", [*say("Look at this.").content, seen])
    turn = ask(
        shown,
        messages=[shown, say("A cat.", role="assistant"), say("Whose?")],
        tools=[CODE, WEATHER],
        tool_choice={"type": "code_interpreter"},
        parallel_tool_calls=False,
        response_format=SCHEMA,
        reasoning_effort="low",
        temperature=0.5,
        top_p=0.9,
        max_completion_tokens=500,
    )
    ended = wait_for(finish(responses, turn))
    assert (ended.outcome, ended.error) == ("completed", None)
    assert answer_of(ended).endswith("Whose?")


def test_a_reviewers_note_is_an_attempt_of_its_own(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    first = wait_for(finish(responses, turn := ask("hello")))
    again = replace(
        turn,
        attempt=2,
        attempt_key=f"{turn.attempt_key}-2",
        past=first.items,
        past_states=[first.state],
        note="Say it in French.",
    )
    ended = wait_for(finish(responses, again))
    assert ended.outcome == "completed"
    assert "Say it in French." in answer_of(ended)


def test_without_the_background_the_answer_is_there_at_once_and_nowhere_else(
    responses: ResponsesEngine, ask: Any, wait_for: Await, peer: Peer
) -> None:
    turn = ask("hello")
    options = ResponsesOptions(background=False)
    turn = replace(turn, connection=replace(turn.connection, options=options))
    ended = wait_for(responses.start(turn))
    assert (ended.outcome, answer_of(ended)) == ("completed", "echo: hello")
    assert peer.status_of(ended.state["id"]) == ""


def test_an_answer_that_is_not_wanted_any_more_is_stopped(
    responses: ResponsesEngine,
    ask: Any,
    wait_for: Await,
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "SILENCE", 0.2)
    sighting = sighting_of(turn := ask("slow"), wait_for(responses.start(turn)))
    assert wait_for(responses.look(sighting)).outcome == "working"
    wait_for(responses.cancel(sighting))
    wait_for(responses.cancel(sighting))
    assert soon(lambda: peer.status_of(sighting.state["id"]) in ("cancelled", ""))


def test_what_has_ended_is_removed_and_may_be_cancelled_all_the_same(
    responses: ResponsesEngine, ask: Any, wait_for: Await, peer: Peer
) -> None:
    ended = wait_for(finish(responses, turn := ask("hello")))
    sighting = sighting_of(turn, ended)
    assert peer.status_of(ended.state["id"]) == "completed"
    wait_for(responses.tidy(sighting))
    assert peer.status_of(ended.state["id"]) == ""
    wait_for(responses.tidy(sighting))
    wait_for(responses.cancel(sighting))


def test_an_answer_that_is_gone_fails_the_run(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    ended = wait_for(finish(responses, turn := ask("hello")))
    wait_for(responses.tidy(sighting_of(turn, ended)))
    looked = wait_for(responses.look(sighting_of(turn, ended)))
    assert (looked.outcome, looked.error_code) == ("failed", "server_error")
    assert looked.error is not None
    assert "no longer available" in looked.error


def test_an_id_that_it_cannot_read_fails_the_run_too(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    turn = ask("hello")
    sighting = sighting_of(turn, Progress("working", state={"id": "resp_foreign", "started": 0}))
    with pytest.raises(Rejected, match="Malformed identifier"):
        wait_for(responses.look(sighting))
    wait_for(responses.cancel(sighting))
    wait_for(responses.tidy(sighting))


def test_its_answers_are_found_by_their_id_unless_they_are_not_ours(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    turn = ask("hello")
    started = wait_for(responses.start(turn))
    found = wait_for(responses.find(turn.connection, started.upstream_id))
    assert found is not None
    assert found.attempt_key == turn.attempt_key
    assert wait_for(responses.look(sighting_of(turn, replace(started, state=found.state))))
    unknown = started.upstream_id[:-4] + "0000"
    assert wait_for(responses.find(turn.connection, unknown)) is None


def test_saying_hello_tells_what_it_can_do(
    responses: ResponsesEngine, ask: Any, wait_for: Await
) -> None:
    report = wait_for(responses.inspect(ask("").connection, "peer"))
    assert report.answer
    assert report.models is None


# --- with rows and a driver ---------------------------------------------------------------


def ask_as_a_person(peer: Peer, question: str) -> Run:
    connection = Connection.objects.create(
        name="Peer", kind="responses", base_url=peer.url, key_1=Secret(KEY), options=OPTIONS
    )
    Model.objects.update(connection=connection)
    return runs.ask(assistant=make_assistant(tools=[]), text=question)


def becomes(run: Run, holds: Callable[[Run], bool]) -> Run:
    """The run once `holds` of it."""

    def look() -> bool:
        run.refresh_from_db()
        return holds(run)

    assert soon(look), f"{run} is {run.status}: {run.last_error}"
    run.refresh_from_db()
    return run


def upstream_id(run: Run) -> str:
    return str(run.attempts.order_by("-number").values_list("upstream_id", flat=True).first() or "")


def test_a_question_is_answered_and_nothing_stays_there(driver: Driver, peer: Peer) -> None:
    run = becomes(ask_as_a_person(peer, "hello"), lambda run: run.status == "completed")
    assert [message.text for message in run.messages.all()] == ["echo: hello"]
    assert soon(lambda: peer.status_of(upstream_id(run)) == "")


def test_a_run_that_is_cancelled_leaves_nothing_there(driver: Driver, peer: Peer) -> None:
    run = becomes(ask_as_a_person(peer, "slow"), lambda run: bool(upstream_id(run)))
    runs.cancel_run(run=run)
    becomes(run, lambda run: run.status == "cancelled")
    assert soon(lambda: peer.status_of(upstream_id(run)) == "")


def test_an_answer_that_a_crash_left_in_progress_for_ever_expires(
    driver: Driver, tmp_path: Path
) -> None:
    peer = Peer(tmp_path)
    try:
        run = becomes(ask_as_a_person(peer, "slow"), lambda run: bool(upstream_id(run)))
        peer.kill_and_start_again()
        assert peer.status_of(upstream_id(run)) == "in_progress"
        soon_over = timezone.now() + timedelta(seconds=1)
        Run.objects.filter(pk=run.pk).update(expires_at=soon_over, due_at=timezone.now())
        run = becomes(run, lambda run: run.status == "expired")
        assert run.last_error is None
        # The row says so first, the upstream hears of it after that.
        assert soon(lambda: peer.status_of(upstream_id(run)) == "")
    finally:
        peer.close()
