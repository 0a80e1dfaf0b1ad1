"""How a person at the terminal names an assistant or a thread."""

from __future__ import annotations

from assistant_manager.models import Assistant
from assistant_manager.models.assistants import AssistantQuerySet
from assistant_manager.services import DEFAULT_PROJECT
from conversations.models import Thread


class Unknown(Exception):
    """Nothing, or more than one thing, goes by that name; str() says what to do."""


def thread_named(name: str) -> Thread:
    thread = Thread.objects.filter(public_id=name).select_related("project").first()
    if thread is None:
        raise Unknown(f"There is no thread “{name}”.")
    return thread


def assistant_named(name: str | None, thread: Thread | None) -> Assistant:
    """By id or by exact name, within the thread's project if there is a thread.

    None is the assistant that answered last in the thread, else the first of the project.
    Raises Unknown.
    """
    live = Assistant.objects.live().select_related("project").order_by("pk")
    if thread is not None:
        live = live.of(thread.project)
    if name is None:
        return _obvious(thread, live)
    found = list(live.filter(public_id=name) or live.filter(name=name)[:2])
    if not found:
        known = ", ".join(str(assistant) for assistant in live[:10]) or "none yet"
        raise Unknown(f"There is no assistant “{name}”. Assistants: {known}.")
    if len(found) > 1:
        ids = ", ".join(live.filter(name=name).values_list("public_id", flat=True)[:10])
        raise Unknown(f"Several assistants are called “{name}”; give an id: {ids}.")
    return found[0]


def _obvious(thread: Thread | None, live: AssistantQuerySet) -> Assistant:
    if thread is not None:
        last = thread.runs.order_by("-pk").values_list("assistant", flat=True).first()
        found = live.filter(pk=last).first() or live.first()
    else:
        found = live.filter(project__name=DEFAULT_PROJECT).first()
    if found is None:
        raise Unknown("There is no assistant yet. Make one in the admin, or run quickstart once.")
    return found
