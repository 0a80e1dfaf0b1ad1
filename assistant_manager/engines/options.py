"""What a connection may declare about its upstream. Each engine adds what it needs to know."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ENTRA_SCOPE = "https://ai.azure.com/.default"
"""Newer pages of the vendor name this one, older ones https://cognitiveservices.azure.com/.default."""
CONNECT_SECONDS = 5.0
"""How long a connection to an upstream may take to come about."""


class ConnectionOptions(BaseModel):
    """Raises pydantic's ValidationError for a name or value that means nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authentication: Literal["key", "entra_id"] = Field(
        "key", description="A key, or a Microsoft Entra ID token of the machine's own identity."
    )
    entra_scope: str = Field(ENTRA_SCOPE, description="The scope asked of Microsoft Entra ID.")
    timeout_seconds: float = Field(
        30, gt=0, le=600, description="How long one request may take before it counts as lost."
    )
