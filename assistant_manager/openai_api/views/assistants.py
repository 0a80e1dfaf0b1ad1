"""/assistants"""

from __future__ import annotations

from functools import partial

from assistant_manager import services
from assistant_manager.models import Assistant, Model
from assistant_manager.openai_api.base import CompatibleView, accepts
from assistant_manager.openai_api.errors import Wire, WireError
from assistant_manager.openai_api.pagination import PageBothWays, paged
from assistant_manager.openai_api.references import check_resources
from assistant_manager.openai_api.responses import WireResponse
from assistant_manager.openai_api.schemas import ChangeAssistant, CreateAssistant
from assistant_manager.openai_api.serializers import assistant_wire, deleted


class AssistantView(CompatibleView):
    def check(self, body: ChangeAssistant) -> None:
        """Raise WireError for a model nobody serves, and for files this project lacks."""
        if body.model is not None and Model.objects.resolve(body.model) is None:
            raise WireError(
                f"The requested model '{body.model}' does not exist.",
                code="model_not_found",
                param="model",
            )
        check_resources(self.project, body.tool_resources)

    def assistant(self, id: str) -> Assistant:
        """Raises the vendor's 404, for a retired one too."""
        found: Assistant = self.find(Assistant.objects.of(self.project).live(), "assistant", id)
        return found


class Assistants(AssistantView):
    @accepts(query=PageBothWays)
    def get(self, query: PageBothWays) -> Wire:
        every = Assistant.objects.of(self.project)
        return paged(
            every.live(),
            query,
            cursors=every,
            noun="assistant",
            prefix="asst_",
            wire=assistant_wire,
        )

    @accepts(body=CreateAssistant)
    def post(self, body: CreateAssistant) -> WireResponse:
        return self.once(partial(self._create, body))

    def _create(self, body: CreateAssistant) -> Wire:
        self.check(body)
        return assistant_wire(
            services.create_assistant(project=self.project, reason=self.reason, **body.columns())
        )


class OneAssistant(AssistantView):
    @accepts()
    def get(self, assistant_id: str) -> Wire:
        return assistant_wire(self.assistant(assistant_id))

    @accepts(body=ChangeAssistant)
    def post(self, assistant_id: str, body: ChangeAssistant) -> Wire:
        assistant = self.assistant(assistant_id)
        self.check(body)
        return assistant_wire(
            services.change_assistant(assistant=assistant, reason=self.reason, **body.columns())
        )

    @accepts()
    def delete(self, assistant_id: str) -> Wire:
        assistant = self.assistant(assistant_id)
        services.retire_assistant(assistant=assistant, reason=self.reason)
        return deleted(assistant_id, "assistant.deleted")
