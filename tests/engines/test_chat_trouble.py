"""The chat engine when something goes wrong: upstream, on the way, or in this process."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from assistant_manager.engines.base import (
    ConnectionInfo,
    Key,
    MessageItem,
    Progress,
    ToolCallsItem,
    Turn,
    TurnMessage,
)
from assistant_manager.engines.cells import code_item
from assistant_manager.engines.chat import ChatEngine
from assistant_manager.engines.exceptions import Expired, Rejected, Unavailable
from assistant_manager.sandbox import CellResult, Limits, Sandbox
from tests.engines.chat import asked, persist, scripted
from tests.engines.conftest import Await
from tests.engines.turns import CODE, PATIENCE, WEATHER, answer_of, finish, say, sighting_of
from tests.fakes.upstream.running import Upstream

STORY = "Once upon a time there was an equation. " * 6


@pytest.fixture
def connection(chat_connection: ConnectionInfo) -> ConnectionInfo:
    return chat_connection


async def until(engine: ChatEngine, turn: Turn, seen: Callable[[Progress], bool]) -> Progress:
    """Start, and look until `seen`."""
    progress = await engine.start(turn)
    async with asyncio.timeout(PATIENCE):
        while not seen(progress):
            assert progress.outcome == "working"
            progress = await engine.look(sighting_of(turn, progress))
    return progress


def assert_stream_closes(upstream: Upstream) -> None:
    deadline = time.monotonic() + PATIENCE
    while upstream.journal("POST", "/chat/completions")[0]["status"] in (None, 200):
        assert time.monotonic() < deadline, "the upstream goes on writing"
        time.sleep(0.05)


def taken_up_again(turn: Turn, progress: Progress) -> Turn:
    """The turn that another process gets, after the last recorded progress."""
    done = [item for item in progress.items if item.done]
    # Pictures are no part of a turn, and rows keep no notes for engines.
    return replace(turn, recorded=done, state=json.loads(json.dumps(progress.state)))


def ran(key: str, source: str, value: str, turn: Turn) -> ToolCallsItem:
    result = CellResult("ok", "", "", value, (), None, 0.1, False)
    return code_item(turn.attempt_key, key, source, result)


# --- upstream ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["429", "500", "503", "html", "garbage", "cut_before", "cut_after", "500_after"]
)
def test_a_question_that_was_not_answered_is_asked_again(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await, fault: str
) -> None:
    turn = scripted(connection, {"faults": [fault], "answer": "Two."})
    with pytest.raises(Unavailable):
        wait_for(finish(chat, turn))
    progress = wait_for(finish(chat, turn))
    assert (progress.outcome, answer_of(progress)) == ("completed", "Two.")
    assert len(asked(upstream)) == 2


def test_the_upstream_says_how_long_to_wait(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(connection, {"faults": ["429"], "retry_after": 7})
    with pytest.raises(Unavailable) as refused:
        wait_for(chat.start(turn))
    assert (refused.value.retry_after, refused.value.code) == (7, "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("fault", "code"), [("billing", "rate_limit_exceeded"), ("context", "invalid_prompt")]
)
def test_what_no_repeating_cures_fails_at_once(
    chat: ChatEngine,
    connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    fault: str,
    code: str,
) -> None:
    with pytest.raises(Rejected) as refused:
        wait_for(finish(chat, scripted(connection, {"faults": [fault]})))
    assert refused.value.code == code
    assert len(asked(upstream)) == 1


def test_a_thread_that_the_model_cannot_read_whole_is_shortened(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    thread = [TurnMessage(role, say("word " * 50).content) for role in ("user", "assistant")] * 3
    turn = scripted(connection, {"faults": ["context", "context"]}, *thread, "And now?")
    progress = wait_for(persist(chat, turn))
    assert progress.outcome == "completed"
    lengths = [len(body["messages"]) for body in asked(upstream)]
    assert lengths == sorted(set(lengths), reverse=True)
    assert len(lengths) == 3
    assert asked(upstream)[-1]["messages"][-1]["content"] == "And now?"


def test_trouble_in_a_later_round_does_not_undo_the_earlier_ones(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    script = {"code": "n = globals().get('n', 0) + 1; n", "code_rounds": 2}
    turn = scripted(connection, {**script, "faults": [None, "500", None, "429"]})
    progress = wait_for(persist(chat, turn))
    logs = [item.calls[0].logs for item in progress.items if isinstance(item, ToolCallsItem)]
    assert logs == ["1", "2"]
    assert len(asked(upstream)) == 5


def test_an_answer_that_broke_off_is_asked_for_again_and_shown_once(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"faults": ["cut_middle"], "answer": STORY})
    progress = wait_for(persist(chat, turn))
    assert [item.text for item in progress.items] == [STORY]
    assert len(asked(upstream)) == 2


@pytest.mark.parametrize(
    "script",
    [
        {"faults": ["cut_middle"] * 5},
        {"status": "failed", "error": {"message": "The model fell over."}},
        {"finish": None},
    ],
)
def test_an_answer_that_breaks_off_three_times_fails_the_run(
    chat: ChatEngine,
    connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    script: dict[str, Any],
) -> None:
    with pytest.raises(Rejected, match="did not finish its answer") as refused:
        wait_for(persist(chat, scripted(connection, script)))
    assert script.get("error", {}).get("message", "").rstrip(".") in str(refused.value)
    assert len(asked(upstream)) == 3


def test_a_server_that_falls_over_pictures_is_not_asked_for_ever(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    """Many servers whose model has no eyes answer 500."""
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    turn = scripted(connection, {"faults": ["500"] * 9}, TurnMessage("user", [part]))
    with pytest.raises(Rejected, match="cannot see pictures") as refused:
        wait_for(persist(chat, turn))
    assert refused.value.code == "invalid_prompt"
    assert len(asked(upstream)) == 3


def test_text_that_was_shown_never_becomes_another_text(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    """Who reads along can be told of more text only. Whole, the message may be any."""
    turn = scripted(connection, {"faults": ["cut_middle"], "answer": STORY, "seconds": 0.5})
    shown = []

    async def watch() -> Progress:
        progress = await chat.start(turn)
        async with asyncio.timeout(PATIENCE):
            while progress.outcome == "working":
                try:
                    progress = await chat.look(sighting_of(turn, progress))
                except Unavailable:
                    continue
                shown.append(answer_of(progress))
        return progress

    assert answer_of(wait_for(watch())) == STORY
    assert all(after.startswith(before) for before, after in itertools.pairwise(shown))


# --- this process -----------------------------------------------------------------------


def test_another_process_goes_on_after_the_last_recorded_step(
    connection: ConnectionInfo, sandbox: Sandbox, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(
        connection, {"code": "n = globals().get('n', 0) + 1; n", "code_rounds": 3, "seconds": 0.2}
    )

    async def crash() -> Progress:
        first = ChatEngine(sandbox)
        progress = await until(
            first, turn, lambda seen: [item.done for item in seen.items[:2]] == [True, True]
        )
        await first.close()
        return progress

    before = wait_for(crash())
    other_key = replace(connection, keys=[Key(1, "sk-chat-other")])
    again = taken_up_again(replace(turn, connection=other_key), before)
    after = wait_for(goes_on(sandbox, again))
    assert after.outcome == "completed"
    assert after.items[:2] == before.items[:2], "recorded steps stay as they are"
    logs = [item.calls[0].logs for item in after.items if isinstance(item, ToolCallsItem)]
    assert logs == ["1", "2", "3"], "the kernel's variables are there again"
    # Two more at the most: for the third cell, if it had been asked for but not recorded, and
    # for the answer.
    keys = [entry["headers"]["authorization"] for entry in upstream.journal("POST")]
    assert keys.count("…ther") <= 2
    assert after.usage.prompt_tokens > before.usage.prompt_tokens


async def goes_on(sandbox: Sandbox, turn: Turn) -> Progress:
    second = ChatEngine(sandbox)
    try:
        return await persist(second, turn)
    finally:
        await second.close()


def test_calls_that_a_crash_left_undone_are_carried_out_without_asking_again(
    sandbox: Sandbox, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"code": "0"}, tools=[CODE, WEATHER])
    calls = [
        ["python", '{"code": "n = 20; n"}'],
        ["get_weather", "{}"],
        ["python", '{"code": "n + 1"}'],
    ]
    state = {"round": 0, "calls": calls, "spoken": False, "usage": [10, 5]}
    recorded = [ran("call-0-0", "n = 20; n", "20", turn)]
    progress = wait_for(goes_on(sandbox, replace(turn, recorded=recorded, state=state)))
    assert progress.outcome == "requires_action"
    first, second, functions = progress.items
    assert first == recorded[0]
    assert second.calls[0].logs == "21"
    assert functions.calls[0].name == "get_weather"
    assert asked(upstream) == []


def test_text_that_another_process_has_shown_is_shown_again_only_when_whole(
    sandbox: Sandbox, connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(connection, {"answer": STORY, "seconds": 0.6})
    state = {"round": 0, "calls": [], "spoken": True, "usage": None}
    shown = []

    async def go_on() -> Progress:
        engine = ChatEngine(sandbox)
        progress = await engine.start(replace(turn, state=state))
        while progress.outcome == "working":
            shown.append(answer_of(progress))
            progress = await engine.look(sighting_of(turn, progress))
        await engine.close()
        return progress

    assert answer_of(wait_for(go_on())) == STORY
    assert set(shown) <= {"", STORY}


def test_starting_what_is_under_way_asks_nothing_again(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"answer": STORY, "seconds": 0.3})

    async def twice() -> Progress:
        await chat.start(turn)
        return await finish(chat, turn)

    assert answer_of(wait_for(twice())) == STORY
    assert len(asked(upstream)) == 1


def test_a_connection_that_was_mended_is_used_at_once(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    turn = scripted(connection, {})
    away = replace(connection, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(Unavailable, match="cannot be reached"):
        wait_for(chat.start(replace(turn, connection=away)))
    assert answer_of(wait_for(finish(chat, turn))) == "x = 1"


def test_an_end_is_told_again_until_it_is_on_the_rows(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {})
    ended = wait_for(finish(chat, turn))
    assert wait_for(chat.start(turn)) == ended
    assert wait_for(chat.look(sighting_of(turn, ended))) == ended
    assert len(asked(upstream)) == 1
    wait_for(chat.tidy(sighting_of(turn, ended)))
    with pytest.raises(Expired):
        wait_for(chat.look(sighting_of(turn, ended)))


def test_a_growing_text_is_seen_about_once_a_second(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    """Each look is a write to the database, and text comes in hundreds of pieces."""
    turn = scripted(connection, {"answer": STORY * 5, "seconds": 2.5})
    looks = 0

    def count(progress: Progress) -> bool:
        nonlocal looks
        looks += 1
        return progress.outcome == "completed"

    began = time.monotonic()
    wait_for(until(chat, turn, count))
    assert looks < 8 + time.monotonic() - began


def test_cancelling_closes_the_stream(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"answer": STORY, "seconds": 60})

    async def cancel() -> None:
        progress = await until(chat, turn, lambda seen: bool(answer_of(seen)))
        await chat.cancel(sighting_of(turn, progress))

    wait_for(cancel())
    assert_stream_closes(upstream)


def test_who_looks_on_and_goes_leaves_nothing_behind(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"answer": STORY, "seconds": 60})

    async def leave() -> None:
        progress = await until(chat, turn, lambda seen: bool(answer_of(seen)))
        looking = asyncio.create_task(chat.look(sighting_of(turn, progress)))
        await asyncio.sleep(0)
        looking.cancel()
        await asyncio.wait([looking])
        assert looking.cancelled()
        with pytest.raises(Expired):
            await chat.look(sighting_of(turn, progress))

    wait_for(leave())
    assert_stream_closes(upstream)


def test_cancelling_stops_code_that_runs(
    connection: ConnectionInfo, tmp_path: Path, wait_for: Await
) -> None:
    patient = Sandbox(work_dir=tmp_path, limits=Limits(wall_seconds=3600), spares=0, preload=())
    turn = scripted(connection, {"code": "while True: pass"})

    async def cancel() -> None:
        chat = ChatEngine(patient)
        progress = await until(chat, turn, lambda seen: bool(seen.items))
        async with asyncio.timeout(PATIENCE):
            await chat.cancel(sighting_of(turn, progress))
        await chat.close()
        await patient.close()

    wait_for(cancel())


def test_who_waits_for_a_start_and_goes_leaves_nothing_behind(
    chat: ChatEngine, connection: ConnectionInfo, upstream: Upstream, wait_for: Await
) -> None:
    turn = scripted(connection, {"faults": ["slow"], "delay": 600})

    async def leave() -> None:
        starting = asyncio.create_task(chat.start(turn))
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(asked, upstream):
                await asyncio.sleep(0.02)
        starting.cancel()
        await asyncio.wait([starting])

    wait_for(leave())
    assert turn.attempt_key not in chat._works


def test_a_run_whose_time_is_up_expires(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    soon = timezone.now() + timedelta(seconds=1)
    turn = scripted(connection, {"answer": STORY, "seconds": 600}, deadline=soon)
    progress = wait_for(finish(chat, turn))
    assert progress.outcome == "expired"


def test_keys_are_in_no_error(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    secret = connection.keys[0].text
    script = {"status": "failed", "error": {"message": f"Bad luck, {secret}!"}}
    with pytest.raises(Rejected) as refused:
        wait_for(persist(chat, scripted(connection, script)))
    assert secret not in str(refused.value)
    assert "Bad luck" in str(refused.value)


def test_the_message_of_a_round_keeps_its_place(
    chat: ChatEngine, connection: ConnectionInfo, wait_for: Await
) -> None:
    progress = wait_for(persist(chat, scripted(connection, {"code": "1"})))
    assert [type(item) for item in progress.items] == [ToolCallsItem, MessageItem]
    assert [item.key for item in progress.items] == ["call-0-0", "message-1"]
