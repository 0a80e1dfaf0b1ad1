"""/threads/{thread_id}/messages"""

from __future__ import annotations

from functools import partial
from typing import Any

from assistant_manager.models.prepared import Prepared
from assistant_manager.openai_api.base import accepts, check_id
from assistant_manager.openai_api.errors import Wire
from assistant_manager.openai_api.pagination import page_wire, paged
from assistant_manager.openai_api.references import check_files
from assistant_manager.openai_api.responses import WireResponse
from assistant_manager.openai_api.serializers import deleted
from assistant_manager.openai_api.validation import read_query
from conversations.models import Message
from conversations.openai_api import shortcuts
from conversations.openai_api.base import ThreadView
from conversations.openai_api.schemas import ChangeMetadata, CreateMessage, ListMessages
from conversations.openai_api.serializers import message_wire
from conversations.openai_api.shortcuts import MESSAGE_COLUMNS
from conversations.services import threads as services


def shown(project: Any) -> Any:
    """Released ones only: a held answer is not there, by its id neither."""
    return (
        Message.objects.of(project)
        .released()
        .select_related("run", "assistant")
        .only(*MESSAGE_COLUMNS, "run__public_id", "assistant__public_id")
    )


ONE_MESSAGE: Prepared[Message] = Prepared(
    lambda project, thread, id: shown(project).filter(public_id=id, thread__public_id=thread)
)


class MessageView(ThreadView):
    def messages(self) -> Any:
        return shown(self.key.project_id)

    def message(self, thread_id: str, id: str) -> Message:
        return self.in_thread(ONE_MESSAGE, thread_id, "message", id)


class Messages(MessageView):
    def at_once(self, token: str, **ids: str) -> WireResponse | None:
        query = read_query(ListMessages, self.request.GET)
        if query.after or query.before or query.run_id:
            return None
        thread_id, newest_first = ids["thread_id"], query.order == "desc"
        found = shortcuts.messages(
            token, thread_id, limit=query.limit + 1, newest_first=newest_first
        )
        if found is None:
            return None
        data = [message_wire(message, thread_id) for message in found[: query.limit]]
        return WireResponse(page_wire(data, more=len(found) > query.limit))

    @accepts(query=ListMessages)
    def get(self, thread_id: str, query: ListMessages) -> Wire:
        rows = self.messages().filter(thread=self.thread(thread_id))
        listed = rows
        if query.run_id is not None:
            check_id("run_id", query.run_id)
            listed = rows.filter(run__public_id=query.run_id)
        return paged(
            listed,
            query,
            cursors=rows,
            noun="message",
            prefix="msg_",
            wire=partial(message_wire, thread_id=thread_id),
        )

    @accepts(body=CreateMessage)
    def post(self, thread_id: str, body: CreateMessage) -> WireResponse:
        return self.once(partial(self._create, thread_id, body))

    def _create(self, thread_id: str, body: CreateMessage) -> Wire:
        thread = self.thread(thread_id)
        check_files(self.project, body.files())
        add = partial(services.add_message, thread=thread, message=body.stored())
        return message_wire(self.when_free(thread, add), thread_id)


class OneMessage(MessageView):
    @accepts()
    def get(self, thread_id: str, message_id: str) -> Wire:
        return message_wire(self.message(thread_id, message_id), thread_id)

    @accepts(body=ChangeMetadata)
    def post(self, thread_id: str, message_id: str, body: ChangeMetadata) -> Wire:
        message = self.message(thread_id, message_id)
        if not body.is_empty:
            message = services.change_message(message=message, metadata=body.metadata or {})
        return message_wire(message, thread_id)

    @accepts()
    def delete(self, thread_id: str, message_id: str) -> Wire:
        services.delete_message(message=self.message(thread_id, message_id))
        return deleted(message_id, "thread.message.deleted")
