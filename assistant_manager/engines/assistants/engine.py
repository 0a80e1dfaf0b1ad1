"""The engine for upstreams that serve the Assistants API themselves.

Our rows are the truth: each attempt makes a thread of its own, with the whole conversation, and
an assistant of its own. Both are made by `start`; the run is made by the first look that finds
none in the thread. So whatever crashes, or whichever reply is lost, the next look sees what
exists: nothing runs twice, and what a lost start leaves behind has cost no tokens.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from assistant_manager.engines.assistants import inspection, looking, requests, starting
from assistant_manager.engines.assistants.options import AssistantsOptions
from assistant_manager.engines.assistants.state import State
from assistant_manager.engines.assistants.status import ENDED
from assistant_manager.engines.assistants.wire import Missing, Wire
from assistant_manager.engines.base import (
    ConnectionInfo,
    Engine,
    Inspection,
    Progress,
    Sighting,
    Turn,
    Usage,
)
from assistant_manager.engines.clients import Clients
from assistant_manager.engines.exceptions import Expired
from assistant_manager.engines.troubles import reading


class AssistantsEngine(Engine):
    kind = "assistants"
    options = AssistantsOptions
    start_is_repeatable = True

    def __init__(self) -> None:
        self._clients = Clients()

    def _wire(self, connection: ConnectionInfo) -> Wire:
        return Wire(self._clients.of(connection))

    async def start(self, turn: Turn) -> Progress:
        wire = self._wire(turn.connection)
        if resumed := await starting.resume(wire, turn):
            return resumed
        for what, left in requests.budgets(turn).items():
            if left < requests.LEAST_TOKENS:
                reason: Any = f"max_{what}_tokens"
                return Progress("incomplete", usage=Usage(), incomplete_reason=reason)
        return await starting.begin(wire, turn)

    async def look(self, sighting: Sighting) -> Progress:
        wire, state = self._wire(sighting.connection), State.read(sighting.state)
        if state is None:
            raise Expired("The connection was of another kind when this attempt began.")
        try:
            with reading(wire.client):
                if not state.run:
                    return await looking.enter(wire, state, sighting)
                return await looking.see(wire, state)
        except Missing as error:
            raise Expired(str(error)) from error

    async def cancel(self, sighting: Sighting) -> None:
        wire, state = self._wire(sighting.connection), State.read(sighting.state)
        if state is None:
            return
        with suppress(Missing):
            for run in await wire.all(state.runs):
                if run["status"] not in (*ENDED, "cancelling"):
                    await looking.cancel(wire, f"{state.runs}/{run['id']}")
        await self.tidy(sighting)

    async def tidy(self, sighting: Sighting) -> None:
        if state := State.read(sighting.state):
            await starting.remove(self._wire(sighting.connection), state)

    async def inspect(self, connection: ConnectionInfo, model: str) -> Inspection:
        return await inspection.inspect(self, self._wire(connection), connection, model)

    async def close(self) -> None:
        await self._clients.close()
