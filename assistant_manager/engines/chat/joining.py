"""Messages that belong together, as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

Wire: TypeAlias = dict[str, Any]


def joined(messages: Iterable[Wire]) -> list[Wire]:
    """A text and the calls made with it become one message again, as the model wrote them."""
    whole: list[Wire] = []
    for message in messages:
        last = whole[-1] if whole else {}
        if (
            message.get("tool_calls")
            and last.get("role") == "assistant"
            and "tool_calls" not in last
        ):
            whole[-1] = {**last, "tool_calls": message["tool_calls"]}
        else:
            whole.append(message)
    return whole


def by_turns(messages: Iterable[Wire]) -> list[Wire]:
    """Neighbours of one role as one message."""
    merged: list[Wire] = []
    for message in messages:
        last = merged[-1] if merged else {}
        role = message["role"]
        if role != last.get("role") or role == "tool" or "tool_calls" in {**last, **message}:
            merged.append(message)
        else:
            merged[-1] = {**last, "content": _both(last["content"], message["content"])}
    return merged


def _both(first: str | list[Wire], second: str | list[Wire]) -> str | list[Wire]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [
        part
        for content in (first, second)
        for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]
