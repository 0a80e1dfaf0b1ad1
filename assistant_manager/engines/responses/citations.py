"""Citations as programs of Assistants v2 expect them: each with a text of its own in the answer.

The Responses API cites at a point, without any mark there. Programs run
`value.replace(annotation.text, …)`, which would spoil the answer were that text empty or found
elsewhere, so a mark that stands nowhere else is put at each point. All positions are code points.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from assistant_manager.engines.base import Json

SANDBOX = "sandbox:/mnt/data/"
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_BRACKETS = str.maketrans("【】\r\n", "[]  ")
_MARK = re.compile("【[^【】]*】")


@dataclass(frozen=True, slots=True)
class _Mark:
    """One annotation: over `start` to `end` of the original, or with `text` to be put at `start`."""

    start: int
    end: int
    kind: str
    file_id: str
    text: str = ""


def safe_name(name: object) -> str:
    """The last part of a file's name, on one line; "" where there is none."""
    return " ".join(PurePosixPath(str(name or "")).name.splitlines())


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES)


def cited(
    text: str, annotations: Iterable[Json], ours: Mapping[str, str], fetched: Container[str]
) -> tuple[str, list[dict[str, Any]]]:
    """The text with its marks, and its annotations on the wire of v2.

    `ours` are our ids of files by the upstream's. Of files that code has written only those in
    `fetched` are spoken of; they keep the upstream's id.
    """
    marks = _Marks(text, ours, fetched)
    for annotation in sorted(annotations, key=_position):
        marks.add(annotation)
    return marks.written()


def _position(annotation: Json) -> int:
    return _place(annotation, "index") or _place(annotation, "start_index")


def _place(annotation: Json, name: str) -> int:
    """0 where the annotation does not say."""
    place = annotation.get(name)
    return place if isinstance(place, int) else 0


class _Marks:
    def __init__(self, text: str, ours: Mapping[str, str], fetched: Container[str]) -> None:
        self.text = text
        self._ours, self._fetched = ours, fetched
        self._taken = set(_MARK.findall(text))
        self._number = 0
        self._marks: list[_Mark] = []

    def add(self, annotation: Json) -> None:
        file_id = annotation.get("file_id") or ""
        match annotation.get("type"):
            case "file_citation":
                file_id = self._ours.get(file_id, file_id)
                self._add_point(annotation, "file_citation", file_id)
            case "file_path" if file_id in self._fetched:
                self._add_point(annotation, "file_path", file_id)
            case "container_file_citation" if file_id in self._fetched:
                self._add_span(annotation, file_id)

    def _add_point(self, annotation: Json, kind: str, file_id: str) -> None:
        at = self._clamped(annotation, "index")
        mark = self._new_mark(annotation.get("filename") or annotation.get("file_id") or "source")
        self._marks.append(_Mark(at, at, kind, file_id, mark))

    def _add_span(self, annotation: Json, file_id: str) -> None:
        """Around the link that the model wrote; a file without one gets a link, a picture is
        shown anyway."""
        name = safe_name(annotation.get("filename")) or file_id
        start, end = (
            self._clamped(annotation, "start_index"),
            self._clamped(annotation, "end_index"),
        )
        link = ""
        if start >= end:
            if is_image(name):
                return
            link = SANDBOX + name
            # Not where it only begins the link to another file, such as `a.csv` in `a.csv.zip`.
            if found := re.search(re.escape(link) + r"(?![\w-]|\.\w)", self.text):
                start, end, link = *found.span(), ""
            else:
                end = start
        if any(
            (mark.start, mark.end, mark.file_id) == (start, end, file_id) for mark in self._marks
        ):
            return
        if link and self._occurs(link):
            link = self._new_mark(name)
        self._marks.append(_Mark(start, end, "file_path", file_id, link))

    def _clamped(self, annotation: Json, name: str) -> int:
        return min(max(_place(annotation, name), 0), len(self.text))

    def _occurs(self, link: str) -> bool:
        """Whether replacing `link` would hit another one as well."""
        texts = (mark.text for mark in self._marks if mark.text)
        return link in self.text or any(link in text or text in link for text in texts)

    def _new_mark(self, name: object) -> str:
        while True:
            self._number += 1
            mark = f"【{self._number}†{str(name).translate(_BRACKETS)}】"
            if mark not in self._taken:
                return mark

    def written(self) -> tuple[str, list[dict[str, Any]]]:
        spans = [mark for mark in self._marks if not mark.text]
        points = sorted(
            ((self._outside(mark.start, spans), mark) for mark in self._marks if mark.text),
            key=lambda placed: placed[0],
        )
        text, done, annotations = "", 0, []
        for at, mark in points:
            text += self.text[done:at]
            annotations.append(_annotation(mark, mark.text, len(text)))
            text += mark.text
            done = at
        text += self.text[done:]
        for mark in spans:
            before = sum(len(other.text) for at, other in points if at <= mark.start)
            slice = self.text[mark.start : mark.end]
            annotations.append(_annotation(mark, slice, mark.start + before))
        return text, sorted(annotations, key=lambda annotation: annotation["start_index"])

    @staticmethod
    def _outside(at: int, spans: list[_Mark]) -> int:
        """Behind a span rather than inside it."""
        return max([at, *(span.end for span in spans if span.start < at < span.end)])


def _annotation(mark: _Mark, text: str, start: int) -> dict[str, Any]:
    return {
        "type": mark.kind,
        "text": text,
        "start_index": start,
        "end_index": start + len(text),
        mark.kind: {"file_id": mark.file_id},
    }
