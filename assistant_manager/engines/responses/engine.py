"""Sending a turn, asking for its answer, and stopping it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from django.utils import timezone

from assistant_manager.engines.base import (
    ConnectionInfo,
    Engine,
    Found,
    GeneratedFile,
    Inspection,
    Json,
    Progress,
    Sighting,
    Turn,
    Usage,
)
from assistant_manager.engines.clients import Client, Clients, prepare_web
from assistant_manager.engines.exceptions import Rejected, Unavailable
from assistant_manager.engines.responses.downloads import fetched
from assistant_manager.engines.responses.files import Files
from assistant_manager.engines.responses.held import Held
from assistant_manager.engines.responses.inputs import origin_of
from assistant_manager.engines.responses.inspection import inspected
from assistant_manager.engines.responses.listening import Ear, Lost, begin
from assistant_manager.engines.responses.options import ResponsesOptions, listens, options_of
from assistant_manager.engines.responses.output import Written, items_of, wanted, worth_keeping
from assistant_manager.engines.responses.requests import (
    LEAST_OUTPUT_TOKENS,
    Draft,
    TooLong,
    include_for,
    output_tokens_left,
    prompt_tokens_left,
)
from assistant_manager.engines.responses.status import Ending, ending, pace, usage_of
from assistant_manager.engines.responses.wire import (
    Response,
    cancel,
    count_tokens,
    create,
    delete,
    retrieve,
)
from assistant_manager.engines.troubles import reading

State: TypeAlias = dict[str, Any]

ADJUSTMENTS_AT_MOST = 6
"""How often one start asks differently; each time the upstream has clearly taken nothing."""
FETCHES_AT_MOST = 3
"""Looks that may fail for a generated file's sake; then the answer goes without it."""
FETCH_PAUSE = 2.0
LOSSES_AT_MOST = 3
"""How often a stream is opened anew after a plain look; then the attempt is only looked at."""
SILENCE = 30.0
"""Seconds without news after which a plain look makes sure that the stream is alive."""
GONE = "The result is no longer available at the upstream."


