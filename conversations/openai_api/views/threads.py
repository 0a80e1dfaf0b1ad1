"""/threads"""

from __future__ import annotations

from functools import partial

from assistant_manager.openai_api.base import accepts
from assistant_manager.openai_api.errors import Wire
from assistant_manager.openai_api.references import check_files, check_resources
from assistant_manager.openai_api.responses import WireResponse
from assistant_manager.openai_api.serializers import deleted
from conversations.openai_api.base import ThreadView
from conversations.openai_api.schemas import ChangeThread, CreateThread
from conversations.openai_api.serializers import thread_wire
from conversations.services import threads as services


class Threads(ThreadView):
    """There is no list of threads at the vendor; clients keep the ids of theirs."""

    @accepts(body=CreateThread)
    def post(self, body: CreateThread) -> WireResponse:
        return self.once(partial(self._create, body))

    def _create(self, body: CreateThread) -> Wire:
        check_files(self.project, body.files())
        check_resources(self.project, body.tool_resources)
        return thread_wire(
            services.create_thread(
                project=self.project,
                messages=[message.stored() for message in body.messages or []],
                **body.columns(),
            )
        )


class OneThread(ThreadView):
    @accepts()
    def get(self, thread_id: str) -> Wire:
        return thread_wire(self.thread(thread_id))

    @accepts(body=ChangeThread)
    def post(self, thread_id: str, body: ChangeThread) -> Wire:
        thread = self.thread(thread_id)
        check_resources(self.project, body.tool_resources)
        columns = body.columns()
        return thread_wire(services.change_thread(thread=thread, **columns) if columns else thread)

    @accepts()
    def delete(self, thread_id: str) -> Wire:
        services.delete_thread(thread=self.thread(thread_id))
        return deleted(thread_id, "thread.deleted")
