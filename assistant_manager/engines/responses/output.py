"""The output of a response as items: messages, and steps of tool calls that follow each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from assistant_manager.engines.base import (
    GeneratedFile,
    Item,
    Json,
    MessageItem,
    ToolCall,
    ToolCallsItem,
)
from assistant_manager.engines.responses.citations import cited, is_image, safe_name
from assistant_manager.engines.responses.status import Ending

HOSTED = ("code_interpreter_call", "file_search_call")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that code has written: `id` in `container`, or among the upstream's ordinary files
    where that is empty; of a picture the address, which may be a `data:` URL."""

    id: str
    name: str
    container: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What is known beside the output: our ids of files by the upstream's, and what was fetched."""

    ours: Mapping[str, str]
    fetched: Mapping[str, GeneratedFile]


def wanted(output: Iterable[Json]) -> list[Wanted]:
    """The files to fetch before the output can be told."""
    found: dict[str, Wanted] = {}
    for item in output:
        if item["type"] == "message":
            for annotation in _annotations(item):
                if one := _of_annotation(annotation):
                    found.setdefault(one.id, one)
        elif item["type"] == "code_interpreter_call":
            for number, url in enumerate(_pictures(item), start=1):
                found.setdefault(url, Wanted(url, f"{item['id']}-{number}.png"))
    return list(found.values())


def items_of(output: Sequence[Json], ending: Ending, written: Written) -> list[Item]:
    """Each item's key is the place of its first part, which a growing output does not change."""
    items: list[Item] = []
    for kind, group in groupby(enumerate(output), key=lambda placed: _kind(placed[1])):
        placed = list(group)
        items += list(_BUILDERS[kind](placed, ending, written)) if kind in _BUILDERS else []
    return items


def worth_keeping(output: Iterable[Json]) -> list[dict[str, Any]]:
    """The raw output without the bytes of its pictures, which we have as files."""
    return [
        {**item, "outputs": [out for out in item["outputs"] if not _is_inline(out)]}
        if item["type"] == "code_interpreter_call" and item.get("outputs")
        else dict(item)
        for item in output
    ]


def _is_inline(output: Json) -> bool:
    return str(output.get("url") or "").startswith("data:")


def _kind(item: Json) -> str:
    return "hosted" if item["type"] in HOSTED else str(item["type"])


_Placed = Sequence[tuple[int, Json]]


def _messages(placed: _Placed, ending: Ending, written: Written) -> Iterator[Item]:
    for at, item in placed:
        text, annotations = cited(
            _text(item), _annotations(item), written.ours, written.fetched.keys()
        )
        named = [one.id for note in _annotations(item) if (one := _of_annotation(note))]
        files = {id: written.fetched[id] for id in named if id in written.fetched}
        cut = ending.outcome != "completed" and item.get("status") != "completed"
        yield MessageItem(
            key=f"message-{at}",
            text=text,
            annotations=annotations,
            files=files,
            images=[file for file in files.values() if is_image(file.name)],
            done=ending.outcome != "working" and not cut,
        )


def _hosted(placed: _Placed, ending: Ending, written: Written) -> Iterator[Item]:
    calls = [_hosted_call(item, written) for _, item in placed]
    yield ToolCallsItem(f"tools-{placed[0][0]}", calls, done=ending.outcome != "working")


def _functions(placed: _Placed, ending: Ending, written: Written) -> Iterator[Item]:
    if not ending.is_cut_off:
        calls = [
            ToolCall(
                _said(item, "call_id"),
                "function",
                name=_said(item, "name"),
                arguments=_said(item, "arguments"),
            )
            for _, item in placed
        ]
        yield ToolCallsItem(f"functions-{placed[0][0]}", calls)


def _said(item: Json, name: str) -> str:
    """Raises TypeError for what is no text: a program could not answer such a call."""
    if not isinstance(item[name], str):
        raise TypeError(f"{name} is no text.")
    return str(item[name])


_BUILDERS = {"message": _messages, "hosted": _hosted, "function_call": _functions}


def _hosted_call(item: Json, written: Written) -> ToolCall:
    if item["type"] == "file_search_call":
        results = [_result(result, written.ours) for result in item.get("results") or ()]
        return ToolCall(item["id"], "file_search", results=results)
    outputs = item.get("outputs") or ()
    logs = "\n".join(output["logs"] for output in outputs if output["type"] == "logs")
    return ToolCall(
        item["id"],
        "code_interpreter",
        input=item.get("code") or "",
        logs=None if item.get("status") in ("in_progress", "interpreting") else logs,
        images=[written.fetched[url] for url in _pictures(item) if url in written.fetched],
    )


def _result(result: Json, ours: Mapping[str, str]) -> dict[str, Any]:
    file_id = result.get("file_id") or ""
    return {
        "file_id": ours.get(file_id, file_id),
        "file_name": result.get("filename") or "",
        "score": result.get("score") or 0.0,
        "content": [{"type": "text", "text": result.get("text") or ""}],
    }


def _pictures(item: Json) -> list[str]:
    """The addresses of the pictures that a cell shows."""
    outputs = item.get("outputs") or ()
    urls = [out.get("url") for out in outputs if out["type"] == "image"]
    return [url for url in urls if url and isinstance(url, str)]


def _text(item: Json) -> str:
    return "\n\n".join(_words(part) for part in item.get("content") or ())


def _words(part: Json) -> str:
    return part.get("text") or part.get("refusal") or ""


def _annotations(item: Json) -> list[dict[str, Any]]:
    """Those of all parts, at their places in the whole text."""
    found, before = [], 0
    for part in item.get("content") or ():
        for annotation in part.get("annotations") or ():
            places = {
                name: annotation[name] + before
                for name in ("index", "start_index", "end_index")
                if isinstance(annotation.get(name), int)
            }
            found.append({**annotation, **places})
        before += len(_words(part)) + 2
    return found


def _of_annotation(annotation: Json) -> Wanted | None:
    id = annotation.get("file_id")
    if (
        not id
        or not isinstance(id, str)
        or annotation.get("type") not in ("container_file_citation", "file_path")
    ):
        return None
    return Wanted(
        id, safe_name(annotation.get("filename")) or id, annotation.get("container_id") or ""
    )
