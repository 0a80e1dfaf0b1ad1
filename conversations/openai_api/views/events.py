"""/threads/{thread_id}/runs/{run_id}/events: ours, no vendor has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Annotated

import orjson
from django.http import HttpResponse
from pydantic import Field

from assistant_manager.openai_api.base import accepts
from assistant_manager.openai_api.errors import WireError
from assistant_manager.openai_api.validation import Query
from assistant_manager.serving import Following
from conversations.models import Run
from conversations.openai_api.base import ThreadView
from conversations.openai_api.serializers import without_content
from conversations.streams import Told, streams, told_of

HIGHEST = 2**31 - 1
STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Proxies neither keep it nor hold it back."""


class After(Query):
    after: Annotated[int, Field(ge=0, le=HIGHEST)] = 0


class RunEvents(ThreadView):
    @accepts(query=After)
    def get(self, thread_id: str, run_id: str, query: After) -> HttpResponse | Following:
        run: Run = self.run(thread_id, run_id)
        after = self._last_seen(query.after)
        if run.is_ended:
            return HttpResponse(
                block(told_of(run, after)), content_type="text/event-stream", headers=STREAM
            )

        async def follow() -> AsyncGenerator[bytes]:
            async for events in streams().follow(run, after):
                yield block(events)

        so_far = (block(told_of(run, after)) for _ in range(1))
        return Following(so_far, follow, content_type="text/event-stream", headers=STREAM)

    def _last_seen(self, after: int) -> int:
        """What a reader who comes back says it has seen."""
        said = self.request.headers.get("Last-Event-ID", "")
        if not said:
            return after
        if not (said.isascii() and said.isdigit() and int(said[:20]) <= HIGHEST):
            raise WireError(
                "Invalid 'Last-Event-ID': expected the id of an event.", code="invalid_value"
            )
        return int(said)


def block(events: Iterable[Told]) -> bytes:
    """In the form of server-sent events; a comment where there are none, as a sign of life."""
    return b"".join(map(_event, events)) or b":\n\n"


def _event(event: Told) -> bytes:
    data = event.data
    if "details" in data:
        data = {**data, "details": without_content(data["details"])}
    head = f"id: {event.number}\nevent: {event.type}\ndata: "
    return head.encode() + orjson.dumps(data) + b"\n\n"
