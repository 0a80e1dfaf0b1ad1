"""Queries whose SQL is written once answer as the ORM would."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import CharField, F
from django.test.utils import CaptureQueriesContext

from assistant_manager.models import Assistant, Project
from assistant_manager.models.prepared import Prepared
from tests import factories


def test_instances_come_with_what_was_selected_and_no_more(assistant: Assistant) -> None:
    rows: Prepared[Any] = Prepared(
        lambda project, id: (
            Assistant.objects.of(project)
            .filter(public_id=id)
            .select_related("project")
            .only("name", "tools", "project__name")
            .annotate(team=F("project__name"))
        )
    )
    with CaptureQueriesContext(connection) as queries:
        found = rows.first(project=assistant.project_id, id=assistant.public_id)
        assert found == assistant
        assert found.tools == assistant.tools
        assert found.project.name == found.team == assistant.project.name
    assert len(queries) == 1
    assert found.get_deferred_fields() >= {"instructions"}
    assert rows.first(project=assistant.project_id, id="asst_none") is None


def test_the_queryset_is_built_once_and_values_are_filled_in(project: Project) -> None:
    built = []

    def build(name: Any, limit: Any) -> Any:
        built.append(name)
        return (
            Assistant.objects.filter(name=name, model="gpt-4 %s 100%")
            .order_by("-pk")
            .values_list("pk", "name")[:limit]
        )

    ours = {"project": project, "model": "gpt-4 %s 100%"}
    made = [factories.make_assistant(name="%s'; --", **ours).pk for _ in range(3)]
    factories.make_assistant(name="b", **ours)
    rows: Prepared[Any] = Prepared(build)
    assert rows.all(name="%s'; --", limit=2) == [(pk, "%s'; --") for pk in made[:0:-1]]
    assert len(rows.all(name="%s'; --", limit=5)) == 3
    assert rows.all(name="c", limit=5) == []
    assert len(built) == 1


def test_single_columns_come_flat_and_can_be_read_differently(assistant: Assistant) -> None:
    names: Prepared[Any] = Prepared(
        lambda id: Assistant.objects.filter(pk=id).values_list("name", flat=True),
        reads={CharField: str.upper},
    )
    assert names.first(id=assistant.pk) == assistant.name.upper()


def test_an_argument_that_the_query_does_not_use_is_a_mistake(db: None) -> None:
    rows: Prepared[Any] = Prepared(lambda id, limit: Assistant.objects.filter(pk=id))
    with pytest.raises(TypeError, match="no place for limit"):
        rows.all(id=1, limit=2)


def test_a_list_takes_as_many_places_as_it_needs(project: Project) -> None:
    pks = [factories.make_assistant(project=project, model="100 %s %%").pk for _ in range(3)]
    rows: Prepared[Any] = Prepared(
        lambda pks, model, limit: (
            Assistant.objects.filter(pk__in=[pks], model=model)
            .order_by("pk")
            .values_list("pk", flat=True)[:limit]
        )
    )
    assert rows.all(pks=pks, model="100 %s %%", limit=9) == pks
    assert rows.all(pks=pks[1:], model="100 %s %%", limit=9) == pks[1:]
    assert rows.all(pks=pks[:1], model="100 %s %%", limit=9) == pks[:1]
    assert rows.all(pks=pks, model="100 %s %%", limit=1) == pks[:1]
    assert rows.all(pks=pks, model="%s", limit=9) == []
