"""/threads/{thread_id}/runs/{run_id}/steps"""

from __future__ import annotations

from functools import partial

from assistant_manager.openai_api.base import accepts
from assistant_manager.openai_api.errors import Wire
from assistant_manager.openai_api.pagination import paged
from conversations.models import Run, RunStep
from conversations.openai_api.base import ThreadView
from conversations.openai_api.schemas import Include, ListSteps
from conversations.openai_api.serializers import step_wire


class Steps(ThreadView):
    @accepts(query=ListSteps)
    def get(self, thread_id: str, run_id: str, query: ListSteps) -> Wire:
        run: Run = self.run(thread_id, run_id)
        return paged(
            RunStep.objects.of(self.project).released().filter(run=run),
            query,
            noun="run step",
            prefix="step_",
            wire=partial(step_wire, run=run, search_content=query.search_content),
        )


class OneStep(ThreadView):
    @accepts(query=Include)
    def get(self, thread_id: str, run_id: str, step_id: str, query: Include) -> Wire:
        run: Run = self.run(thread_id, run_id)
        rows = RunStep.objects.of(self.project).released().filter(run=run)
        step: RunStep = self.find(rows, "run step", step_id)
        return step_wire(step, run, search_content=query.search_content)
