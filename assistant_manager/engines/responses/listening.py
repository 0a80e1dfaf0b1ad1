"""Listening to a background response, so that its end is known the moment it happens.

The stream may be cut at any time: it is opened again behind the event heard last. Where that does not
help Lost is raised, and a plain look tells more. Nothing in here is worth keeping.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assistant_manager.engines.base import Json
from assistant_manager.engines.clients import Client
from assistant_manager.engines.events import Events
from assistant_manager.engines.exceptions import EngineError
from assistant_manager.engines.responses.output import HOSTED
from assistant_manager.engines.responses.wire import (
    Response,
    checked,
    open_create,
    open_stream,
    response_in,
)
from assistant_manager.engines.troubles import Cut, Refused, Unreadable

if TYPE_CHECKING:
    from assistant_manager.engines.web import Line, Stream

BEGINNINGS = {"response.created", "response.queued", "response.in_progress"}
ENDS = {"response.completed", "response.failed", "response.incomplete", "response.cancelled"}
ITEM_DONE = "response.output_item.done"
WANTED = frozenset({*BEGINNINGS, *ENDS, ITEM_DONE, "error"})
END_MAY_FOLLOW = 0.5
"""Seconds that a finished step waits to be told together with the end."""
PAUSE = (0.05, 0.3)
"""Seconds before a stream that was cut is opened again."""
LIMITS = {"rate_limit_exceeded", "insufficient_quota"}


class Lost(Exception):
    """No more is to be heard for now."""


class Ear:
    """Hears one response. Used by one look at a time."""

    def __init__(self, client: Client, id: str, include: Sequence[str], after: int | None) -> None:
        """`after`: the number of the event behind which to begin; None: it cannot be resumed."""
        self._client, self._id, self._include = client, id, include
        self.after = after
        self._stream: Stream | None = None
        self._events = Events(WANTED)
        self._unread: deque[dict[str, Any]] = deque()
        self._output: dict[int, Json] = {}
        self._has_step_to_tell = False

    @property
    def is_open(self) -> bool:
        return self._stream is not None

    def close(self) -> None:
        """To be called whenever the ear is no longer used, once or more."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def news(self) -> Response:
        """The response as soon as it has ended; or as far as it has come, when a tool was used and
        more is to follow. Raises Lost. Cancelled or timed out, it may be asked again."""
        while True:
            try:
                return await self._next_news(self._stream or await self._open())
            except (Cut, Unreadable) as error:
                before = self.after
                self._hang_up()
                if self.after == before:
                    raise Lost from error
                await asyncio.sleep(random.uniform(*PAUSE))  # noqa: S311 - no secret
            except EngineError as error:
                raise Lost from error

    async def _open(self) -> Stream:
        if self.after is None:
            raise Lost
        self._events, self._unread = Events(WANTED), deque()
        after = self.after
        self._stream = await self._client.ask(
            lambda line: open_stream(line, self._id, self._include, after=after)
        )
        if not self._stream.has_events:
            self.close()
            raise Lost
        return self._stream

    def _hang_up(self) -> None:
        """Close, and remember where to go on."""
        self.close()
        if self._events.number is not None:
            self.after = self._events.number

    async def _next_news(self, stream: Stream) -> Response:
        while True:
            try:
                async with asyncio.timeout(END_MAY_FOLLOW if self._has_step_to_tell else None):
                    event = await self._event(stream)
            except TimeoutError:
                self._has_step_to_tell = False
                return self._so_far()
            if event["type"] in ENDS:
                return self._response(event)
            if event["type"] == ITEM_DONE:
                self._take_item(event)
            elif event["type"] not in BEGINNINGS:
                raise Cut

    async def begin(self, stream: Stream) -> Response:
        """Hear the response as it began, on the stream of its own create."""
        self._stream = stream
        event = await self._event(stream)
        if event["type"] == "error":
            said = event["error"] if isinstance(event.get("error"), dict) else event
            raise Refused(429 if said.get("code") in LIMITS else 500, {}, said)
        response = checked(event.get("response"))
        number = event.get("sequence_number")
        self._id, self.after = response["id"], number if isinstance(number, int) else None
        return response

    async def _event(self, stream: Stream) -> dict[str, Any]:
        """The next one that matters. Cancelled, none is missed."""
        while not self._unread:
            chunk = await stream.some()
            if not chunk:
                raise Cut
            self._unread += self._events.feed(chunk)
        return self._unread.popleft()

    def _take_item(self, event: Json) -> None:
        item, at = event.get("item"), event.get("output_index")
        if not (isinstance(item, dict) and isinstance(item.get("type"), str)):
            raise Unreadable
        if isinstance(at, int):
            self._output[at] = item
            self._has_step_to_tell |= item["type"] in HOSTED

    def _so_far(self) -> Response:
        """Without what stands behind an item that is not done: places must not change later."""
        output: list[Json] = []
        while len(output) in self._output:
            output.append(self._output[len(output)])
        return {"id": self._id, "status": "in_progress", "output": output}

    def _response(self, event: Json) -> Response:
        response = checked(event.get("response"))
        if response["id"] != self._id:
            raise Unreadable
        return response


async def begin(
    client: Client, body: Response, include: Sequence[str], *, key: str
) -> tuple[Response, Ear | None]:
    """Begin an answer and listen to it, as `create` does without. No ear where the upstream does
    not stream but replies at once."""

    async def send(line: Line) -> tuple[Response, Ear | None]:
        stream = await open_create(line, body, key=key)
        try:
            async with asyncio.timeout(line.seconds):
                if stream.has_events:
                    ear = Ear(client, "", include, None)
                    return await ear.begin(stream), ear
                return response_in(await stream.whole()), None
        except TimeoutError as error:
            stream.close()
            raise Cut from error
        except BaseException:
            stream.close()
            raise

    return await client.ask(send, creates=True)
