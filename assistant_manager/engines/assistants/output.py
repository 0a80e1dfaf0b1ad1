"""Steps and messages of an upstream run as the items of an attempt.

The shapes are the wire's on both sides; only ids of files differ, and what code wrote is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from assistant_manager.engines.assistants.files import Downloads
from assistant_manager.engines.base import (
    GeneratedFile,
    Item,
    MessageItem,
    ToolCall,
    ToolCallsItem,
)

Row = dict[str, Any]


class Output:
    """`ours` are our file ids by the upstream's."""

    def __init__(self, downloads: Downloads, ours: Mapping[str, str]) -> None:
        self._downloads = downloads
        self._ours = ours

    async def items(self, steps: Sequence[Row], messages: Iterable[Row]) -> list[Item]:
        said = {message["id"]: message for message in messages}
        spoken = [said[id] for id in map(message_of, steps) if id in said]
        await self._downloads.fetch(_pictures(steps, spoken), pictures=True)
        await self._downloads.fetch(
            note["file_path"]["file_id"]
            for message in spoken
            for note in _notes(message)
            if note["type"] == "file_path"
        )
        found = (self._item(step, said) for step in steps)
        return [item for item in found if item is not None]

    def _item(self, step: Row, said: Mapping[str, Row]) -> Item | None:
        if step["type"] == "message_creation":
            message = said.get(message_of(step))
            return self._message(step["id"], message) if message else None
        is_open = step["status"] == "in_progress"
        calls = [self._call(call, is_open) for call in _known(step)]
        if not calls:
            return None
        error = (step.get("last_error") or {}).get("message")
        done = step["status"] in ("completed", "failed")
        return ToolCallsItem(step["id"], calls, done=done, error=error if done else None)

    def _call(self, call: Row, is_open: bool) -> ToolCall:
        id, body = call["id"], call[call["type"]]
        match call["type"]:
            case "function":
                return ToolCall(
                    id,
                    "function",
                    name=body["name"],
                    arguments=body["arguments"],
                    output=body.get("output"),
                )
            case "code_interpreter":
                outputs = body.get("outputs") or []
                logs = [output["logs"] for output in outputs if output["type"] == "logs"]
                pictures = [o["image"]["file_id"] for o in outputs if o["type"] == "image"]
                return ToolCall(
                    id,
                    "code_interpreter",
                    input=body["input"],
                    logs=None if is_open and not outputs else "".join(logs),
                    images=self._files(pictures),
                )
            case _:
                results = [self._result(result) for result in body.get("results") or ()]
                return ToolCall(id, "file_search", results=results)

    def _result(self, result: Row) -> Row:
        return {**result, "file_id": self._ours.get(result["file_id"], result["file_id"])}

    def _message(self, key: str, message: Row) -> MessageItem:
        pictures = [
            part["image_file"]["file_id"]
            for part in message["content"]
            if part["type"] == "image_file"
        ]
        text, notes = _joined(message)
        written = {note["file_path"]["file_id"] for note in notes if note["type"] == "file_path"}
        files = {id: file for id in sorted(written) if (file := self._downloads.get(id))}
        return MessageItem(
            key,
            text,
            annotations=[note for note in map(self._note, notes) if note],
            files=files,
            images=self._files(pictures),
            done=message.get("status", "completed") == "completed",
        )

    def _note(self, note: Row) -> Row | None:
        """None where the file it leads to is no more."""
        kind = note["type"]
        id = note[kind]["file_id"]
        if kind == "file_path":
            return note if self._downloads.get(id) else None
        return {**note, kind: {**note[kind], "file_id": self._ours.get(id, id)}}

    def _files(self, ids: Iterable[str]) -> list[GeneratedFile]:
        return [file for id in ids if (file := self._downloads.get(id))]


def under_way(steps: Iterable[Row]) -> list[Item]:
    """The code of a run that still works. Its outputs come whole or not at all: they wait."""
    return [
        ToolCallsItem(step["id"], calls)
        for step in steps
        if (
            calls := [
                ToolCall(call["id"], "code_interpreter", input=call["code_interpreter"]["input"])
                for call in _known(step)
                if call["type"] == "code_interpreter"
            ]
        )
    ]


def is_open_call(item: Item) -> bool:
    """Whether a function of the client's is called here that has not returned."""
    return isinstance(item, ToolCallsItem) and any(
        call.type == "function" and call.output is None for call in item.calls
    )


def message_of(step: Row) -> str:
    """The id of the message that the step wrote; "" where it wrote none."""
    return str((step["step_details"].get("message_creation") or {}).get("message_id", ""))


def _known(step: Row) -> Iterator[Row]:
    """The calls of tools that have a place in our steps; Azure's agents have more."""
    for call in step["step_details"].get("tool_calls", ()):
        if call["type"] in ("function", "code_interpreter", "file_search"):
            yield call


def _notes(message: Row) -> Iterator[Row]:
    """The annotations that lead to files; Azure's agents have others."""
    for part in message["content"]:
        if part["type"] == "text":
            for note in part["text"].get("annotations") or ():
                if note["type"] in ("file_citation", "file_path"):
                    yield note


def _pictures(steps: Iterable[Row], messages: Iterable[Row]) -> Iterator[str]:
    for step in steps:
        for call in _known(step):
            for output in (call.get("code_interpreter") or {}).get("outputs") or ():
                if output["type"] == "image":
                    yield output["image"]["file_id"]
    for message in messages:
        for part in message["content"]:
            if part["type"] == "image_file":
                yield part["image_file"]["file_id"]


def _joined(message: Row) -> tuple[str, list[Row]]:
    """The text of all parts, and their annotations with places in it."""
    text, notes = "", []
    for part in message["content"]:
        if part["type"] not in ("text", "refusal"):
            continue
        text += "\n\n" if text else ""
        notes += [_shifted(note, len(text)) for note in _notes({"content": [part]})]
        text += part["refusal"] if part["type"] == "refusal" else part["text"]["value"]
    return text, notes


def _shifted(note: Row, by: int) -> Row:
    places: Row = {name: note[name] + by for name in ("start_index", "end_index") if name in note}
    return {**note, **places}
