"""How much of a thread goes to a model: counting tokens, and leaving out what does not fit.

Upstreams count with tokenisers of their own, which we do not have. Here a text counts one token
for every four bytes of UTF-8, rounded up: close for English, and more than the truth for most
other scripts, so that what is said to fit does fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from assistant_manager.engines.base import Turn, TurnMessage

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = {"low": 85}
"""By detail; an image at full size may cost as much as `IMAGE_TOKENS_AT_MOST`."""
IMAGE_TOKENS_AT_MOST = 1100
MESSAGE_TOKENS = 4
"""What upstreams spend on saying who speaks."""
FULL = 0.85
"""The part of the budget above which older messages are left out …"""
TRIMMED = 0.60
"""… until no more than this part is used. Far apart: each cut makes the upstream's cache of the
prompt worthless, so cuts must be rare."""

TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
"""What upstreams call a prompt that their model cannot read: `Rejected.reason`."""

Count = Callable[[TurnMessage], int]


def count_tokens(text: str) -> int:
    """One token for every four bytes of UTF-8, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def message_tokens(message: TurnMessage) -> int:
    """The text and a fixed share for each image."""
    images = sum(
        IMAGE_TOKENS.get(part[part["type"]].get("detail") or "", IMAGE_TOKENS_AT_MOST)
        for part in message.content
        if part["type"] in ("image_file", "image_url")
    )
    return MESSAGE_TOKENS + count_tokens(message.text) + images


def fixed_tokens(turn: Turn) -> int:
    """What is sent with every request of this turn: the instructions and the tools."""
    tools = sum(count_tokens(json.dumps(dict(tool))) for tool in turn.tools)
    return count_tokens(turn.instructions) + tools


def fitted(
    messages: Sequence[TurnMessage], budget: int, count: Count = message_tokens
) -> list[TurnMessage]:
    """The newest of `messages` that fit into `budget` tokens; empty where not even the last does.

    The thread is played through from its oldest message: whenever it grows above 85 % of the
    budget, the oldest are left out down to 60 %. So the first message that is sent stays the
    same from question to question until the next cut, and the upstream's cache keeps working.
    """
    sizes = [count(message) for message in messages]
    start, total = 0, 0
    for at, size in enumerate(sizes):
        total += size
        if total <= FULL * budget:
            continue
        while start < at and total > TRIMMED * budget:
            total -= sizes[start]
            start += 1
    return list(messages[start:]) if total <= budget else []


def shorter(messages: Sequence[TurnMessage]) -> list[TurnMessage] | None:
    """Fewer of them, where an upstream counts more tokens than we do; None where none can be spared."""
    fewer = fitted(messages, sum(message_tokens(message) for message in messages))
    return fewer if 0 < len(fewer) < len(messages) else None


def reviewers_words(note: str) -> str:
    """A reviewer's note, as the message that asks the model for another answer."""
    return (
        "Your answer above was read by a reviewer and has not been sent. Write the whole answer "
        f"anew, with this change, and do not mention the reviewer:\n\n{note}"
    )
