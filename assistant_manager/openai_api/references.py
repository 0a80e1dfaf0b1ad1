"""Files and vector stores that a request names must exist within the caller's project."""

from __future__ import annotations

from collections.abc import Iterable

from assistant_manager.models import File, Project
from assistant_manager.openai_api.base import check_id
from assistant_manager.openai_api.errors import WireError, no_such_file, not_found
from assistant_manager.openai_api.fields import ToolResources

Named = Iterable[tuple[str, str]]
"""Pairs of where in the body an id stands and the id."""


def check_files(project: Project, named: Named) -> None:
    """Raise WireError for the first file that is absent, expired or another project's.

    It is a 400, since the address of the request is right and its body is not.
    """
    wanted = list(named)
    if not wanted:
        return
    ids = {id for _, id in wanted}
    files = File.objects.of(project).live().filter(public_id__in=_wellformed(ids))
    known = set(files.values_list("public_id", flat=True))
    for param, id in wanted:
        if id not in known:
            raise no_such_file(id[:100], param=param, status=400)


def _wellformed(ids: set[str]) -> list[str]:
    found = []
    for id in ids:
        try:
            check_id("file_id", id)
        except WireError:
            continue
        found.append(id)
    return found


def files_of(resources: ToolResources | None, path: str = "tool_resources") -> Named:
    code = resources.code_interpreter if resources else None
    for index, id in enumerate((code and code.file_ids) or []):
        yield f"{path}.code_interpreter.file_ids[{index}]", id


def check_resources(
    project: Project, resources: ToolResources | None, path: str = "tool_resources"
) -> None:
    """Raise WireError for what `resources` names and this project does not have."""
    check_stores(resources, path)
    check_files(project, files_of(resources, path))


def check_stores(resources: ToolResources | None, path: str = "tool_resources") -> None:
    """No vector store exists yet, so any that is named is unknown."""
    search = resources.file_search if resources else None
    if search is None:
        return
    if search.vector_stores:
        raise WireError(
            "Vector stores are not available on this server yet.",
            code="unsupported_parameter",
            param=f"{path}.file_search.vector_stores",
        )
    for id in search.vector_store_ids or []:
        raise not_found("vector store", id[:100])
