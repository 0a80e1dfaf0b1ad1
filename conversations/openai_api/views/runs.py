"""/threads/{thread_id}/runs, /threads/runs"""

from __future__ import annotations

from functools import partial

from django.db import transaction

from assistant_manager.openai_api.base import accepts
from assistant_manager.openai_api.errors import Wire, WireError
from assistant_manager.openai_api.pagination import PageBothWays, paged
from assistant_manager.openai_api.references import check_files, check_resources
from assistant_manager.openai_api.responses import WireResponse
from assistant_manager.openai_api.validation import NoQuery, read_query
from conversations.models import Run
from conversations.openai_api import shortcuts
from conversations.openai_api.base import (
    ThreadView,
    refuse_stream,
    run_response,
    run_rows,
    with_pace,
)
from conversations.openai_api.schemas import (
    ChangeMetadata,
    CreateRun,
    CreateThreadAndRun,
    Include,
    SubmitToolOutputs,
)
from conversations.openai_api.serializers import run_wire
from conversations.services import runs as services
from conversations.services.threads import create_thread


class Runs(ThreadView):
    @accepts(query=PageBothWays)
    def get(self, thread_id: str, query: PageBothWays) -> Wire:
        thread = self.thread(thread_id)
        return paged(
            run_rows().of(self.project).filter(thread=thread),
            query,
            noun="run",
            prefix="run_",
            wire=lambda run: run_wire(services.end_if_overdue(run)),
        )

    @accepts(body=CreateRun, query=Include)
    def post(self, thread_id: str, body: CreateRun, query: Include) -> WireResponse:
        refuse_stream(body.stream)
        return with_pace(self.once(partial(self._create, thread_id, body)))

    def _create(self, thread_id: str, body: CreateRun) -> Wire:
        thread, assistant = self.thread_and_assistant(thread_id, body.assistant_id)
        check_files(self.project, body.files())
        request = partial(
            services.request_run,
            thread=thread,
            assistant=assistant,
            api_key=self.key,
            instructions=body.instructions,
            additional_instructions=body.additional_instructions,
            additional_messages=[message.stored() for message in body.additional_messages or []],
            **body.overrides(),
        )
        return run_wire(self.when_free(thread, request))


class ThreadAndRun(ThreadView):
    @accepts(body=CreateThreadAndRun)
    def post(self, body: CreateThreadAndRun) -> WireResponse:
        refuse_stream(body.stream)
        return with_pace(self.once(partial(self._create, body)))

    @transaction.atomic
    def _create(self, body: CreateThreadAndRun) -> Wire:
        """Both or neither: a refused run leaves no thread behind."""
        assistant = self.assistant(body.assistant_id)
        overrides = body.overrides()
        if body.tool_resources is not None:
            check_resources(self.project, body.tool_resources)
            overrides["tool_resources"] = body.tool_resources.stored()
        messages = []
        columns = {}
        if body.thread is not None:
            check_files(self.project, body.thread.files("thread"))
            check_resources(self.project, body.thread.tool_resources, "thread.tool_resources")
            messages = [message.stored() for message in body.thread.messages or []]
            columns = body.thread.columns()
        return run_wire(
            services.request_run(
                thread=create_thread(project=self.project, messages=messages, **columns),
                assistant=assistant,
                api_key=self.key,
                instructions=body.instructions,
                **overrides,
            )
        )


class OneRun(ThreadView):
    def at_once(self, token: str, **ids: str) -> WireResponse | None:
        read_query(NoQuery, self.request.GET)
        found = shortcuts.run(token, ids["thread_id"], ids["run_id"])
        return None if found is None else run_response(found)

    @accepts()
    def get(self, thread_id: str, run_id: str) -> WireResponse:
        return run_response(self.run(thread_id, run_id))

    @accepts(body=ChangeMetadata)
    def post(self, thread_id: str, run_id: str, body: ChangeMetadata) -> WireResponse:
        run = self.run(thread_id, run_id)
        if not body.is_empty:
            run = services.change_run(run=run, metadata=body.metadata or {})
        return run_response(run)


class CancelRun(ThreadView):
    @accepts()
    def post(self, thread_id: str, run_id: str) -> WireResponse:
        return run_response(services.cancel_run(run=self.run(thread_id, run_id)))


class ToolOutputs(ThreadView):
    @accepts(body=SubmitToolOutputs)
    def post(self, thread_id: str, run_id: str, body: SubmitToolOutputs) -> WireResponse:
        refuse_stream(body.stream)
        outputs: dict[str, str] = {}
        for index, given in enumerate(body.tool_outputs):
            if given.tool_call_id in outputs:
                raise WireError(
                    f"Duplicate value for 'tool_call_id': '{given.tool_call_id[:100]}'.",
                    code="invalid_value",
                    param=f"tool_outputs[{index}].tool_call_id",
                )
            outputs[given.tool_call_id] = given.output or ""
        run: Run = self.run(thread_id, run_id)
        return run_response(services.submit_tool_outputs(run=run, outputs=outputs))
