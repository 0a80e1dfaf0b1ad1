"""What the lists of this app have in common."""

from __future__ import annotations

from conversations.models import Message

LARGE = ("instructions", "tools", "tool_resources", "response_format", "metadata")
"""Columns of runs and assistants that no page here shows: a list would carry one copy a row."""


def large(*paths: str) -> list[str]:
    """`LARGE` as seen from the listed row: `large("", "assistant__")`."""
    return [f"{path}{name}" for path in paths for name in LARGE]


def excerpt(message: Message | None, otherwise: str) -> str:
    """The first words of a message, or `otherwise` where nothing was said."""
    text = message.text.strip() if message else ""
    return (text if len(text) <= 80 else text[:80] + "…") or otherwise
