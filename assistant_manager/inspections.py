"""Saying hello to a connection, and keeping what came of it.

The report lies in `Connection.inspection`: `model` and `asked_at` from the moment somebody asks;
`tested_at` with either `error`, a sentence, or `answer`, `seconds`, `models` and `supports` (see
`engines.base.Inspection`) once it is there. Times are ISO 8601.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from django.utils import timezone

from assistant_manager.engines import engine_for
from assistant_manager.engines.base import ConnectionInfo, Inspection
from assistant_manager.engines.exceptions import EngineError
from assistant_manager.engines.gates import Standing, gate_of
from assistant_manager.models import Assistant, Connection, Model
from assistant_manager.models.connections import ANY_MODEL
from assistant_manager.secrets import SecretUnreadable

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for the whole test."""
MOST_NAMES = 1000
LONGEST_ANSWER = 300


def inspect(pk: int, asked_at: str) -> None:
    """Do the test that was asked for at this moment, unless it was asked for anew since."""
    connection = Connection.objects.filter(pk=pk, inspection__asked_at=asked_at).first()
    if connection is None:
        return
    asked: dict[str, Any] = connection.inspection or {}
    report = {**asked, **_hello(connection, asked["model"]), "tested_at": _now()}
    Connection.objects.filter(pk=pk, inspection__asked_at=asked_at).update(inspection=report)


def _hello(connection: Connection, model: str) -> dict[str, Any]:
    try:
        found, standing = asyncio.run(_ask(connection.info(), connection.standing, model))
    except (EngineError, SecretUnreadable) as error:
        return {"error": str(error)}
    except TimeoutError:
        return {"error": f"No answer came within {PATIENCE:.0f} seconds."}
    except Exception:
        logger.exception("The test of the connection “%s” failed", connection)
        return {"error": "The server had an error during the test; the worker's log says more."}
    Connection.objects.filter(pk=connection.pk).update(
        key_in_use=standing.key_in_use, key_note=standing.key_note[:200]
    )
    return {
        "answer": found.answer[:LONGEST_ANSWER],
        "seconds": found.seconds,
        "models": None if found.models is None else sorted(found.models)[:MOST_NAMES],
        "supports": dict(found.supports),
    }


async def _ask(info: ConnectionInfo, standing: Standing, model: str) -> tuple[Inspection, Standing]:
    """The answer, and how the connection stands after it: another key may be in use."""
    gate = gate_of(info.id, info.name)
    gate.read(standing)
    engine = engine_for(info.kind)
    try:
        return await asyncio.wait_for(engine.inspect(info, model), PATIENCE), gate.standing
    finally:
        await engine.close()


def suggested_model(connection: Connection) -> str:
    """A name to say hello with: one that a model or an assistant leads to here; "" where none is."""
    for model in connection.models.order_by("pk"):
        if name := model.upstream_name or model.name.replace(ANY_MODEL, ""):
            return name
    return next(iter(sorted(names_used(connection).values())), "")


def names_used(connection: Connection) -> dict[str, str]:
    """What assistants in use call their models, and the names these lead to at this connection."""
    rows = {model.name: model for model in Model.objects.all()}
    default = rows.get(ANY_MODEL)
    said = Assistant.objects.live().values_list("model", flat=True).distinct()
    led = {name: rows.get(name, default) for name in said}
    return {
        name: model.upstream_name or name
        for name, model in led.items()
        if model is not None and model.connection_id == connection.pk
    }


def _now() -> str:
    return timezone.now().isoformat()
