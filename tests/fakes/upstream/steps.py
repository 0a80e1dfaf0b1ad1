"""What a run leaves behind: its steps, and the assistant's message."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.fakes.upstream import faults, files, script
from tests.fakes.upstream.call import new_id

if TYPE_CHECKING:
    from tests.fakes.upstream.runs import Run
    from tests.fakes.upstream.state import State
    from tests.fakes.upstream.threads import Thread

Row = dict[str, Any]

CUT = {
    "incomplete": "max_tokens",
    "failed": "run_failed",
    "expired": "run_expired",
    "cancelled": "run_cancelled",
}
"""Why a message is incomplete, by the run's end."""


def add(run: Run, details: Row, status: str = "completed") -> Row:
    now = int(time.time())
    step = {
        "id": new_id("step_"),
        "object": "thread.run.step",
        "created_at": now,
        "assistant_id": run.body["assistant_id"],
        "thread_id": run.body["thread_id"],
        "run_id": run.id,
        "type": details["type"],
        "status": status,
        "step_details": details,
        "completed_at": now if status == "completed" else None,
        "metadata": {},
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
    step |= dict.fromkeys(("last_error", "expired_at", "cancelled_at", "failed_at"))
    run.steps.append(step)
    return step


def call_functions(run: Run) -> list[Row]:
    calls: list[Row] = [
        {
            "id": new_id("call_"),
            "type": "function",
            "function": {"name": tool["name"], "arguments": script.arguments(tool)},
        }
        for tool in run.script["tools"]
    ]
    kept = [{**call, "function": {**call["function"], "output": None}} for call in calls]
    add(run, {"type": "tool_calls", "tool_calls": kept}, status="in_progress")
    return calls


def take_outputs(run: Run, given: dict[str, str]) -> None:
    step = run.steps[-1]
    for call in step["step_details"]["tool_calls"]:
        call["function"]["output"] = given[call["id"]]
        run.outputs.append(given[call["id"]])
    step |= {"status": "completed", "completed_at": int(time.time())}


def answer(state: State, run: Run) -> None:
    told = run.script
    hosted = [code_call(state, told)] if told.get("code") else []
    hosted += [search_call(run)] if told.get("citations") else []
    if hosted:
        shown = open_step(run) or add(run, {"type": "tool_calls", "tool_calls": []})
        for call, before in zip(hosted, shown["step_details"]["tool_calls"], strict=False):
            call["id"] = before["id"]
        shown["step_details"]["tool_calls"] = hosted
        shown |= {"status": "completed", "completed_at": int(time.time())}
    cut = CUT.get(told.get("status", "completed"))
    message = run.thread.add(
        "assistant",
        content(state, run),
        assistant_id=run.body["assistant_id"],
        run_id=run.id,
        status="incomplete" if cut else "completed",
        incomplete_details={"reason": cut} if cut else None,
    )
    creation = {"message_id": message["id"]}
    open_still = cut is not None and cut != "max_tokens"
    details = {"type": "message_creation", "message_creation": creation}
    add(run, details, "in_progress" if open_still else "completed")


def show_code(run: Run) -> None:
    """The code is there before its outputs are. Functions come first."""
    code = run.script.get("code")
    if code and not open_step(run) and (run.outputs or not run.script.get("tools")):
        call = {"id": new_id("call_"), "type": "code_interpreter"}
        call["code_interpreter"] = {"input": code, "outputs": []}
        add(run, {"type": "tool_calls", "tool_calls": [call]}, status="in_progress")


def open_step(run: Run) -> Row | None:
    last = run.steps[-1] if run.steps else None
    return last if last and last["status"] == "in_progress" else None


def close(run: Run, status: str) -> None:
    """A step that was open ends as its run; the last one carries the usage."""
    if not run.steps:
        return
    step = run.steps[-1]
    if step["status"] == "in_progress":
        step["status"] = status
        if f"{status}_at" in step:
            step[f"{status}_at"] = int(time.time())
    step["usage"] = run.body["usage"]


def code_call(state: State, told: Row) -> Row:
    shown: list[Row] = [{"type": "logs", "logs": str(told.get("logs", "1"))}]
    if told.get("plot"):
        file_id = files.generate(state, "plot.png", "assistant-").body["id"]
        shown.append({"type": "image", "image": {"file_id": file_id}})
    inside = {"input": told["code"], "outputs": shown}
    return {"id": new_id("call_"), "type": "code_interpreter", "code_interpreter": inside}


def search_call(run: Run) -> Row:
    results = [
        {
            "file_id": file.body["id"],
            "file_name": file.body["filename"],
            "score": 0.9,
            "content": [{"type": "text", "text": file.content.decode(errors="replace")}],
        }
        for file in run.files
    ]
    ranking = {"ranker": "default_2024_08_21", "score_threshold": 0.0}
    inside = {"ranking_options": ranking, "results": results}
    return {"id": new_id("call_"), "type": "file_search", "file_search": inside}


def content(state: State, run: Run) -> list[Row]:
    told = run.script
    text = script.answer(told, run.outputs)
    if told.get("refusal"):
        return [{"type": "refusal", "refusal": text}]
    text, notes = cite(run, text)
    parts: list[Row] = []
    if told.get("image"):
        file_id = files.generate(state, told["image"], "assistant-").body["id"]
        parts.append({"type": "image_file", "image_file": {"file_id": file_id, "detail": "auto"}})
    if told.get("file"):
        text, note = link(state, text, told["file"])
        notes.append(note)
    return [*parts, {"type": "text", "text": {"value": text, "annotations": notes}}]


def cite(run: Run, text: str) -> tuple[str, list[Row]]:
    """The text with a marker for every citation, each found where its note says."""
    notes: list[Row] = []
    shift = 0
    places = sorted(run.script.get("citations") or (), key=lambda place: place["at"])
    for number, place in enumerate(places):
        marker = f"【4:{number}†source】"
        start = place["at"] + shift
        text = text[:start] + marker + text[start:]
        shift += len(marker)
        file_id = run.files[place["file"]].body["id"]
        notes.append(annotation("file_citation", marker, start, file_id))
    return text, notes


def link(state: State, text: str, name: str) -> tuple[str, Row]:
    address = f"sandbox:/mnt/data/{name}"
    if address not in text:
        text = f"{text}\n[{name}]({address})"
    file_id = files.generate(state, name, "assistant-").body["id"]
    return text, annotation("file_path", address, text.index(address), file_id)


def annotation(kind: str, text: str, start: int, file_id: str) -> Row:
    place = {"start_index": start, "end_index": start + len(text)}
    return {"type": kind, "text": text, **place, kind: {"file_id": file_id}}


def searched_files(state: State, assistant: Row, thread: Thread) -> list[files.File]:
    """The files of the assistant's and the thread's stores, then the attachments."""
    found = []
    for owner in (assistant, thread.body):
        search = (owner.get("tool_resources") or {}).get("file_search") or {}
        for id in search.get("vector_store_ids") or ():
            found += [files.find(state, one) for one in files.find_store(state, id).file_ids]
    attached = [message["attachments"] for message in thread.messages.values()]
    return found + [files.find(state, id) for id in faults.file_ids(attached)]
