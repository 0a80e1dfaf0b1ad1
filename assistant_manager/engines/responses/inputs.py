"""Messages, and what earlier attempts of the run came to, as input items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from assistant_manager.engines.base import (
    ConnectionInfo,
    Json,
    MessageItem,
    ToolCall,
    ToolCallsItem,
    Turn,
    TurnMessage,
)
from assistant_manager.engines.context import reviewers_words

Item = dict[str, Any]

DELETED_IMAGE = "(There was an image here. Its file has been deleted.)"


def origin_of(connection: ConnectionInfo, model: str) -> str:
    """Whose reasoning it is: it is encrypted for one account and one model."""
    return f"{connection.id}:{model}"


def message_items(messages: Iterable[TurnMessage], images: Mapping[str, Json]) -> list[Item]:
    """`images`: for each file of ours that is shown, `file_id` or `image_url`."""
    return [item for message in messages if (item := _message(message, images))]


def replayed(turn: Turn) -> list[Item]:
    """What was said since the question: earlier outputs, the clients' tool outputs, the
    reviewer's notes."""
    origin = origin_of(turn.connection, turn.model)
    note: str | None = None
    items: list[Item] = []
    if all(state.get("output") is not None for state in turn.past_states):
        outputs = {call.id: call.output for call in _calls(turn) if call.output is not None}
        for state in turn.past_states:
            if (asked := state.get("note")) and asked != note:
                items.append(_from_reviewer(asked))
                note = asked
            # An adopted attempt does not say; it is of this run all the same.
            ours = state.get("origin", origin) == origin
            items += _output(state["output"], outputs, with_reasoning=ours)
    else:
        items += _without_raw_output(turn)
    if turn.note and turn.note != note:
        items.append(_from_reviewer(turn.note))
    return items


def _message(message: TurnMessage, images: Mapping[str, Json]) -> Item | None:
    if message.role == "assistant":
        # Pictures have no place here: an assistant's message is text only.
        text = "\n\n".join(_spoken(part) for part in message.content if part["type"] == "text")
        return _says("assistant", text) if text else None
    if all(part["type"] == "text" for part in message.content):
        return _says("user", message.text)
    return _says("user", [_part(part, images) for part in message.content])


def _says(role: str, content: str | list[Item]) -> Item:
    """With its type, which is optional but for llama.cpp."""
    return {"type": "message", "role": role, "content": content}


def _spoken(part: Json) -> str:
    """The text without the marks of its citations, which the model would copy."""
    text: str = part["text"]["value"]
    for annotation in part["text"].get("annotations") or ():
        if annotation["type"] == "file_citation" and annotation.get("text"):
            text = text.replace(annotation["text"], "")
    return text


def _part(part: Json, images: Mapping[str, Json]) -> Item:
    kind = part["type"]
    if kind == "text":
        return {"type": "input_text", "text": part["text"]["value"]}
    body = part[kind]
    detail = {"type": "input_image", "detail": body.get("detail") or "auto"}
    if kind == "image_url":
        return {**detail, "image_url": body["url"]}
    image = images.get(body["file_id"])
    return {**detail, **image} if image else {"type": "input_text", "text": DELETED_IMAGE}


def _from_reviewer(note: str) -> Item:
    return _says("user", reviewers_words(note))


def _calls(turn: Turn) -> Iterator[ToolCall]:
    for item in turn.past:
        if isinstance(item, ToolCallsItem):
            yield from (call for call in item.calls if call.type == "function")


def _output(
    raw: Sequence[Json], outputs: Mapping[str, str], *, with_reasoning: bool
) -> Iterator[Item]:
    """One earlier response as input, then what its functions returned.

    Reasoning is only taken encrypted and together with all that followed it; hosted calls only
    with the reasoning before them. Without their ids, messages and calls are bound to nothing.
    """
    calls = [item["call_id"] for item in raw if item["type"] == "function_call"]
    thoughts = [item for item in raw if item["type"] == "reasoning"]
    bound = (
        with_reasoning
        and all(thought.get("encrypted_content") for thought in thoughts)
        and all(call in outputs for call in calls)
    )
    kept: list[Item] = []
    for item in reversed(raw):
        match item["type"]:
            case "message":
                if message := _said(item):
                    kept.append(message)
            case "function_call":
                if item["call_id"] in outputs:
                    kept.append(function_call(item["call_id"], item["name"], item["arguments"]))
            case "reasoning":
                if bound and kept:
                    kept.append({name: v for name, v in item.items() if v is not None})
            case _ if bound or not thoughts:
                kept.append(dict(item))
    yield from reversed(kept)
    yield from (returned(call, outputs[call]) for call in calls if call in outputs)


def _said(item: Json) -> Item | None:
    text = "\n\n".join(
        part.get("text") or part.get("refusal") or "" for part in item.get("content") or ()
    )
    if not text:
        return None
    phase = {"phase": item["phase"]} if item.get("phase") else {}
    return {**_says("assistant", text), **phase}


def _without_raw_output(turn: Turn) -> Iterator[Item]:
    """From our own rows: another engine has answered before, or the state was lost."""
    for item in turn.past:
        if isinstance(item, MessageItem):
            if item.text:
                yield _says("assistant", item.text)
            continue
        done = [call for call in item.calls if call.type == "function" and call.output is not None]
        yield from (function_call(call.id, call.name, call.arguments) for call in done)
        yield from (returned(call.id, call.output or "") for call in done)


def function_call(call_id: str, name: str, arguments: str) -> Item:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def returned(call_id: str, output: str) -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": output}
