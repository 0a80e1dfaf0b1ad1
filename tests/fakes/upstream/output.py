"""The output items of a response."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from tests.fakes.upstream import files, script
from tests.fakes.upstream.call import new_id
from tests.fakes.upstream.script import Script

if TYPE_CHECKING:
    from tests.fakes.upstream.state import State

Item = dict[str, Any]


def compose(state: State, told: Script, body: dict[str, Any], items: list[Item]) -> list[Item]:
    """Calls of functions first; with their outputs in the input, hosted tools and the message."""
    outputs = [
        script.text_of(item["output"])
        for item in items
        if item.get("type") == "function_call_output"
    ]
    include = body.get("include") or []
    made = [thought(include)] if told.get("reasoning") else []
    if told.get("tools") and not outputs and body.get("tool_choice") != "none":
        return made + [function_call(tool) for tool in told["tools"]]
    container = new_id("cntr_")
    found = stored_files(state, body)
    if told.get("code"):
        made.append(code_call(told, container, include))
    if told.get("citations"):
        made.append(search_call(found, include))
    return [*made, message(state, told, script.answer(told, outputs), container, found)]


def thought(include: list[str]) -> Item:
    secret = "reasoning.encrypted_content" in include
    return {
        "id": new_id("rs_"),
        "type": "reasoning",
        "summary": [],
        "encrypted_content": new_id("gAAAAA") if secret else None,
    }


def function_call(tool: dict[str, Any]) -> Item:
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "status": "completed",
        "call_id": new_id("call_"),
        "name": tool["name"],
        "arguments": script.arguments(tool),
    }


def code_call(told: Script, container: str, include: list[str]) -> Item:
    shown: list[Item] = [{"type": "logs", "logs": str(told.get("logs", "1"))}]
    if told.get("plot"):
        picture = base64.b64encode(files.PNG).decode()
        shown.append({"type": "image", "url": f"data:image/png;base64,{picture}"})
    return {
        "id": new_id("ci_"),
        "type": "code_interpreter_call",
        "status": "completed",
        "code": told["code"],
        "container_id": container,
        "outputs": shown if "code_interpreter_call.outputs" in include else None,
    }


def search_call(found: list[files.File], include: list[str]) -> Item:
    results = [
        {
            "file_id": file.body["id"],
            "filename": file.body["filename"],
            "score": 0.9,
            "text": file.content.decode(errors="replace"),
            "attributes": {},
        }
        for file in found
    ]
    return {
        "id": new_id("fs_"),
        "type": "file_search_call",
        "status": "completed",
        "queries": ["what is it about"],
        "results": results if "file_search_call.results" in include else None,
    }


def message(state: State, told: Script, text: str, container: str, found: list[files.File]) -> Item:
    part: Item = {"type": "refusal", "refusal": text}
    if not told.get("refusal"):
        notes = citations(told, found) + left_behind(state, told, text, container)
        part = {"type": "output_text", "text": text, "annotations": notes, "logprobs": []}
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if told.get("status") == "incomplete" else "completed",
        "content": [part],
    }


def citations(told: Script, found: list[files.File]) -> list[Item]:
    """Points in the text, without a marker there."""
    return [
        {
            "type": "file_citation",
            "index": place["at"],
            "file_id": found[place["file"]].body["id"],
            "filename": found[place["file"]].body["filename"],
        }
        for place in told.get("citations") or ()
    ]


def left_behind(state: State, told: Script, text: str, container: str) -> list[Item]:
    """Files of the code: around their link where the text has one, else an empty slice at its end."""
    notes = []
    for name in filter(None, (told.get("image"), told.get("file"))):
        link = f"sandbox:/mnt/data/{name}"
        start = text.find(link)
        start, end = (start, start + len(link)) if start >= 0 else (len(text), len(text))
        notes.append(
            {
                "type": "container_file_citation",
                "container_id": container,
                "file_id": files.generate(state, name, "cfile_").body["id"],
                "filename": name,
                "start_index": start,
                "end_index": end,
            }
        )
    return notes


def store_ids(body: dict[str, Any]) -> list[str]:
    tools = body.get("tools") or ()
    return [id for tool in tools for id in tool.get("vector_store_ids") or ()]


def stored_files(state: State, body: dict[str, Any]) -> list[files.File]:
    stores = [files.find_store(state, id) for id in store_ids(body)]
    return [files.find(state, id) for store in stores for id in store.file_ids]
