"""What a Chat Completions server may do differently from the vendor's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assistant_manager.engines.options import ConnectionOptions


class ChatOptions(ConnectionOptions):
    timeout_seconds: float = Field(
        300,
        gt=0,
        le=3600,
        description="How long the server may be silent, before an answer and inside it.",
    )
    system_role: Literal["system", "developer", "none"] = Field(
        "system",
        description="The role of the instructions. “none”: they open the first user message.",
    )
    merge_neighbours: bool = Field(
        False,
        description="Join messages of one role that follow each other: some models insist on user "
        "and assistant taking turns.",
    )
    token_limit: Literal["max_completion_tokens", "max_tokens"] = Field(
        "max_completion_tokens", description="What the server calls the limit on an answer."
    )
    tools: bool = Field(
        True,
        description="Whether the model can call functions. Without, tools are left out, and a run "
        "that must call one fails.",
    )
    images: bool = Field(
        True,
        description="Whether the model sees pictures. Without, a run whose thread has some fails: "
        "an answer that ignores them would be a guess.",
    )
    reasoning_effort: bool = Field(
        False, description="Whether the server knows the parameter reasoning_effort."
    )
    stream_usage: bool = Field(
        True, description="Whether to ask for token counts with “stream_options”."
    )
    context_window: int | None = Field(
        None, gt=0, description="Tokens the model reads at most; older messages are left out."
    )
    max_rounds: int = Field(
        16, gt=0, le=100, description="How often one attempt may ask the model."
    )
