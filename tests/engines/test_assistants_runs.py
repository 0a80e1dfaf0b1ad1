"""The assistants engine: one run for one attempt, whatever happens on the way, and its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.assistants import AssistantsEngine
from assistant_manager.engines.assistants.options import AssistantsOptions
from assistant_manager.engines.assistants.wire import Wire
from assistant_manager.engines.base import ConnectionInfo, ToolCallsItem
from assistant_manager.engines.clients import Clients
from assistant_manager.engines.exceptions import Expired, Rejected, Unavailable
from tests.engines.assistants import scripted, see_through, stored
from tests.engines.conftest import Await
from tests.engines.turns import CODE, answer_of, finish, sighting_of
from tests.fakes.upstream.running import Upstream

KEEP = AssistantsOptions(poll_seconds=0.02, keep_upstream=True)


@pytest.fixture
def connection(assistants_connection: ConnectionInfo) -> ConnectionInfo:
    return assistants_connection


def runs_made(upstream: Upstream) -> list[Any]:
    return [entry for entry in upstream.journal("POST", "/runs") if entry["status"] == 200]


def test_every_request_is_one_that_the_vendor_takes(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(
        connection,
        {"answer": "x = 1"},
        tools=[CODE, {"type": "file_search"}],
        tool_choice="required",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        temperature=0.2,
        top_p=0.9,
        max_prompt_tokens=5000,
        max_completion_tokens=500,
    )
    progress = wait_for(finish(assistants, turn))
    assert progress.outcome == "completed", progress.error
    assert upstream.violations() == []
    (run,) = runs_made(upstream)
    assert run["body"] == {
        "assistant_id": run["body"]["assistant_id"],
        "metadata": {"am_run": turn.run_id, "am_attempt": turn.attempt_key},
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_prompt_tokens": 5000,
        "max_completion_tokens": 500,
    }


def test_what_is_at_its_default_is_not_sent(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    wait_for(finish(assistants, scripted(connection, {})))
    (made,) = upstream.journal("POST", "/assistants")
    (run,) = runs_made(upstream)
    assert set(made["body"]) == {"model", "name", "instructions", "tools", "metadata"}
    assert set(run["body"]) == {"assistant_id", "metadata"}


def test_a_temperature_that_the_model_does_not_know_is_left_out(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"assistant_faults": ["unsupported"]}, temperature=0.5, top_p=0.9)
    assert wait_for(finish(assistants, turn)).outcome == "completed"
    refused, taken = upstream.journal("POST", "/assistants")
    assert refused["body"].keys() - taken["body"].keys() == {"temperature"}


@pytest.mark.parametrize("fault", ["cut_after", "500_after", "cut_middle"])
def test_a_run_whose_reply_was_lost_is_found_and_not_made_twice(
    assistants: AssistantsEngine,
    connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    fault: str,
) -> None:
    turn = scripted(connection, {"faults": [fault], "answer": "found"})
    progress = wait_for(see_through(assistants, turn))
    assert answer_of(progress) == "found"
    assert upstream.counts()["creates_by_attempt"] == {turn.attempt_key: 1}


@pytest.mark.parametrize("fault", ["cut_before", "500", "503", "429", "garbage", "html"])
def test_a_run_that_was_not_taken_is_asked_for_again(
    assistants: AssistantsEngine,
    connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    fault: str,
) -> None:
    turn = scripted(connection, {"faults": [fault], "answer": "at last"})
    progress = wait_for(see_through(assistants, turn))
    assert answer_of(progress) == "at last"
    assert upstream.counts()["creates_by_attempt"] == {turn.attempt_key: 1}


def test_on_a_bad_day_each_attempt_still_has_one_run(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turns = [scripted(connection, {"answer": f"answer {number}"}) for number in range(20)]
    upstream.set_chaos({"429": 0.1, "500": 0.1, "503": 0.05, "cut": 0.1})
    for number, turn in enumerate(turns):
        assert answer_of(wait_for(see_through(assistants, turn))) == f"answer {number}"
    made = upstream.counts()["creates_by_attempt"]
    assert made == {turn.attempt_key: 1 for turn in turns}


def test_an_attempt_taken_up_by_another_process_goes_on_with_its_run(
    connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"answer": "one run"})
    first, second = AssistantsEngine(), AssistantsEngine()
    started = wait_for(first.start(turn))
    wait_for(first.look(sighting_of(turn, started)))  # its Progress was never recorded
    found = wait_for(second.look(sighting_of(turn, stored(started))))
    ended = wait_for(second.look(sighting_of(turn, stored(found))))
    assert answer_of(ended) == "one run"
    assert len(runs_made(upstream)) == 1
    wait_for(first.close())
    wait_for(second.close())


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            {"status": "failed", "error": {"code": "server_error", "message": "Out of order."}},
            {"outcome": "failed", "error_code": "server_error", "error": "Out of order."},
        ),
        (
            {"status": "failed", "error": {"code": "of_the_future", "message": "New."}},
            {"outcome": "failed", "error_code": "server_error", "error": "New."},
        ),
        (
            {"status": "incomplete", "answer": "half an"},
            {"outcome": "incomplete", "incomplete_reason": "max_completion_tokens"},
        ),
        (
            {"status": "incomplete", "reason": "content_filter"},
            {"outcome": "incomplete", "incomplete_reason": "content_filter"},
        ),
        (
            {"status": "incomplete", "reason": "the_moon"},
            {"outcome": "failed", "error": "The answer was cut off upstream (the_moon)."},
        ),
        ({"status": "expired"}, {"outcome": "expired"}),
        ({"status": "cancelled"}, {"outcome": "cancelled"}),
    ],
)
def test_each_end_of_a_run_is_told(
    assistants: AssistantsEngine,
    connection: ConnectionInfo,
    wait_for: Await,
    script: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    progress = wait_for(finish(assistants, scripted(connection, script)))
    assert {name: getattr(progress, name) for name in expected} == expected
    if "answer" in script:
        assert answer_of(progress) == script["answer"]


def test_a_status_nobody_knows_is_looked_at_again(
    assistants: AssistantsEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(connection, {"status": "strange"})
    progress = wait_for(assistants.start(turn))
    for _ in range(4):
        progress = wait_for(assistants.look(sighting_of(turn, progress)))
    assert progress.outcome == "working"


def test_a_run_that_failed_for_want_of_quota_is_tried_again_in_its_thread(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    why = "Rate limit is exceeded. Try again in 0.05 seconds."
    error = {"code": "rate_limit_exceeded", "message": why}
    turn = scripted(connection, {"status": "failed", "error": error})
    started = wait_for(assistants.start(turn))
    entered = wait_for(assistants.look(sighting_of(turn, started)))
    waiting = wait_for(assistants.look(sighting_of(turn, entered)))
    again = wait_for(assistants.look(sighting_of(turn, stored(waiting))))

    assert (waiting.outcome, waiting.look_again) == ("working", 0.05)
    assert again.upstream_id != entered.upstream_id
    assert len(upstream.journal("POST", "/threads")) == 1
    assert len(runs_made(upstream)) == 2


def test_code_is_shown_while_it_runs(
    assistants: AssistantsEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(connection, {"code": "solve()", "queued": 0, "seconds": 600})
    started = wait_for(assistants.start(turn))
    entered = wait_for(assistants.look(sighting_of(turn, started)))
    first, second = (wait_for(assistants.look(sighting_of(turn, entered))) for _ in range(2))
    (item,) = first.items
    assert isinstance(item, ToolCallsItem)
    (call,) = item.calls
    assert (item.done, call.input, call.logs) == (False, "solve()", None)
    assert first == second


def test_an_answer_that_was_cut_off_is_left_open(
    assistants: AssistantsEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(connection, {"status": "incomplete", "answer": "half an"})
    (message,) = wait_for(finish(assistants, turn)).items
    assert not message.done, "the run's end says why it is incomplete"


def test_a_thread_that_the_upstream_has_forgotten_begins_a_new_attempt(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"seconds": 60})
    progress = wait_for(assistants.start(turn))
    progress = wait_for(assistants.look(sighting_of(turn, progress)))
    upstream.forget(progress.state["thread"])
    with pytest.raises(Expired):
        wait_for(assistants.look(sighting_of(turn, progress)))


def test_trouble_while_looking_changes_nothing(
    assistants: AssistantsEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(connection, {"look_faults": ["500", "cut_before", "garbage"], "answer": "ok"})
    progress = wait_for(assistants.start(turn))
    sighting = sighting_of(turn, wait_for(assistants.look(sighting_of(turn, progress))))
    for _ in range(3):
        with pytest.raises(Unavailable):
            wait_for(assistants.look(sighting))
    assert answer_of(wait_for(assistants.look(sighting))) == "ok"


def test_a_budget_too_small_for_the_upstream_ends_the_answer_before_it_begins(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {}, max_prompt_tokens=255)
    progress = wait_for(finish(assistants, turn))
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_prompt_tokens")
    assert upstream.journal() == []


def test_cancelling_stops_the_run_and_removes_what_was_made(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"seconds": 60})
    progress = wait_for(assistants.start(turn))
    looked = wait_for(assistants.look(sighting_of(turn, progress)))
    # The sighting of before the run was known: it is found.
    wait_for(assistants.cancel(sighting_of(turn, progress)))
    (cancelled,) = upstream.journal("POST", "/cancel")
    assert looked.upstream_id in cancelled["path"]
    assert what_is_left(upstream) == set()


def what_is_left(upstream: Upstream) -> set[str]:
    """The nouns of which more were made than deleted."""
    left = set()
    for noun in ("assistants", "threads"):
        made = [e for e in upstream.journal("POST", f"/{noun}") if e["status"] == 200]
        gone = [e for e in upstream.journal("DELETE") if f"/{noun}/" in e["path"]]
        if len({e["path"] for e in gone}) < len(made):
            left.add(noun)
    return left


def test_what_was_made_is_removed_once_the_answer_is_safe(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"code": "plot()", "image": "plot.png"})
    progress = stored(wait_for(finish(assistants, turn)))
    assert upstream.journal("DELETE") == []
    wait_for(assistants.tidy(sighting_of(turn, progress)))
    wait_for(assistants.tidy(sighting_of(turn, progress)))
    assert what_is_left(upstream) == set()
    assert any("/files/" in entry["path"] for entry in upstream.journal("DELETE"))


def test_what_was_made_is_kept_where_the_connection_says_so(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(replace(connection, options=KEEP), {})
    progress = wait_for(finish(assistants, turn))
    wait_for(assistants.tidy(sighting_of(turn, progress)))
    assert upstream.journal("DELETE") == []


def test_a_start_that_fails_half_way_leaves_no_assistant_behind(
    assistants: AssistantsEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    unreadable = [{"type": "text", "text": {"value": "x"}}, {"type": "nonsense"}]
    message = replace(scripted(connection, {}).messages[0], content=unreadable)
    with pytest.raises(Rejected, match="refused the request"):
        wait_for(assistants.start(scripted(connection, {}, messages=[message])))
    assert what_is_left(upstream) == set()


def test_a_list_of_more_than_one_page_is_read_to_its_end(
    connection: ConnectionInfo, wait_for: Await
) -> None:
    names = [f"assistant {number}" for number in range(120)]

    async def fill_and_list() -> list[str]:
        wire = Wire(Clients().of(connection))
        for name in names:
            await wire.post("/assistants", {"model": "gpt-4o", "name": name})
        rows = await wire.all("/assistants")
        await wire.client.close()
        return [row["name"] for row in rows]

    assert wait_for(fill_and_list()) == names
