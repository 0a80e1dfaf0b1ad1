"""Links in an answer to files that code has left: `sandbox:/mnt/data/NAME`, as the vendor writes them."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

_LINK = re.compile(r"sandbox:/mnt/data/([\w.\-+%]*[\w\-+%])")


def linked_files(text: str) -> list[str]:
    """The names as the links write them, each once."""
    return list(dict.fromkeys(_LINK.findall(text)))


def annotations_of(text: str, files: Container[str]) -> list[dict[str, Any]]:
    """One for each link to one of `files`. Places are counted in characters."""
    return [
        {
            "type": "file_path",
            "text": link[0],
            "start_index": link.start(),
            "end_index": link.end(),
            "file_path": {"file_id": link[1]},
        }
        for link in _LINK.finditer(text)
        if link[1] in files
    ]
