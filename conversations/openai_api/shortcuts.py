"""What programs ask for most, in one statement that checks the key as well.

Each answers None for whatever is out of the ordinary: a key that is wrong or was not used in the
last minute, nothing found, a run that is past its time or waits for outputs. The views then look
again, step by step, and say what is wrong.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import orjson
from django.db.models import F, JSONField, QuerySet

from assistant_manager.ids import has_prefix
from assistant_manager.models.prepared import Prepared
from assistant_manager.models.projects import USE_NOTED_EVERY, digest
from conversations.models import Message, Run, RunStatus
from conversations.openai_api.serializers import RUN_COLUMNS

MESSAGE_COLUMNS = [field.name for field in Message._meta.concrete_fields]
"""What `message_wire` reads of the row itself."""


def opened_by(rows: QuerySet[Any], digest: Any, project: str) -> QuerySet[Any]:
    """Those of `rows` whose `project` has an unrevoked key with this digest, and what else there
    is to know of the key."""
    key = f"{project}__api_keys"
    return rows.filter(**{f"{key}__digest": digest, f"{key}__revoked_at": None}).annotate(
        key_expires_at=F(f"{key}__expires_at"), key_used_at=F(f"{key}__last_used_at")
    )


_RUN: Prepared[Any] = Prepared(
    lambda key, thread, id: opened_by(
        Run.objects.select_related("thread", "assistant")
        .only(*RUN_COLUMNS)
        .filter(public_id=id, thread__public_id=thread),
        key,
        "project",
    ),
    reads={JSONField: lambda text: None if text is None else orjson.loads(text)},
)


def run(token: str, thread_id: str, run_id: str) -> Run | None:
    """The run as it stands now."""
    if not (has_prefix(thread_id, "thread_") and has_prefix(run_id, "run_")):
        return None
    found: Any = _RUN.first(key=digest(token), thread=thread_id, id=run_id)
    if found is None or not _usable(found) or found.state is RunStatus.REQUIRES_ACTION:
        return None
    due = found.expires_at
    return None if due is not None and due.timestamp() <= time.time() else found


@cache
def _page(order: str) -> Prepared[Any]:
    return Prepared(
        lambda key, thread, limit: opened_by(
            Message.objects.released()
            .select_related("run", "assistant")
            .only(*MESSAGE_COLUMNS, "run__public_id", "assistant__public_id")
            .filter(thread__public_id=thread)
            .order_by(order),
            key,
            "thread__project",
        )[:limit],
        reads={JSONField: orjson.loads},
    )


def messages(token: str, thread_id: str, *, limit: int, newest_first: bool) -> list[Message] | None:
    """The first `limit` released messages of the thread; never an empty list, which would not say
    whether there is such a thread."""
    if not has_prefix(thread_id, "thread_"):
        return None
    page = _page("-pk" if newest_first else "pk")
    found = page.all(key=digest(token), thread=thread_id, limit=limit)
    return found if found and _usable(found[0]) else None


def _usable(row: Any) -> bool:
    """Whether the key may be used, and was lately, so that nothing is to be noted."""
    now = time.time()
    expires, used = row.key_expires_at, row.key_used_at
    if expires is not None and expires.timestamp() <= now:
        return False
    return used is not None and now - used.timestamp() < USE_NOTED_EVERY.total_seconds()
