"""What engines say, so that every database can hold it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")

INDEXED_AT_MOST = 500
"""Characters. PostgreSQL refuses an index entry of more than 2,704 bytes."""


def storable(value: T) -> T:
    """`value`, its texts without NUL, which PostgreSQL refuses, and without halves of surrogate
    pairs, which UTF-8 has no bytes for; None for numbers that JSON does not know. Looks into
    mappings, sequences and dataclasses."""
    clean: Any = value
    if isinstance(value, str):
        clean = _text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        clean = None
    elif isinstance(value, Mapping):
        clean = {storable(key): storable(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        clean = [storable(item) for item in value]
    elif is_dataclass(value) and not isinstance(value, type):
        clean = replace(
            value, **{part.name: storable(getattr(value, part.name)) for part in fields(value)}
        )
    return clean


def indexable(upstream_id: str) -> str:
    """`upstream_id`, or its digest where an index could not hold it: gateways make ids of any
    length, and their ends are what tells them apart."""
    if len(upstream_id) <= INDEXED_AT_MOST:
        return upstream_id
    return f"sha256:{hashlib.sha256(upstream_id.encode()).hexdigest()}"


def _text(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
