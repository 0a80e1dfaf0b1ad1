"""The requests of /assistants, /files and /models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from assistant_manager.models.base import auto
from assistant_manager.openai_api.fields import (
    Instructions,
    Metadata,
    ModelName,
    ReasoningEffort,
    ResponseFormat,
    Temperature,
    Tool,
    ToolResources,
    TopP,
    given,
)
from assistant_manager.openai_api.pagination import Page
from assistant_manager.openai_api.validation import Body

DEFAULTS: dict[str, Any] = {
    "tools": [],
    "tool_resources": {},
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
    "response_format": auto(),
}
"""What null means for columns that always hold a value."""


class ChangeAssistant(Body):
    """A field left out stays as it is; one that is null goes back to its default."""

    model: ModelName | None = None
    name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=512)] | None = None
    instructions: Instructions | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None

    def columns(self) -> dict[str, Any]:
        """What to write on the row."""
        columns = given(self)
        if self.tool_resources is not None:
            columns["tool_resources"] = self.tool_resources.stored()
        if self.model is None:
            columns.pop("model", None)
        for name, default in DEFAULTS.items():
            if name in columns and columns[name] is None:
                columns[name] = default
        return columns


class CreateAssistant(ChangeAssistant):
    model: ModelName


class ListFiles(Page):
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    purpose: str | None = None


class FileExpiry(Body):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000, strict=False)]


class UploadFile(Body):
    """The text parts of an upload."""

    purpose: Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
    expires_after: FileExpiry | None = None
