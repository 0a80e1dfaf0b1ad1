"""One answer of the model, as it comes in piece by piece.

Pieces are taken as raw JSON: the SDK's own objects promise fields that servers fill as they like,
and cost more time than all the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assistant_manager.engines.base import Json, Usage
from assistant_manager.engines.chat.growing import Growing
from assistant_manager.engines.clients import Client
from assistant_manager.engines.exceptions import Rejected, Unavailable, Unknown

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream

LONGEST_QUOTE = 300  # characters of an upstream's own words
LONGEST_ANSWER = 4 * 2**20
"""Characters of text and arguments: what never ends must not fill the memory."""
MOST_CALLS = 128
"""As the vendor allows in one answer."""


class NoAnswer(Unavailable):
    """The upstream failed at this very question, or its reply was lost."""


class BrokenOff(Unavailable):
    """The upstream began an answer and did not end it."""


@dataclass(slots=True)
class Call:
    """A function the model wants called; `arguments` as it wrote them, JSON or not."""

    name: str = ""
    id: str = ""
    written: Growing = field(default_factory=Growing)

    @property
    def arguments(self) -> str:
        return self.written.text


@dataclass(slots=True)
class Answer:
    """`finish` is the upstream's `finish_reason`, None until the end has come."""

    calls: list[Call] = field(default_factory=list)
    finish: str | None = None
    usage: Usage | None = None
    written: Growing = field(default_factory=Growing)
    size: int = 0
    """Characters of the text and all arguments."""
    _by_index: dict[int | None, Call] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.written.text

    def add(self, piece: object) -> None:
        """Servers differ: any field may be missing, or be something else."""
        told = _object(piece)
        self.usage = _usage(told.get("usage")) or self.usage
        for choice in _objects(told.get("choices")):
            if not choice.get("index"):  # of several answers the first
                self._add_choice(choice)

    def _add_choice(self, choice: Json) -> None:
        if finish := choice.get("finish_reason"):
            self.finish = str(finish)
        # Whole, where a server does not stream.
        delta = _object(choice.get("delta") or choice.get("message"))
        # A refusal is all that is said then.
        for said in (delta.get("content"), delta.get("refusal")):
            self._write(self.written, _text(said))
        for number, piece in enumerate(_objects(delta.get("tool_calls"))):
            place = {"index": number} if "message" in choice else {}
            self._add_call({**place, **piece})

    def _add_call(self, piece: Json) -> None:
        function = _object(piece.get("function"))
        name, id = _text(function.get("name")), _text(piece.get("id"))
        call = self._call_of(piece.get("index"), id, name)
        call.id = id or call.id
        # Some send the name in pieces, some with every piece.
        call.name = name if name.startswith(call.name) else call.name + name
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = json.dumps(arguments)
        self._write(call.written, _text(arguments))

    def _call_of(self, index: object, id: str, name: str) -> Call:
        """By index. Some servers give none, or the same to every call."""
        at = index if isinstance(index, int) else None
        call = self._by_index.get(at)
        if call is None or (name and self._is_another(call, at, id)):
            call = self._by_index[at] = Call()
            self.calls.append(call)
        return call

    @staticmethod
    def _is_another(call: Call, at: int | None, id: str) -> bool:
        if id and call.id:
            return id != call.id
        return at is None and _is_whole(call.arguments)

    def _write(self, where: Growing, text: str) -> None:
        self.size += len(text)
        where.add(text)

    def end(self) -> None:
        for written in (self.written, *(call.written for call in self.calls)):
            written.end()


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _objects(value: object) -> Iterator[Json]:
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, Mapping))


def _text(value: object) -> str:
    """A text, or the texts of a list of parts; what a model thinks before it answers is no text."""
    if isinstance(value, str):
        return value
    return "".join(_text(part.get("text")) for part in _objects(value))


def _is_whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _usage(told: object) -> Usage | None:
    counts = [_object(told).get(f"{kind}_tokens") for kind in ("prompt", "completion")]
    if not any(isinstance(count, int) for count in counts):
        return None
    return Usage(*(count if isinstance(count, int) else 0 for count in counts))


async def listen(
    client: Client, body: Json, headers: Mapping[str, str], heard: Callable[[Answer], None]
) -> Answer:
    """Ask, and tell `heard` of each piece; of the empty answer when the question was taken.

    Raises BrokenOff once the answer had begun; what went wrong before is NoAnswer, Unavailable or
    Rejected.
    """
    answer = Answer()

    async def send(sdk: AsyncOpenAI) -> None:
        from openai import AsyncStream

        stream = await sdk.post(
            "/chat/completions",
            cast_to=object,
            body={**body, "stream": True},
            options={"headers": dict(headers)},
            stream=True,
            stream_cls=AsyncStream[object],
        )
        async with stream:
            heard(answer)
            await _hear_out(client, stream, answer, heard)

    try:
        await client.call(send, creates=True)
    except Unknown as lost:  # asking twice costs tokens, and nothing else
        raise NoAnswer(str(lost)) from None
    return answer


async def _hear_out(
    client: Client,
    stream: AsyncStream[object],
    answer: Answer,
    heard: Callable[[Answer], None],
) -> None:
    import httpx2
    from openai import APIConnectionError, APIError

    try:
        if "json" in stream.response.headers.get("content-type", ""):
            await _hear_whole(client, stream, answer)
        else:
            async for piece in stream:
                answer.add(piece)
                _check_size(client, answer)
                heard(answer)
    except (APIConnectionError, httpx2.HTTPError):
        client.gate.failed()
        raise _broken_off(client, "the connection was lost") from None
    except APIError as error:  # an error among the pieces, in place of the rest
        raise _broken_off(client, error.message) from None
    except (ValueError, RecursionError):
        raise _broken_off(client, "one piece cannot be read") from None
    answer.end()
    if answer.finish is None:
        raise _broken_off(client, "its end is missing")
    if answer.finish in ("tool_calls", "function_call") and not answer.calls:
        raise _broken_off(client, "the functions it was to call are missing")


async def _hear_whole(client: Client, stream: AsyncStream[object], answer: Answer) -> None:
    """Some servers know no streams, and answer at once or not at all."""
    content = bytearray()
    async for chunk in stream.response.aiter_bytes():
        content += chunk
        _check_size(client, answer, len(content))
    whole = _object(json.loads(content))
    if error := whole.get("error"):
        raise _broken_off(client, str(_object(error).get("message") or error))
    answer.add(whole)
    _check_size(client, answer)


def _check_size(client: Client, answer: Answer, size: int = 0) -> None:
    name = client.info.name
    if max(size, answer.size) > LONGEST_ANSWER:
        raise Rejected(f"The answer of “{name}” is longer than {LONGEST_ANSWER // 2**20} MiB.")
    if len(answer.calls) > MOST_CALLS:
        raise Rejected(f"“{name}” called more than {MOST_CALLS} functions at once.")


def _broken_off(client: Client, why: str) -> BrokenOff:
    said = client.scrubbed(why)[:LONGEST_QUOTE].rstrip(".")
    return BrokenOff(f"“{client.info.name}” did not finish its answer: {said}.")
