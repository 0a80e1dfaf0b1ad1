"""What the views under /threads share: how rows are found, and what refusals become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.db.models import F

from assistant_manager.models import Assistant
from assistant_manager.models.prepared import Prepared
from assistant_manager.openai_api.base import CompatibleView, check_id
from assistant_manager.openai_api.errors import Wire, WireError, not_found
from assistant_manager.openai_api.responses import WireResponse
from conversations.exceptions import Refusal, RunActive, ThreadBusy, UnknownModel
from conversations.models import Run, Thread
from conversations.models.status import TERMINAL
from conversations.openai_api.serializers import RUN_COLUMNS, run_wire
from conversations.services import runs as services

T = TypeVar("T")

RUN_ROWS = Run.objects.select_related("thread", "assistant").only(*RUN_COLUMNS, "release_policy")
"""Runs with what their wire form shows and how they may end, and nothing else."""

ONE_THREAD = Prepared(lambda project, id: Thread.objects.of(project).filter(public_id=id))
ONE_RUN: Prepared[Run] = Prepared(
    lambda project, thread, id: RUN_ROWS.of(project).filter(public_id=id, thread__public_id=thread)
)
ONE_ASSISTANT = Prepared(
    lambda project, id: Assistant.objects.of(project).live().filter(public_id=id)
)
ASSISTANT_BESIDE_THREAD: Prepared[Any] = Prepared(
    lambda project, id, thread: (
        Assistant.objects.of(project)
        .live()
        .filter(public_id=id, project__threads__public_id=thread)
        .annotate(thread_pk=F("project__threads__pk"))
    )
)

POLL_AFTER = "openai-poll-after-ms"


class ThreadView(CompatibleView):
    def translated(self, exc: Exception) -> WireError:
        """Every refusal is a 400 with the vendor's text; a 409 would make SDKs try again."""
        match exc:
            case UnknownModel():
                return WireError(str(exc), code="model_not_found", param="model")
            case Refusal():
                return WireError(str(exc))
        return super().translated(exc)

    def thread(self, id: str) -> Thread:
        """Raises the vendor's 404."""
        found: Thread | None = ONE_THREAD.first(project=self.key.project_id, id=id)
        if found is None:
            raise not_found("thread", id)
        return found

    def in_thread(self, rows: Prepared[T], thread_id: str, noun: str, id: str) -> T:
        """The one of `rows`, which are found by project, thread and id. Whether it or the thread is
        missing is asked only once something is. Raises the vendor's 404 for either."""
        found = rows.first(project=self.key.project_id, thread=thread_id, id=id)
        if found is None:
            self.thread(thread_id)
            raise not_found(noun, id)
        return found

    def run(self, thread_id: str, id: str) -> Run:
        """As it stands now: a run past its time ends when it is looked at, driver or no driver."""
        return services.end_if_overdue(self.in_thread(ONE_RUN, thread_id, "run", id))

    def assistant(self, id: str) -> Assistant:
        """One that new runs may name. Raises the vendor's 400 and 404."""
        check_id("assistant_id", id)
        found: Assistant | None = ONE_ASSISTANT.first(project=self.key.project_id, id=id)
        if found is None:
            raise not_found("assistant", id)
        return found

    def thread_and_assistant(self, thread_id: str, assistant_id: str) -> tuple[Thread, Assistant]:
        """Both in one look; raises what `thread` and `assistant` raise."""
        check_id("assistant_id", assistant_id)
        found: Any = ASSISTANT_BESIDE_THREAD.first(
            project=self.key.project_id, id=assistant_id, thread=thread_id
        )
        if found is None:
            return self.thread(thread_id), self.assistant(assistant_id)
        project = self.key.project_id
        return Thread(pk=found.thread_pk, public_id=thread_id, project_id=project), found

    def when_free(self, thread: Thread, act: Callable[[], T]) -> T:
        """`act`, once more if what kept the thread busy turns out to be a run past its time."""
        try:
            return act()
        except (ThreadBusy, RunActive):
            blocking = thread.active_run()
            if blocking is not None and not services.end_if_overdue(blocking).is_ended:
                raise
        return act()


def run_rows() -> Any:
    return RUN_ROWS.all()


def refuse_stream(stream: bool | None) -> None:
    if stream:
        raise WireError(
            "Streaming is not available on this server yet. Leave out 'stream' and poll the run "
            f"instead; the {POLL_AFTER} header says how often.",
            code="unsupported_parameter",
            param="stream",
        )


def run_response(run: Run) -> WireResponse:
    return with_pace(WireResponse(run_wire(run)))


def with_pace(response: WireResponse) -> WireResponse:
    """Tell pollers when to ask again, while there is something left to wait for."""
    body: Wire = response.body or {}
    if body.get("status") not in TERMINAL:
        response.headers[POLL_AFTER] = str(settings.POLL_AFTER_MS)
    return response
