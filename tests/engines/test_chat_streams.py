"""Whatever a server streams: read as far as it can be, and never more than a run can hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.base import ConnectionInfo, Progress, ToolCall, ToolCallsItem, Usage
from assistant_manager.engines.chat import ChatEngine
from assistant_manager.engines.exceptions import Rejected
from tests.engines.chat import persist
from tests.engines.conftest import CONNECTION_IDS, Await
from tests.engines.turns import WEATHER, answer_of, make_turn

DONE = b"data: [DONE]\n\n"


class Raw:
    """A server that sends what it was given, byte for byte; the last reply again and again.
    `ends`: whether it says where a reply ends, or only hangs up."""

    def __init__(self, replies: Iterable[list[bytes]], content_type: str, ends: bool) -> None:
        self._replies, self._type, self._ends = list(replies), content_type, ends
        self.asked: list[dict[str, Any]] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            sizes = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
            body = await reader.readexactly(int(sizes[0].split(b":")[1]))
            self.asked.append(json.loads(body))
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {self._type}\r\n".encode())
            writer.write(b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in self._replies[min(len(self.asked), len(self._replies)) - 1]:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            if self._ends:
                writer.write(b"0\r\n\r\n")
        writer.close()


@asynccontextmanager
async def serving(raw: Raw) -> AsyncIterator[str]:
    server = await asyncio.start_server(raw.answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@pytest.fixture
def hear(chat: ChatEngine, chat_connection: ConnectionInfo, wait_for: Await) -> Any:
    """What becomes of a run that is answered with these bytes, and what the server was asked."""

    async def play(
        *replies: list[bytes],
        content_type: str = "text/event-stream",
        ends: bool = True,
        **changes: Any,
    ) -> tuple[Progress, list[dict[str, Any]]]:
        raw = Raw(replies, content_type, ends)
        async with serving(raw) as url:
            number = next(CONNECTION_IDS)
            connection = replace(chat_connection, id=number, base_url=url)
            turn = make_turn("Hello?", connection=connection, attempt_key=f"raw-{number}")
            return await persist(chat, replace(turn, **changes)), raw.asked

    return lambda *replies, **changes: wait_for(play(*replies, **changes))


def event(delta: Any, finish: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def said(*pieces: Any) -> list[bytes]:
    return [*(event({"content": piece}) for piece in pieces), event({}, "stop"), DONE]


def called(*pieces: dict[str, Any]) -> list[bytes]:
    return [*(event({"tool_calls": [piece]}) for piece in pieces), event({}, "tool_calls"), DONE]


def calls_of(progress: Progress) -> list[ToolCall]:
    return [
        call for item in progress.items if isinstance(item, ToolCallsItem) for call in item.calls
    ]


# --- texts ------------------------------------------------------------------------------

HELLO = said("Hel", "lo 😀")


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param([bytes([byte]) for byte in b"".join(HELLO)], id="byte by byte"),
        pytest.param([b"".join(HELLO).replace(b"\n", b"\r\n")], id="CRLF"),
        pytest.param([b": a comment\n\n", *HELLO[:1], b":\n\n", *HELLO[1:]], id="comments"),
        pytest.param(HELLO[:-1], id="no [DONE]"),
        pytest.param([b'data: {"choices": []}\n\n', *HELLO], id="no choices"),
        pytest.param([b'data: {"choices": null}\n\n', *HELLO], id="choices null"),
        pytest.param([b'data: {"choices": [null]}\n\n', *HELLO], id="a choice null"),
        pytest.param([b'data: {"choices": [{}]}\n\n', *HELLO], id="an empty choice"),
        pytest.param([b"data: null\n\n", b"data: 5\n\n", b"data: []\n\n", *HELLO], id="no objects"),
        pytest.param([event(None), event({"content": None}), *HELLO], id="no delta"),
        pytest.param([event({"reasoning_content": "Hm."}), *HELLO], id="reasoning beside it"),
        pytest.param([event({"content": 5, "tool_calls": 5}), *HELLO], id="numbers for texts"),
        pytest.param(
            said([{"type": "text", "text": "Hello"}], [{"type": "text", "text": " 😀"}, None]),
            id="texts in parts",
        ),
        pytest.param(said("Hello \ud83d", "\ude00"), id="a character in two halves"),
        pytest.param([event({"content": "Hello 😀"}, "stop", usage=[])], id="all in one"),
    ],
)
def test_a_text_is_read_however_it_is_wrapped(hear: Any, reply: list[bytes]) -> None:
    progress, asked = hear(reply)
    assert (progress.outcome, answer_of(progress), len(asked)) == ("completed", "Hello 😀", 1)


def test_of_several_choices_the_first_counts(hear: Any) -> None:
    choices = [{"index": n, "delta": {"content": str(n)}, "finish_reason": "stop"} for n in (0, 1)]
    other = b'data: {"choices": [{"index": 1, "delta": {"content": "x"}}]}\n\n'
    progress, _ = hear([other, b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n"])
    assert answer_of(progress) == "0"


def test_half_a_character_at_the_end_is_shown_as_a_gap(hear: Any) -> None:
    progress, _ = hear(said("Hello", "\ud83d"))
    assert answer_of(progress) == "Hello�"


def test_tokens_told_with_each_piece_count_once(hear: Any) -> None:
    usage = [{"prompt_tokens": 7, "completion_tokens": n} for n in (1, 2, 3)]
    told = [event({"content": "a"}, usage=spent) for spent in usage]
    progress, _ = hear([*told, event({}, "stop", usage={"prompt_tokens": "many"})])
    assert progress.usage == Usage(7, 3)


@pytest.mark.parametrize(
    "junk",
    [b"data: {\n\n", b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n', b"data: " + b"[" * 200_000 + b"\n\n"],
    ids=["half a piece", "no UTF-8", "depth without end"],
)  # fmt: skip
def test_a_piece_that_cannot_be_read_breaks_the_answer_off(hear: Any, junk: bytes) -> None:
    progress, asked = hear([HELLO[0], junk, *HELLO[1:]], HELLO)
    assert (answer_of(progress), len(asked)) == ("Hello 😀", 2)


def test_a_server_that_does_not_stream_is_understood(hear: Any) -> None:
    call = {"id": "a", "function": {"name": "get_weather", "arguments": {"place": "Bern"}}}
    message = {"role": "assistant", "content": "Wait.", "tool_calls": [call, {**call, "id": "b"}]}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    whole["usage"] = {"prompt_tokens": 5, "completion_tokens": 2}
    reply = [json.dumps(whole, indent=2).encode()]
    progress, asked = hear(reply, content_type="application/json", tools=[WEATHER])
    assert [json.loads(call.arguments) for call in calls_of(progress)] == [{"place": "Bern"}] * 2
    assert (answer_of(progress), progress.usage.prompt_tokens) == ("Wait.", 5)
    assert len(asked) == 1


@pytest.mark.parametrize("body", [b'{"error": {"message": "Out of cheese"}}', b"[]", b"{", b"5"])
def test_a_body_without_an_answer_is_told_in_words(hear: Any, body: bytes) -> None:
    with pytest.raises(Rejected, match="did not finish its answer") as refused:
        hear([body], content_type="application/json")
    assert ("cheese" in str(refused.value)) == (b"cheese" in body)


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
def test_a_connection_that_is_lost_is_told_in_words(hear: Any, content_type: str) -> None:
    with pytest.raises(Rejected, match="the connection was lost"):
        hear(HELLO[:1], content_type=content_type, ends=False)


def test_a_text_without_end_is_cut_off_in_words(hear: Any) -> None:
    endless = [event({"content": "x" * 1_000_000})] * 100
    with pytest.raises(Rejected, match="longer than"):
        hear(endless)


def test_a_hundred_thousand_pieces_take_no_longer_than_their_number(hear: Any) -> None:
    many = [event({"content": "word "}) * 1_000] * 100
    progress, _ = hear([*many, event({}, "stop"), DONE])
    assert len(answer_of(progress)) == 500_000


# --- calls ------------------------------------------------------------------------------


def piece(
    name: str | None = None, arguments: Any = None, id: str | None = None, index: int | None = None
) -> dict[str, Any]:
    made: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    return {**made, **({"index": index} if index is not None else {}), **({"id": id} if id else {})}


BERN, OSLO = '{"place": "Bern"}', '{"place": "Oslo"}'


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([piece("get_weather", BERN, "a", 0), piece("get_weather", OSLO, "b", 1)], id="whole"),
        pytest.param([piece("get_weather", BERN, "a", 0), piece("get_weather", OSLO, "b", 0)], id="one index"),
        pytest.param([piece("get_weather", BERN, "a", 0), piece("get_weather", OSLO, "a", 1)], id="one id"),
        pytest.param([piece("get_weather", BERN, "a"), piece("get_weather", OSLO, "b")], id="no index"),
        pytest.param([piece("get_weather", BERN), piece("get_weather", OSLO)], id="no index, no id"),
        pytest.param([piece("get_", "", "a", 0), piece("weather", BERN, "a", 0), piece("get_weather", OSLO, "b", 1)], id="name in two"),
        pytest.param([piece("get_weather", "", "a"), piece(None, BERN), piece("get_weather", OSLO, "b")], id="pieces without index"),
        pytest.param([piece("get_weather", BERN[:5], "a", 0), piece("get_weather", BERN[5:], "a", 0), piece("get_weather", OSLO, "b", 1)], id="name each time"),
        pytest.param([piece("get_weather", {"place": "Bern"}, "a", 0), piece("get_weather", {"place": "Oslo"}, "b", 1)], id="objects"),
        pytest.param([piece("get_weather", BERN[:9], "a", 0), piece("get_weather", OSLO, "b", 1), piece(None, BERN[9:], None, 0)], id="interleaved"),
    ],
)  # fmt: skip
def test_calls_are_told_apart(hear: Any, pieces: list[dict[str, Any]]) -> None:
    progress, _ = hear(called(*pieces), tools=[WEATHER])
    assert progress.outcome == "requires_action"
    assert [call.name for call in calls_of(progress)] == ["get_weather"] * 2
    places = [json.loads(call.arguments)["place"] for call in calls_of(progress)]
    assert places == ["Bern", "Oslo"]


def test_an_answer_that_is_said_to_call_and_calls_nothing_is_asked_for_again(hear: Any) -> None:
    progress, asked = hear([event({}, "tool_calls"), DONE], HELLO)
    assert (progress.outcome, answer_of(progress), len(asked)) == ("completed", "Hello 😀", 2)


@pytest.mark.parametrize("name", ["functions.python ", "", "x" * 100, "wetter für morgen"])
def test_a_name_that_no_function_can_have_is_not_sent_back(hear: Any, name: str) -> None:
    progress, asked = hear(called(piece(name, "{}", "a", 0)), HELLO, tools=[WEATHER])
    [call] = asked[1]["messages"][-2]["tool_calls"]
    assert call["function"]["name"].isascii()
    assert 0 < len(call["function"]["name"]) <= 64
    assert call["function"]["name"].replace("_", "").isalnum()
    assert answer_of(progress) == "Hello 😀"


@pytest.mark.parametrize("arguments", ["[" * 100_000, "\ud83d", '{"code": "\ud83d"}', "9" * 5000])
def test_arguments_of_any_kind_are_the_models_to_mend(hear: Any, arguments: str) -> None:
    progress, asked = hear(called(piece("python", arguments, "a", 0)), HELLO)
    assert (answer_of(progress), len(asked)) == ("Hello 😀", 2)