class ResponsesEngine(Engine):
    """Background responses where the upstream knows them, whole answers where it does not.

    The state of an attempt: `id`, `started` (seconds since 1970), `include`, `files` (our ids
    by the upstream's), `origin` (whose reasoning it is), `note` (the reviewer's), `dropped`
    (fields of the request the upstream did not take), `earlier` (ids of the run's responses
    before it), `heard` (the number of the stream's event it began with; only where it can be
    listened to), `losses` of the stream, `fetches` that failed; at its end the raw `output`, for the attempts to come.
    """

    kind = "responses"
    options = ResponsesOptions
    start_is_repeatable = False

    def __init__(self) -> None:
        self._clients = Clients()
        self._files = Files()
        self._dropped: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
        self._held = Held()

    async def start(self, turn: Turn) -> Progress:
        left = output_tokens_left(turn)
        if left is not None and left < LEAST_OUTPUT_TOKENS:
            return _incomplete("max_completion_tokens")
        client = self._clients.of(turn.connection)
        try:
            draft = Draft(
                turn,
                self._dropped[turn.connection.id, turn.model],
                listens=listens(turn.connection) and self._held.has_room,
            )
            response, ear = await self._taken(client, draft)
        except TooLong:
            return _incomplete("max_prompt_tokens")
        copies = draft.material.copies
        state: State = {
            "id": response["id"],
            "started": int(time.time()),
            "include": draft.include,
            "files": {copy: id for id, copy in copies.items()},
            "origin": origin_of(turn.connection, turn.model),
            "note": turn.note,
            "dropped": sorted(draft.dropped),
            "earlier": [past["id"] for past in turn.past_states if past.get("id")],
        }
        if ear is not None:
            self._held.keep(turn.attempt_key, ear)
            state["heard"] = ear.after
        progress = await self._progress(client, response, state, is_heard=ear is not None)
        return replace(progress, uploads=copies)

    async def look(self, sighting: Sighting) -> Progress:
        client = self._clients.of(sighting.connection)
        state = dict(sighting.state)
        key, is_lost = sighting.attempt_key, False
        if self._can_listen(sighting):
            if news := await self._news(client, sighting):
                return await self._progress(client, news, state, is_heard=True)
            is_lost = not self._held.has(key)
        else:
            self._held.drop(key)
        response = await retrieve(client, state["id"], state.get("include") or ())
        if response is None:
            self._held.drop(key)
            return Progress("failed", state=state, upstream_id=state["id"], error=GONE)
        with reading(client):
            if is_lost and ending(response).outcome == "working":
                state["losses"] = state.get("losses", 0) + 1
        return await self._progress(client, response, state, is_heard=self._held.has(key))

    def _can_listen(self, sighting: Sighting) -> bool:
        state = sighting.state
        if "fetches" in state or not listens(sighting.connection):  # its end was heard already
            return False
        if self._held.has(sighting.attempt_key):
            return True
        can_be_resumed = state.get("heard") is not None
        return can_be_resumed and state.get("losses", 0) < LOSSES_AT_MOST and self._held.has_room

    async def _news(self, client: Client, sighting: Sighting) -> Response | None:
        """What is heard of the response; None where a plain look is due: nothing was heard for
        long, or it cannot be listened to."""
        key, state = sighting.attempt_key, sighting.state
        ear = self._held.take(key)
        if ear is None:
            ear = Ear(client, state["id"], state.get("include") or (), state["heard"])
        is_worth_keeping = False
        try:
            async with asyncio.timeout(SILENCE):
                news = await ear.news()
            is_worth_keeping = True
            return news
        except TimeoutError:
            is_worth_keeping = ear.is_open
            return None
        except Lost:
            return None
        finally:  # a look that is cancelled, too
            if is_worth_keeping:
                self._held.keep(key, ear)
            else:
                self._held.drop(key)
                ear.close()

    async def cancel(self, sighting: Sighting) -> None:
        self._held.drop(sighting.attempt_key)
        if "id" in sighting.state:  # else it ended before anybody was asked
            await self._remove(sighting.connection, [sighting.state["id"]], stop=True)
            await self._remove(sighting.connection, sighting.state.get("earlier", ()))

    async def tidy(self, sighting: Sighting) -> None:
        self._held.drop(sighting.attempt_key)
        ids = [*sighting.state.get("earlier", ()), sighting.state.get("id")]
        await self._remove(sighting.connection, [id for id in ids if id])

    async def find(self, connection: ConnectionInfo, upstream_id: str) -> Found | None:
        client = self._clients.of(connection)
        response = await retrieve(client, upstream_id)
        with reading(client):
            attempt = ((response or {}).get("metadata") or {}).get("am_attempt")
            if response is None or not attempt:
                return None
            tools = [tool["type"] for tool in response.get("tools") or ()]
            dropped = self._dropped.get((connection.id, response.get("model") or ""), set())
            state = {
                "id": upstream_id,
                "started": int(response.get("created_at") or time.time()),
                "include": include_for(tools, options_of(connection), dropped),
            }
            return Found(str(attempt), state)

    async def discard(self, connection: ConnectionInfo, upstream_id: str) -> None:
        await self._remove(connection, [upstream_id], stop=True, always=True)

    async def inspect(self, connection: ConnectionInfo, model: str) -> Inspection:
        return await inspected(self._clients.of(connection), model)

    async def warm_up(self) -> None:
        self._held.make_room()
        await asyncio.to_thread(prepare_web)

    async def close(self) -> None:
        self._held.close()
        await self._clients.close()

    async def _taken(self, client: Client, draft: Draft) -> tuple[Response, Ear | None]:
        """The response as it was when the upstream had taken the request, and who hears what
        becomes of it. A clear refusal that
        tells how to ask instead is no failure: nothing was begun. Raises TooLong."""
        turn, renewed = draft.turn, set[str]()
        seconds = None
        if not draft.options.background:
            seconds = max(1.0, (turn.deadline - timezone.now()).total_seconds())
        for left in reversed(range(ADJUSTMENTS_AT_MOST)):
            try:
                draft.material = await self._files.ready(client, turn, draft.messages)
                await _counted(client, draft)
                body, key = draft.body(), turn.attempt_key
                if body.get("stream"):
                    return await begin(client, body, draft.include, key=key)
                return await create(client, body, key=key, seconds=seconds), None
            except Rejected as refusal:
                lost = self._files.forget_named(str(refusal), turn.connection.id, renewed)
                if not left or not (lost or draft.adjust(refusal)):
                    raise
        raise AssertionError("the last try returns or raises")

    async def _progress(
        self, client: Client, response: Response, state: State, *, is_heard: bool
    ) -> Progress:
        """`is_heard`: the next look waits for what is to be heard."""
        with reading(client):
            return await self._read(client, response, state, is_heard)

    async def _read(
        self, client: Client, response: Response, state: State, is_heard: bool
    ) -> Progress:
        output = response.get("output") or []
        end = ending(response)
        files: Mapping[str, GeneratedFile] = {}
        if end.outcome != "working":
            try:
                files = await self._fetched(client, output, state)
            except Unavailable:
                state = {**state, "fetches": state.get("fetches", 0) + 1}
                end = Ending("working")
        # An attempt that was found again does not know its files.
        ours = state["files"] if "files" in state else self._files.ours(client.info.id)
        items = items_of(output, end, Written(ours, files))
        progress = Progress(end.outcome, items, state=state, upstream_id=state["id"])
        if end.outcome == "working":
            return replace(progress, look_again=_pause(client.info, state, is_heard))
        asks = any(item["type"] == "function_call" for item in output)
        return replace(
            progress,
            outcome="requires_action" if end.outcome == "completed" and asks else end.outcome,
            usage=usage_of(response),
            state={**state, "output": worth_keeping(output)},
            error_code=end.error_code,
            error=client.scrubbed(end.error) if end.error else None,
            incomplete_reason="max_completion_tokens" if end.outcome == "incomplete" else None,
        )

    @staticmethod
    async def _fetched(
        client: Client, output: Sequence[Json], state: State
    ) -> Mapping[str, GeneratedFile]:
        """What code has written. Raises Unavailable as long as there are looks to come."""
        tries_left = state.get("fetches", 0) < FETCHES_AT_MOST
        may_wait = tries_left and options_of(client.info).background
        return await fetched(client, wanted(output), may_wait=may_wait)

    async def _remove(
        self,
        connection: ConnectionInfo,
        ids: Iterable[str],
        *,
        stop: bool = False,
        always: bool = False,
    ) -> None:
        """Stop responses, and delete them unless they are to be kept. What the upstream refuses
        has ended, or is gone already."""
        options = options_of(connection)
        if not options.background:
            return  # nothing was left there
        client = self._clients.of(connection)
        deletes = always or not options.keep_upstream
        for id in ids:
            if stop:
                with suppress(Rejected):
                    await cancel(client, id)
            if deletes:
                with suppress(Rejected):
                    await delete(client, id)


async def _counted(client: Client, draft: Draft) -> None:
    """Shorten the draft until the upstream itself finds that it fits. Raises TooLong."""
    left = prompt_tokens_left(draft.turn)
    if left is None or not draft.options.counts_tokens:
        return
    while await count_tokens(client, draft.body()) > left:
        if not draft.shorten():
            raise TooLong


def _incomplete(reason: Literal["max_completion_tokens", "max_prompt_tokens"]) -> Progress:
    """Known before anybody is asked."""
    return Progress("incomplete", usage=Usage(), incomplete_reason=reason)


def _pause(connection: ConnectionInfo, state: State, is_heard: bool) -> float:
    if "fetches" in state:
        return FETCH_PAUSE
    if is_heard:
        return 0.0
    return pace(connection, time.time() - state["started"])
