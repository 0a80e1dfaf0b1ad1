"""Listening to an answer over real HTTP: what is heard, and what becomes of it when nothing is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant_manager.engines import web
from assistant_manager.engines.base import Progress, Sighting, ToolCallsItem, Turn
from assistant_manager.engines.exceptions import Unavailable, Unknown
from assistant_manager.engines.responses import ResponsesEngine, engine, held, listening
from tests.engines.conftest import Await
from tests.engines.responses.conftest import Ask
from tests.engines.turns import answer_of, finish, sighting_of
from tests.fakes.upstream.running import ROOT, Upstream

LISTEN = {"listen": True, "poll_seconds": 0.02}
LONG = 600
"""Seconds an upstream works on what is to be interrupted."""
PATIENCE = 60
STEP_DONE = 3
"""The number of the event that ends a step of code, where that is what an answer begins with."""
Listen = Callable[..., Turn]


@pytest.fixture
def turn(ask: Ask) -> Listen:
    """A turn whose answer is listened to."""

    def turn(**script: Any) -> Turn:
        return ask(script={"id": "heard", **script}, options=LISTEN)

    return turn


@pytest.fixture
def hear(responses: ResponsesEngine, turn: Listen, wait_for: Await) -> Callable[..., Progress]:
    return lambda **script: wait_for(finish(responses, turn(**script)))


@pytest.fixture
def another(wait_for: Await) -> Iterator[ResponsesEngine]:
    """The engine of a process that takes over."""
    another = ResponsesEngine()
    yield another
    wait_for(another.close())


def looks(upstream: Upstream) -> list[dict[str, str]]:
    """The queries of the requests that followed the create, oldest first."""
    return [entry["query"] for entry in upstream.journal("GET")]


def streams(upstream: Upstream) -> list[str]:
    """Behind which event each further stream began."""
    return [query["starting_after"] for query in looks(upstream) if "stream" in query]


def plain(upstream: Upstream) -> int:
    return sum("stream" not in query for query in looks(upstream))


async def started(engine: ResponsesEngine, turn: Turn) -> Sighting:
    return sighting_of(turn, await engine.start(turn))


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


# --- hearing ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        {},
        {"scattered": True},
        {"answer": "数学 🙏🏽 — «x = ½»\u2028\r\n\tend", "scattered": True},
        {"answer": "word " * 320},
        {"answer": 'data: {"sequence_number": 7}\n\nevent: response.failed\ndata: {}\n\n'},
    ],
)
def test_one_request_asks_and_answers(
    hear: Callable[..., Progress], upstream: Upstream, script: dict[str, Any]
) -> None:
    progress = hear(**script)
    assert progress.outcome == "completed"
    assert answer_of(progress) == script.get("answer", "x = 1")
    assert progress.usage is not None
    assert looks(upstream) == []


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ({"status": "failed"}, "failed"),
        ({"status": "incomplete"}, "incomplete"),
        ({"tools": [{"name": "get_weather", "arguments": {}}]}, "requires_action"),
    ],
)
def test_every_end_is_heard(
    hear: Callable[..., Progress], upstream: Upstream, script: dict[str, Any], outcome: str
) -> None:
    assert hear(**script).outcome == outcome
    assert looks(upstream) == []


def test_the_end_is_known_when_it_comes_and_no_sooner(
    responses: ResponsesEngine, turn: Listen, wait_for: Await
) -> None:
    async def scenario() -> tuple[Progress, float, Progress]:
        asked = turn(seconds=1)
        began = time.monotonic()
        first = await responses.start(asked)
        last = await responses.look(sighting_of(asked, first))
        return first, time.monotonic() - began, last

    first, seconds, last = wait_for(scenario())
    assert (first.outcome, first.look_again, last.outcome) == ("working", 0, "completed")
    assert seconds >= 0.99


def test_a_step_is_shown_before_the_answer_is_there(
    responses: ResponsesEngine, turn: Listen, wait_for: Await, upstream: Upstream
) -> None:
    async def scenario() -> tuple[Progress, Progress]:
        asked = turn(code="6 * 7", logs="42", answer="It is forty-two.", gate=STEP_DONE)
        shown = await responses.look(await started(responses, asked))
        upstream.open_gate()
        return shown, await responses.look(sighting_of(asked, shown))

    shown, last = wait_for(scenario())
    assert shown.outcome == "working"
    [step] = shown.items
    assert isinstance(step, ToolCallsItem)
    assert (step.calls[0].input, step.calls[0].logs, step.done) == ("6 * 7", "42", False)
    assert (last.outcome, last.items[0].key) == ("completed", step.key)


def test_an_upstream_that_does_not_stream_is_looked_at(
    hear: Callable[..., Progress], upstream: Upstream
) -> None:
    assert answer_of(hear(mute=True, seconds=0.1)) == "x = 1"
    assert streams(upstream) == []
    assert plain(upstream) >= 1


def test_an_upstream_that_refuses_to_stream_is_asked_without_and_remembered(
    responses: ResponsesEngine,
    turn: Listen,
    wait_for: Await,
    bodies: Callable[[], list[dict[str, Any]]],
) -> None:
    refusing = {"faults": ["unsupported"], "unsupported": "stream"}
    assert answer_of(wait_for(finish(responses, turn(**refusing)))) == "x = 1"
    wait_for(finish(responses, turn()))
    assert ["stream" in body for body in bodies()] == [True, False, False]


def test_azure_is_listened_to_only_where_that_is_asked_for(
    ask: Ask,
    responses: ResponsesEngine,
    upstream: Upstream,
    wait_for: Await,
    bodies: Callable[[], list[dict[str, Any]]],
) -> None:
    for listen in (None, True):
        asked = ask(script={}, options={"listen": listen, "poll_seconds": 0.02})
        azure = replace(
            asked.connection, base_url=f"{upstream.url}/openai/v1", api_version="preview"
        )
        wait_for(finish(responses, replace(asked, connection=azure)))
    assert ["stream" in body for body in bodies()] == [False, True]


# --- streams that break -----------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "eof"])
def test_a_stream_that_is_cut_is_taken_up_behind_the_last_event(
    hear: Callable[..., Progress], upstream: Upstream, fault: str
) -> None:
    progress = hear(answer="word " * 40, stream_faults=[f"{fault}:9", f"{fault}:17"])
    assert answer_of(progress) == "word " * 40
    assert streams(upstream) == ["9", "17"]
    assert plain(upstream) == 0


def test_what_was_done_before_a_cut_is_still_shown_after_it(
    responses: ResponsesEngine, turn: Listen, wait_for: Await
) -> None:
    async def scenario() -> Progress:
        cut = [f"cut:{STEP_DONE}"]
        script = {"code": "6 * 7", "gate": STEP_DONE + 1, "stream_faults": cut}
        return await responses.look(await started(responses, turn(**script)))

    assert [item.key for item in wait_for(scenario()).items] == ["tools-0"]


@pytest.mark.parametrize("fault", ["garbage:4", "error:4", "cut:1"])
@pytest.mark.parametrize("refused", ["500", "503", "429", "html", "cut_after"])
def test_where_a_stream_cannot_be_taken_up_the_answer_is_looked_at(
    responses: ResponsesEngine, turn: Listen, wait_for: Await, fault: str, refused: str
) -> None:
    asked = turn(stream_faults=[fault], look_faults=[refused] * 3, seconds=0.3)
    assert answer_of(wait_for(patiently(responses, asked))) == "x = 1"


def test_an_upstream_that_does_not_know_the_stream_may_know_the_answer(
    responses: ResponsesEngine, turn: Listen, wait_for: Await
) -> None:
    asked = turn(stream_faults=["cut:4"], look_faults=["missing_file"], seconds=0.5)
    assert answer_of(wait_for(patiently(responses, asked))) == "x = 1"


async def patiently(engine: ResponsesEngine, turn: Turn) -> Progress:
    """As the driver does, which asks again where the upstream is unavailable."""
    progress = await engine.start(turn)
    async with asyncio.timeout(PATIENCE):
        while progress.outcome == "working":
            await asyncio.sleep(0.02)
            with suppress(Unavailable):
                progress = await engine.look(sighting_of(turn, progress))
    return progress


def test_an_upstream_whose_streams_never_last_is_only_looked_at(
    responses: ResponsesEngine, turn: Listen, wait_for: Await, upstream: Upstream
) -> None:
    asked = turn(stream_faults=["cut:1", *["empty"] * 50], gate=1)

    async def scenario() -> Progress:
        progress = await responses.start(asked)
        for _ in range(3 * engine.LOSSES_AT_MOST):
            progress = await responses.look(sighting_of(asked, progress))
        upstream.open_gate()
        return await responses.look(sighting_of(asked, progress))

    assert answer_of(wait_for(scenario())) == "x = 1"
    assert len(streams(upstream)) <= engine.LOSSES_AT_MOST + 1
    assert all("stream" not in query for query in looks(upstream)[-engine.LOSSES_AT_MOST :])


def test_a_stream_that_falls_silent_is_looked_after(
    responses: ResponsesEngine,
    turn: Listen,
    wait_for: Await,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "SILENCE", 0.2)
    progress = wait_for(finish(responses, turn(stream_faults=["stall:3"], seconds=1)))
    assert answer_of(progress) == "x = 1"
    assert streams(upstream) == []
    assert plain(upstream) >= 1


@pytest.mark.parametrize("fault", ["cut_after", "500_after", "garbage", "html"])
def test_a_create_that_ends_before_its_first_event_is_unknown(
    responses: ResponsesEngine, turn: Listen, wait_for: Await, fault: str
) -> None:
    with pytest.raises(Unknown):
        wait_for(responses.start(turn(faults=[fault])))
    assert len(responses._held) == 0


def test_a_stream_that_does_not_begin_is_unknown(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    script = {"id": "heard", "faults": ["slow"], "delay": LONG}
    with pytest.raises(Unknown):
        wait_for(responses.start(ask(script=script, options={**LISTEN, "timeout_seconds": 0.3})))


# --- whose stream it is -----------------------------------------------------------------


def test_another_process_goes_on_listening(
    responses: ResponsesEngine,
    another: ResponsesEngine,
    turn: Listen,
    wait_for: Await,
    upstream: Upstream,
) -> None:
    async def scenario() -> Progress:
        asked = turn(code="6 * 7", seconds=1)
        first = await started(responses, asked)
        await responses.close()
        state = json.loads(json.dumps(first.state))
        progress = await another.look(replace(first, state=state))
        while progress.outcome == "working":
            progress = await another.look(sighting_of(asked, progress))
        return progress

    progress = wait_for(scenario())
    assert (progress.outcome, answer_of(progress)) == ("completed", "x = 1")
    assert len(progress.items) == 2
    assert streams(upstream) == ["0"]
    assert plain(upstream) == 0


def test_a_look_that_is_cancelled_hangs_up_and_may_be_made_again(
    responses: ResponsesEngine, turn: Listen, wait_for: Await, upstream: Upstream
) -> None:
    async def scenario() -> Progress:
        asked = turn(gate=1)
        sighting = await started(responses, asked)
        looking = asyncio.create_task(responses.look(sighting))
        await asyncio.sleep(0)
        await until(lambda: upstream.counts()["accepted"])
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        assert len(responses._held) == 0
        await until(lambda: upstream.journal("POST")[0]["status"] == 499)
        upstream.open_gate()
        return await responses.look(sighting)

    assert answer_of(wait_for(scenario())) == "x = 1"


def test_a_cancelled_answer_leaves_no_stream_behind(
    responses: ResponsesEngine, turn: Listen, wait_for: Await, upstream: Upstream
) -> None:
    async def scenario() -> None:
        sighting = await started(responses, turn(seconds=LONG))
        await responses.cancel(sighting)
        await until(lambda: upstream.journal("POST", "/responses")[0]["status"] in (499, 200))

    wait_for(scenario())
    assert len(responses._held) == 0
    assert len(upstream.journal("POST", "/cancel")) == 1


def test_a_stream_nobody_comes_back_for_is_closed(
    responses: ResponsesEngine,
    turn: Listen,
    wait_for: Await,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held, "FORGOTTEN_AFTER", 0.1)

    async def scenario() -> None:
        await started(responses, turn(seconds=LONG))
        await until(lambda: upstream.journal("POST")[0]["status"] == 499)

    wait_for(scenario())
    assert len(responses._held) == 0


def test_without_room_for_another_stream_the_answer_is_looked_at(
    responses: ResponsesEngine,
    turn: Listen,
    wait_for: Await,
    upstream: Upstream,
    bodies: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses._held, "_most", 1)

    async def scenario() -> Progress:
        await started(responses, replace(turn(seconds=LONG), attempt_key="first"))
        return await finish(responses, turn())

    assert answer_of(wait_for(scenario())) == "x = 1"
    assert ["stream" in body for body in bodies()] == [True, False]


def test_a_connection_is_used_again_after_its_stream_has_ended(
    responses: ResponsesEngine, turn: Listen, wait_for: Await, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "IDLE_SECONDS", PATIENCE)

    async def scenario() -> int:
        for _ in range(5):
            asked = turn()
            progress = await finish(responses, asked)
            await responses.tidy(sighting_of(asked, progress))
        client = responses._clients.of(asked.connection)
        return sum(len(lines) for lines in client._web.session.connector._conns.values())  # type: ignore[union-attr]

    assert wait_for(scenario()) == 1


# --- what it costs ----------------------------------------------------------------------

QUESTION = """
import asyncio, sys
import django
django.setup()
from assistant_manager.engines.responses import ResponsesEngine
from assistant_manager.engines.base import ConnectionInfo, Key
from tests.engines.turns import finish, make_turn, sighting_of

async def main():
    engine = ResponsesEngine()
    await engine.warm_up()
    connection = ConnectionInfo(kind="responses", base_url=sys.argv[1], keys=[Key(1, "sk-1")])
    turn = make_turn(connection=connection, instructions="{}", tools=[])
    progress = await finish(engine, turn)
    await engine.tidy(sighting_of(turn, progress))
    await engine.close()
    print(progress.outcome, *{"openai", "httpx2"} & sys.modules.keys())

asyncio.run(main())
"""


def test_a_question_and_its_answer_never_load_the_sdk(upstream: Upstream, tmp_path: Path) -> None:
    asking = subprocess.run(
        [sys.executable, "-c", QUESTION, f"{upstream.url}/v1"],
        cwd=ROOT,
        env={"PATH": "", "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert asking.stdout.split() == ["completed"], asking.stderr


def test_pieces_of_text_are_not_read(
    hear: Callable[..., Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(listening.Ear, "_take_item", lambda self, event: read.append(event["type"]))
    assert len(answer_of(hear(answer="word " * 320))) == 1600
    assert read == ["response.output_item.done"]
