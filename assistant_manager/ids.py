"""Public ids: a prefix that says what it is, and 24 letters and digits that say which.

The shapes are the vendor's, so that programs which look at them keep working.
"""

from __future__ import annotations

import re
import secrets
import string

ALPHABET = string.ascii_letters + string.digits
LENGTH = 24
_HOW_MANY = len(ALPHABET) ** LENGTH
_SHAPE = re.compile(r"[A-Za-z]+[_-][A-Za-z0-9_-]{1,80}")


def make_id(prefix: str) -> str:
    """`make_id("run_")` gives `run_` and 24 random characters (142 bits)."""
    number, characters = secrets.randbelow(_HOW_MANY), []
    for _ in range(LENGTH):
        number, at = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[at])
    return prefix + "".join(characters)


def has_prefix(value: str, *prefixes: str) -> bool:
    """Whether `value` looks like an id of one of these kinds; it need not exist."""
    return value.startswith(prefixes) and _SHAPE.fullmatch(value) is not None
