"""How answers end, and how an upstream is told that nobody waits for one any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.base import ConnectionInfo
from assistant_manager.engines.exceptions import Rejected, Unavailable, Unknown
from assistant_manager.engines.responses import ResponsesEngine
from assistant_manager.engines.responses.options import ResponsesOptions
from assistant_manager.engines.responses.status import ending, pace
from tests.engines.conftest import Await
from tests.engines.responses.conftest import Ask
from tests.engines.turns import WEATHER, answer_of, finish, sighting_of
from tests.fakes.upstream.running import Upstream


def deleted(upstream: Upstream) -> list[str]:
    return [entry["path"].rsplit("/", 1)[1] for entry in upstream.journal("DELETE")]


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        ({"status": "failed"}, "failed", "server_error"),
        ({"error": {"code": "rate_limit_exceeded"}}, "failed", "rate_limit_exceeded"),
        ({"error": {"code": "invalid_prompt"}}, "failed", "invalid_prompt"),
        ({"error": {"code": "image_too_large"}}, "failed", "invalid_prompt"),
        ({"error": {"code": "vector_store_timeout"}}, "failed", "server_error"),
        ({"error": {"code": "from_the_future"}}, "failed", "server_error"),
        ({"status": "cancelled"}, "cancelled", "server_error"),
        ({"status": "incomplete"}, "incomplete", "server_error"),
        ({"status": "incomplete", "reason": "content_filter"}, "failed", "invalid_prompt"),
        ({"status": "incomplete", "reason": "steered"}, "failed", "server_error"),
    ],
)
def test_every_status_has_an_outcome(play: Any, script: Any, outcome: str, code: str) -> None:
    progress = play(script={"status": "failed", **script})
    assert (progress.outcome, progress.error_code) == (outcome, code)
    assert bool(progress.error) == (outcome == "failed")


def test_a_failure_is_told_in_the_upstreams_words(play: Any) -> None:
    told = {"code": "server_error", "message": "The model fell over."}
    assert play(script={"status": "failed", "error": told}).error == "The model fell over."


def test_a_status_nobody_knows_means_that_it_still_works() -> None:
    assert ending({"status": "steering"}).outcome == "working"


def test_what_was_written_before_a_cut_is_kept_open(play: Any) -> None:
    progress = play(script={"status": "incomplete", "answer": "x is"})
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_completion_tokens")
    (message,) = progress.items
    assert (message.text, message.done) == ("x is", False)


def test_calls_in_a_cut_answer_are_not_offered(play: Any) -> None:
    script = {"status": "incomplete", "tools": [{"name": "get_weather"}]}
    progress = play(script=script, tools=[WEATHER])
    assert (progress.outcome, list(progress.items)) == ("incomplete", [])


def test_a_refusal_is_an_answer(play: Any) -> None:
    progress = play(script={"refusal": "I would rather not."})
    assert (progress.outcome, answer_of(progress)) == ("completed", "I would rather not.")


def test_tokens_that_nobody_counted_are_unknown_and_not_none(play: Any) -> None:
    assert play(script={"usage": None}).usage is None


def test_an_answer_is_looked_at_until_it_is_there(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    turn = ask(script={"seconds": 0.3, "answer": "at last"})
    started = wait_for(responses.start(turn))
    assert started.outcome == "working"
    assert started.upstream_id == started.state["id"]
    assert answer_of(wait_for(finish(responses, turn))) == "at last"


def test_a_server_that_knows_no_background_answers_at_once(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    for changes in (
        {"script": {"synchronous": True, "seconds": 0.1}},
        {"script": {"seconds": 0.1}, "options": {"background": False}},
    ):
        turn = ask(**changes)
        progress = wait_for(responses.start(turn))
        assert (progress.outcome, answer_of(progress)) == ("completed", "x = 1")
        wait_for(responses.tidy(sighting_of(turn, progress)))
    assert upstream.journal("GET") == []


def test_a_lost_answer_fails_the_run_in_words(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    turn = ask()
    started = wait_for(responses.start(turn))
    upstream.forget(started.state["id"])
    progress = wait_for(responses.look(sighting_of(turn, started)))
    assert (progress.outcome, progress.error_code) == ("failed", "server_error")
    assert "no longer available" in progress.error


def test_a_start_whose_reply_is_lost_is_unknown_and_sent_once(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    for number, fault in enumerate(("cut_after", "500_after", "cut_middle", "garbage", "html")):
        script = {"id": fault, "faults": [fault] * 9}
        with pytest.raises(Unknown):
            wait_for(responses.start(ask(script=script, attempt_key=fault)))
        assert len(upstream.journal("POST", "/responses")) == number + 1


def test_a_look_that_fails_may_be_made_again(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    faults = ["500", "503", "cut_middle", "garbage", "html", "429"]
    turn = ask(script={"id": "looks", "look_faults": faults})
    sighting = sighting_of(turn, wait_for(responses.start(turn)))
    for _ in faults:
        with pytest.raises(Unavailable):
            wait_for(responses.look(sighting))
    assert wait_for(responses.look(sighting)).outcome == "completed"


def test_a_look_into_a_line_that_was_hung_up_is_made_on_another(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    turn = ask(script={"id": "looks", "look_faults": ["cut_before"]})
    sighting = sighting_of(turn, wait_for(responses.start(turn)))
    assert wait_for(responses.look(sighting)).outcome == "completed"


def test_a_refused_prompt_fails_the_run(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    with pytest.raises(Rejected) as refused:
        wait_for(responses.start(ask(script={"id": "f", "faults": ["unsupported"]})))
    assert refused.value.code == "invalid_prompt"


# --- stopping and removing --------------------------------------------------------------


def test_a_cancelled_answer_stops_and_is_removed(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    turn = ask(script={"seconds": 60})
    sighting = sighting_of(turn, wait_for(responses.start(turn)))
    wait_for(responses.cancel(sighting))
    wait_for(responses.cancel(sighting))
    assert upstream.journal("POST", "/cancel")[0]["status"] == 200
    assert deleted(upstream)[0] == sighting.state["id"]


def test_an_answer_that_is_to_be_kept_is_stopped_only(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    turn = ask(script={"seconds": 60}, options={"keep_upstream": True})
    sighting = sighting_of(turn, wait_for(responses.start(turn)))
    wait_for(responses.cancel(sighting))
    assert wait_for(responses.look(sighting)).outcome == "cancelled"
    wait_for(responses.tidy(sighting))
    assert deleted(upstream) == []


def test_all_answers_of_a_run_are_removed_with_the_last(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    first = wait_for(finish(responses, ask()))
    turn = ask(past=first.items, past_states=[first.state], note="Shorter.")
    last = wait_for(finish(responses, turn))
    wait_for(responses.tidy(sighting_of(turn, last)))
    assert deleted(upstream) == [first.state["id"], last.state["id"]]


# --- what webhooks and connection tests need --------------------------------------------


def test_a_response_says_whose_it_is_and_can_be_looked_at(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    turn = ask(script={"code": "print(1)"})
    started = wait_for(responses.start(turn))
    found = wait_for(responses.find(turn.connection, started.upstream_id))
    assert found.attempt_key == turn.attempt_key
    progress = wait_for(responses.look(replace(sighting_of(turn, started), state=found.state)))
    assert progress.items[0].calls[0].logs == "1"


def test_responses_that_are_gone_or_not_ours_are_nobodys(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    turn = ask(options={"leave_out": ("metadata",)})
    started = wait_for(responses.start(turn))
    assert wait_for(responses.find(turn.connection, started.upstream_id)) is None
    assert wait_for(responses.find(turn.connection, "resp_unheard_of")) is None


def test_what_nobody_waits_for_is_stopped_and_removed_even_if_answers_are_kept(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    turn = ask(script={"seconds": 60}, options={"keep_upstream": True})
    started = wait_for(responses.start(turn))
    for _ in range(2):
        wait_for(responses.discard(turn.connection, started.upstream_id))
    assert deleted(upstream)[0] == started.upstream_id


def test_saying_hello_tells_what_the_upstream_offers(
    responses: ResponsesEngine,
    responses_connection: ConnectionInfo,
    wait_for: Await,
    upstream: Upstream,
) -> None:
    found = wait_for(responses.inspect(responses_connection, "fake"))
    assert found.answer == "x = 1"
    assert found.seconds > 0
    assert found.supports["Answers in the background"]
    assert len(deleted(upstream)) == 1


def test_saying_hello_with_a_wrong_key_says_so(
    responses: ResponsesEngine,
    responses_connection: ConnectionInfo,
    wait_for: Await,
    upstream: Upstream,
) -> None:
    upstream.revoke(responses_connection.keys[0].text)
    with pytest.raises(Rejected, match="keys"):
        wait_for(responses.inspect(responses_connection, "fake"))


def test_looks_become_rarer_with_age_and_are_spread() -> None:
    plain = ConnectionInfo(kind="responses", options=ResponsesOptions())
    for age, usual in ((0, 2), (30, 5), (600, 15)):
        pauses = [pace(plain, age) for _ in range(200)]
        assert 0.8 * usual <= min(pauses) < max(pauses) <= 1.2 * usual
    told = replace(plain, has_webhooks=True)
    assert 24 <= pace(told, 0) <= 36
    asked = replace(plain, options=ResponsesOptions(poll_seconds=0.5))
    assert pace(asked, 600) == 0.5
