"""What a connection to another Assistants server may declare."""

from __future__ import annotations

from pydantic import Field

from assistant_manager.engines.options import ConnectionOptions


class AssistantsOptions(ConnectionOptions):
    keep_upstream: bool = Field(
        False, description="Leave the assistant and the thread of each answer at the upstream."
    )
    poll_seconds: float = Field(
        1.0, gt=0, le=60, description="How often to look at a run; less often as it grows older."
    )
    beta_header: bool = Field(
        True, description="Send “OpenAI-Beta: assistants=v2”, which OpenAI's own door insists on."
    )
