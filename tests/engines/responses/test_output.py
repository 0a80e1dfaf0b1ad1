"""Output items as messages and steps, also while the upstream still adds to them."""

from __future__ import annotations

from typing import Any

from assistant_manager.engines.base import GeneratedFile, MessageItem, ToolCallsItem
from assistant_manager.engines.responses.output import Written, items_of, wanted, worth_keeping
from assistant_manager.engines.responses.status import Ending

NOTHING = Written(ours={}, fetched={})
PICTURE = "data:image/png;base64,AAAA"


def message(*texts: str, status: str = "completed", **part: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], **part} for text in texts]
    return {"type": "message", "id": "msg_1", "status": status, "content": content}


def cell(status: str = "completed", outputs: Any = None) -> dict[str, Any]:
    return {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": status,
        "code": "6 * 7",
        "container_id": "cntr_1",
        "outputs": outputs,
    }


def search() -> dict[str, Any]:
    return {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["x"]}


def call() -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "now",
        "arguments": "{}",
    }


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}


def test_hosted_calls_in_a_row_are_one_step_and_functions_another() -> None:
    output = [THOUGHT, cell(), search(), message("Wait."), call(), {**call(), "call_id": "call_2"}]
    tools, text, functions = items_of(output, Ending("completed"), NOTHING)
    assert isinstance(tools, ToolCallsItem)
    assert [one.type for one in tools.calls] == ["code_interpreter", "file_search"]
    assert isinstance(text, MessageItem)
    assert isinstance(functions, ToolCallsItem)
    assert [one.id for one in functions.calls] == ["call_1", "call_2"]
    assert (tools.done, text.done, functions.done) == (True, True, False)


def test_items_keep_their_keys_while_the_output_grows() -> None:
    output = [THOUGHT, cell(), search(), THOUGHT, message("x = 42"), call()]
    whole = [item.key for item in items_of(output, Ending("completed"), NOTHING)]
    for length in range(len(output)):
        part = items_of(output[:length], Ending("working"), NOTHING)
        assert [item.key for item in part] == whole[: len(part)]
        assert not any(item.done for item in part)


def test_a_cell_that_runs_has_no_logs_yet() -> None:
    (running,) = items_of([cell("interpreting")], Ending("working"), NOTHING)
    (ended,) = items_of([cell()], Ending("completed"), NOTHING)
    assert isinstance(running, ToolCallsItem)
    assert isinstance(ended, ToolCallsItem)
    assert (running.calls[0].input, running.calls[0].logs) == ("6 * 7", None)
    assert ended.calls[0].logs == ""


def test_functions_are_offered_only_by_an_answer_that_is_whole() -> None:
    for outcome in ("working", "incomplete", "failed", "cancelled"):
        assert items_of([call()], Ending(outcome), NOTHING) == []  # type: ignore[arg-type]


def test_what_nobody_has_heard_of_is_left_out() -> None:
    output = [{"type": "hologram", "id": "h_1"}, message("Hello."), {"type": "mcp_call", "id": "m"}]
    (item,) = items_of(output, Ending("completed"), NOTHING)
    assert item.key == "message-1"


def test_only_the_message_that_was_cut_stays_open() -> None:
    output = [message("First."), message("Sec", status="incomplete")]
    first, second = items_of(output, Ending("incomplete"), NOTHING)
    assert (first.done, second.done) == (True, False)


def test_parts_of_a_message_are_one_text_and_cite_at_their_own_places() -> None:
    note = {"type": "file_citation", "file_id": "file-1", "filename": "a.txt", "index": 3}
    (item,) = items_of([message("One", "Two", annotations=[note])], Ending("completed"), NOTHING)
    assert isinstance(item, MessageItem)
    assert item.text == "One【1†a.txt】\n\nTwo【2†a.txt】"


def test_files_of_code_are_wanted_once_each_with_a_safe_name() -> None:
    note = {
        "type": "container_file_citation",
        "container_id": "cntr_1",
        "file_id": "cfile_1",
        "filename": "../../out.csv",
        "start_index": 0,
        "end_index": 3,
    }
    output = [cell(outputs=[{"type": "image", "url": PICTURE}]), message("one", annotations=[note])]
    picture, file = wanted([*output, *output])
    assert (picture.id, picture.name) == (PICTURE, "ci_1-1.png")
    assert (file.id, file.name, file.container) == ("cfile_1", "out.csv", "cntr_1")


def test_pictures_belong_to_the_cell_that_drew_them_and_not_to_the_state() -> None:
    logs = {"type": "logs", "logs": "drawn"}
    output = [cell(outputs=[logs, {"type": "image", "url": PICTURE}])]
    picture = GeneratedFile("ci_1-1.png", b"png")
    (item,) = items_of(output, Ending("completed"), Written({}, {PICTURE: picture}))
    assert isinstance(item, ToolCallsItem)
    assert item.calls[0].images == [picture]
    assert worth_keeping(output)[0]["outputs"] == [logs]
