from __future__ import annotations

from typing import Any

import openai
import pytest

from assistant_manager.models import Connection, Model, Project
from tests import factories


def test_the_named_models_and_those_in_use_are_listed(sdk: Any, project: Project) -> None:
    Model.objects.create(name="gpt-4o", connection=Connection.objects.get(name="Embedded"))
    factories.make_assistant(project=project, model="gpt-4-1106-preview")
    factories.make_assistant(model="another-teams-secret")
    assert sorted(model.id for model in sdk.models.list()) == ["gpt-4-1106-preview", "gpt-4o"]


def test_any_name_exists_while_a_default_serves_it(sdk: Any) -> None:
    model = sdk.models.retrieve("meta/llama-3")
    assert (model.id, model.object, model.owned_by) == ("meta/llama-3", "model", "embedded")


def test_without_a_default_only_named_models_exist(sdk: Any) -> None:
    Model.objects.filter(name="*").update(name="gpt-4o")
    assert sdk.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError) as error:
        sdk.models.retrieve("gpt-9")
    assert error.value.code == "model_not_found"


def test_the_default_itself_is_no_name(sdk: Any) -> None:
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("*")
