"""A Turn as the bodies that make the assistant, the thread and the run upstream.

What a field means is the same on both sides, so most are passed on; those left at their default
are not sent, since Azure's older versions do not know all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from assistant_manager.engines.base import (
    Item,
    Json,
    MessageItem,
    ToolCall,
    ToolCallsItem,
    Turn,
    TurnMessage,
)

Row = dict[str, Any]

MESSAGES_AT_ONCE = 32
"""What OpenAI and Azure take in the creation of a thread."""
LEAST_TOKENS = 256
"""The smallest limit that a run may have."""
FILES_AT_MOST = 20
"""What the code interpreter may have from a thread, and as many again from the assistant."""
MAY_BE_DROPPED = {"temperature", "top_p", "reasoning_effort"}
"""What some models refuse to be told, and answer well without."""
TEXT_AT_MOST = 256_000  # characters of one text
GONE = "(A picture that cannot be shown here.)"


def assistant(turn: Turn) -> Row:
    """One for this attempt alone: unlike a run, an assistant may have 128 tools."""
    body: Row = {
        "model": turn.model,
        "name": f"For {turn.run_id}",
        "instructions": turn.instructions,
        "tools": [dict(tool) for tool in turn.tools],
        "metadata": metadata(turn.run_id, turn.attempt_key),
    }
    if turn.response_format != "auto":
        body["response_format"] = turn.response_format
    chosen = {
        "temperature": turn.temperature,
        "top_p": turn.top_p,
        "reasoning_effort": turn.reasoning_effort,
    }
    return body | {name: value for name, value in chosen.items() if value is not None}


def thread(turn: Turn, copies: Mapping[str, str]) -> Row:
    """`copies` are the upstream's file ids by ours; a file without one is left out."""
    body: Row = {
        "messages": _fitted([_message(message, copies) for message in _conversation(turn)]),
        "metadata": metadata(turn.run_id, turn.attempt_key),
    }
    if offered := code_files(turn, copies)[:FILES_AT_MOST]:
        body["tool_resources"] = {"code_interpreter": {"file_ids": offered}}
    return body


def rest_of_files(turn: Turn, copies: Mapping[str, str]) -> Row:
    """For the assistant, which may have as many as the thread; empty where the thread has all."""
    rest = code_files(turn, copies)[FILES_AT_MOST:]
    return {"tool_resources": {"code_interpreter": {"file_ids": rest}}} if rest else {}


def run(turn: Turn, assistant_id: str) -> Row:
    body: Row = {
        "assistant_id": assistant_id,
        "metadata": metadata(turn.run_id, turn.attempt_key),
    }
    # What was demanded before has been called: demanding it again would never end.
    if not outputs(turn) and turn.tool_choice != "auto":
        body["tool_choice"] = turn.tool_choice
    if not turn.parallel_tool_calls:
        body["parallel_tool_calls"] = False
    for name, left in budgets(turn).items():
        body[f"max_{name}_tokens"] = left
    return body


def metadata(run_id: str, attempt_key: str) -> dict[str, str]:
    return {"am_run": run_id, "am_attempt": attempt_key}


def budgets(turn: Turn) -> dict[str, int]:
    """What is left of the run's limits, by what is counted."""
    limits = {
        "prompt": (turn.max_prompt_tokens, turn.spent.prompt_tokens),
        "completion": (turn.max_completion_tokens, turn.spent.completion_tokens),
    }
    return {name: most - spent for name, (most, spent) in limits.items() if most is not None}


def code_files(turn: Turn, copies: Mapping[str, str]) -> list[str]:
    """The upstream's ids of the files that the code interpreter is to have."""
    return [copies[id] for id in _code_files(turn) if id in copies]


def _code_files(turn: Turn) -> Sequence[str]:
    return (turn.tool_resources.get("code_interpreter") or {}).get("file_ids") or ()


def needed(turn: Turn) -> dict[str, bool]:
    """Our ids of the files that go up, and whether each is shown as a picture."""
    files = dict.fromkeys(_code_files(turn), False)
    for message in turn.messages:
        files |= {attachment["file_id"]: False for attachment in message.attachments}
        if message.role == "user":
            files |= dict.fromkeys(_pictures(message), True)
    return files


def _pictures(message: TurnMessage) -> list[str]:
    shown = (part["image_file"] for part in message.content if part["type"] == "image_file")
    return [str(picture["file_id"]) for picture in shown]


def outputs(turn: Turn) -> dict[str, str]:
    """What the client has said its functions returned, by call."""
    return {call.id: call.output for call in _calls(turn.past) if call.output is not None}


def _calls(items: Iterable[Item]) -> Iterator[ToolCall]:
    for item in items:
        if isinstance(item, ToolCallsItem):
            yield from (call for call in item.calls if call.type == "function")


def _conversation(turn: Turn) -> Iterator[TurnMessage]:
    """The thread, and what this run has come to so far where its own upstream thread is no more."""
    yield from turn.messages
    for item in turn.past:
        if isinstance(item, MessageItem) and item.text:
            yield _say("assistant", item.text)
    returned = [
        f"{call.name}({call.arguments}) returned:\n{call.output}"
        for call in _calls(turn.past)
        if call.output is not None
    ]
    if returned:
        yield _say("user", "\n\n".join(["The functions you called:", *returned]))
    if turn.note:
        yield _say("user", turn.note)


def _say(role: Any, text: str) -> TurnMessage:
    return TurnMessage(role, [{"type": "text", "text": {"value": text}}])


def _message(message: TurnMessage, copies: Mapping[str, str]) -> Row:
    parts = [row for part in message.content for row in _parts(part, copies)]
    if message.role == "assistant":  # theirs may hold text only
        parts = [part for part in parts if part["type"] == "text"] or _texts(GONE)
    only_text = len(parts) == 1 and parts[0]["type"] == "text"
    attached = [
        {**attachment, "file_id": copies[attachment["file_id"]]}
        for attachment in message.attachments
        if attachment["file_id"] in copies
    ]
    return {
        "role": message.role,
        "content": parts[0]["text"] if only_text else parts,
        **({"attachments": attached} if attached else {}),
    }


def _parts(part: Json, copies: Mapping[str, str]) -> list[Row]:
    """Requests say a text plainly, where what is stored has room for annotations."""
    match part["type"]:
        case "text":
            return _texts(part["text"]["value"])
        case "image_file":
            picture = part["image_file"]
            if picture["file_id"] not in copies:
                return _texts(GONE)
            there = {**picture, "file_id": copies[picture["file_id"]]}
            return [{"type": "image_file", "image_file": there}]
        case _:
            return [dict(part)]


def _texts(value: str) -> list[Row]:
    """In pieces that are taken; an empty text is not."""
    starts = range(0, max(len(value), 1), TEXT_AT_MOST)
    return [
        {"type": "text", "text": value[start : start + TEXT_AT_MOST] or " "} for start in starts
    ]


def _fitted(messages: list[Row]) -> list[Row]:
    """As many as are taken at once. The oldest ones become one message that says whose each was:
    adding them one by one would take minutes, and leave half a thread where it breaks off."""
    surplus = len(messages) - MESSAGES_AT_ONCE
    if surplus <= 0:
        return messages
    folded = _texts("Earlier in this conversation:")
    attached: list[Row] = []
    for message in messages[: surplus + 1]:
        said = message["content"]
        folded += _texts(f"{message['role'].capitalize()}:")
        folded += _texts(said) if isinstance(said, str) else said
        attached += message.get("attachments", [])
    first: Row = {"role": "user", "content": folded}
    return [first | ({"attachments": attached} if attached else {}), *messages[surplus + 1 :]]
