"""Rows as they go out. Every documented key is present, null where empty."""

from __future__ import annotations

from datetime import datetime

from assistant_manager.models import Assistant, File, Model
from assistant_manager.openai_api.errors import Wire


def seconds(moment: datetime | None) -> int | None:
    """Unix time in whole seconds, as everywhere on this wire."""
    return None if moment is None else int(moment.timestamp())


def deleted(id: str, object: str) -> Wire:
    return {"id": id, "object": object, "deleted": True}


def assistant_wire(assistant: Assistant) -> Wire:
    return {
        "id": assistant.public_id,
        "object": "assistant",
        "created_at": seconds(assistant.created_at),
        "name": assistant.name,
        "description": assistant.description,
        "model": assistant.model,
        "instructions": assistant.instructions,
        "tools": assistant.tools,
        "tool_resources": assistant.tool_resources,
        "metadata": assistant.metadata,
        "temperature": assistant.temperature,
        "top_p": assistant.top_p,
        "response_format": assistant.response_format,
        "reasoning_effort": assistant.reasoning_effort,
    }


def file_wire(file: File) -> Wire:
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": seconds(file.created_at),
        "expires_at": seconds(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def model_wire(name: str, model: Model) -> Wire:
    """`model` is the row that serves `name`: its own, or the one for any other name."""
    return {
        "id": name,
        "object": "model",
        "created": seconds(model.created_at),
        "owned_by": model.connection.kind,
    }
