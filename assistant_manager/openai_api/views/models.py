"""/models: the names that clients may say."""

from __future__ import annotations

from assistant_manager.models import Assistant, Model
from assistant_manager.models.connections import ANY_MODEL
from assistant_manager.openai_api.base import CompatibleView, accepts
from assistant_manager.openai_api.errors import Wire, WireError
from assistant_manager.openai_api.serializers import model_wire


class Models(CompatibleView):
    """Every named model, and, where one row serves any other name, the names that the project's
    assistants use: an empty list would read as "nothing works here", and `*` is not a name."""

    @accepts()
    def get(self) -> Wire:
        rows = {model.name: model for model in Model.objects.select_related("connection")}
        any_other = rows.pop(ANY_MODEL, None)
        if any_other is not None:
            used = Assistant.objects.of(self.project).live().values_list("model", flat=True)
            for name in sorted(set(used.distinct())):
                rows.setdefault(name, any_other)
        return {"object": "list", "data": [model_wire(name, row) for name, row in rows.items()]}


class OneModel(CompatibleView):
    """A name that `*` would serve exists: a run with it works."""

    @accepts()
    def get(self, model: str) -> Wire:
        row = Model.objects.resolve(model) if _is_name(model) else None
        if row is None:
            raise WireError(
                f"The model '{model[:256]}' does not exist",
                status=404,
                code="model_not_found",
                param="model",
            )
        return model_wire(model, row)


def _is_name(text: str) -> bool:
    return text != ANY_MODEL and len(text) <= 256 and "\0" not in text
