"""What several engines have in common: signs by which a cell is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tests.engines.fields.asked import PICTURE
from tests.engines.fields.seen import Seen
from tests.fakes.upstream.files import PNG

Sign: TypeAlias = tuple[str, Callable[[Seen], bool]]
"""A cell of the table, and whether it is true of what was seen."""

REFUSED: Sign = (
    "refused: `invalid_prompt`",
    lambda seen: (seen.status, seen.error) == ("failed", "invalid_prompt"),
)
KEPT_HERE: Sign = (
    "exact: kept here, never sent",
    lambda seen: (
        seen.run["metadata"] == {"order": "secret-4711"}
        and seen.status == "completed"
        and not seen.was_told("secret-471")
    ),
)


def exact(holds: Callable[[Seen], bool]) -> Sign:
    return "exact", lambda seen: seen.status == "completed" and holds(seen)


def ends(status: str, code: str = "", reason: str = "") -> Callable[[Seen], bool]:
    """Whether the run ended so, as programs see it."""
    return lambda seen: (seen.status, seen.error, seen.incomplete) == (status, code, reason)


def counted(seen: Seen) -> bool:
    return bool(
        seen.run["usage"] == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    )


def shows_picture(seen: Seen) -> bool:
    return [seen.content(id) for id in seen.pictures] == [PNG]


def links_file(seen: Seen) -> bool:
    """The link in the text leads to a file of ours."""
    (note,) = seen.annotations
    text = seen.answer[note["start_index"] : note["end_index"]]
    content = seen.content(note["file_path"]["file_id"])
    return note["type"] == "file_path" and text == note["text"] and b"out.csv" in content


def cites_file(seen: Seen) -> bool:
    (note,) = seen.annotations
    text = seen.answer[note["start_index"] : note["end_index"]]
    cited = note["file_citation"]["file_id"]
    return bool(text) and text == note["text"] and cited == seen.files["data.csv"]


def found_file(seen: Seen) -> bool:
    """The search was a step, with our file among its results."""
    (search,) = (call["file_search"] for call in seen.calls if call["type"] == "file_search")
    return [found["file_id"] for found in search["results"]] == [seen.files["data.csv"]]


def lost_first(texts: list[str]) -> bool:
    """Whether the oldest message stayed away and the question is there."""
    return not any(text.startswith("first") for text in texts) and "3x + 11" in texts[-1]


def shows_cat(url: str) -> bool:
    return url.startswith("data:image/png;base64,") and url != PICTURE
