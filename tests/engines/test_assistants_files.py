"""The assistants engine: our files go up once, and those that code wrote come down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_manager.engines.assistants import AssistantsEngine
from assistant_manager.engines.base import (
    ConnectionInfo,
    MessageItem,
    Progress,
    ToolCallsItem,
    Turn,
    TurnFile,
    TurnMessage,
)
from assistant_manager.engines.exceptions import Rejected
from tests.engines.assistants import scripted, see_through
from tests.engines.conftest import Await
from tests.engines.turns import CODE, finish, sighting_of
from tests.fakes.upstream.files import PNG
from tests.fakes.upstream.running import Upstream

SEARCH = {"type": "file_search"}


def our_file(id: str, name: str, upstream_id: str | None = None) -> TurnFile:
    content = f"the content of {name}".encode()
    return TurnFile(id, name, len(content), lambda: content, upstream_id)


def asking(text: str, *more: dict[str, Any], attached: Any = ()) -> TurnMessage:
    said = {"type": "text", "text": {"value": text, "annotations": []}}
    return TurnMessage("user", [said, *more], attached)


@pytest.fixture
def turn(assistants_connection: ConnectionInfo) -> Turn:
    """With one file in each of the places a file may have."""
    picture = {"type": "image_file", "image_file": {"file_id": "file-ours-1", "detail": "low"}}
    attached = [{"file_id": "file-ours-2", "tools": [SEARCH]}]
    names = {"file-ours-1": "cat.png", "file-ours-2": "book.txt", "file-ours-3": "table.csv"}
    return scripted(
        assistants_connection,
        {},
        messages=[asking("What is it?", picture, attached=attached)],
        tools=[CODE, SEARCH],
        tool_resources={"code_interpreter": {"file_ids": ["file-ours-3"]}},
        files={id: our_file(id, name) for id, name in names.items()},
    )


def message_of(progress: Progress) -> MessageItem:
    assert progress.outcome == "completed", progress.error
    item = progress.items[-1]
    assert isinstance(item, MessageItem)
    return item


def test_each_file_goes_up_and_takes_its_place(
    assistants: AssistantsEngine, turn: Turn, upstream: Upstream, wait_for: Await
) -> None:
    started = wait_for(assistants.start(turn))
    copies = started.uploads
    assert set(copies) == set(turn.files)
    sent = {e["body"]["file"]: e["body"]["purpose"] for e in upstream.journal("POST", "/files")}
    assert sent == {"cat.png": "vision", "book.txt": "assistants", "table.csv": "assistants"}
    (thread,) = (entry["body"] for entry in upstream.journal("POST", "/threads"))
    (message,) = thread["messages"]
    assert message["content"][1]["image_file"] == {
        "file_id": copies["file-ours-1"],
        "detail": "low",
    }
    assert message["attachments"] == [{"file_id": copies["file-ours-2"], "tools": [SEARCH]}]
    offered = thread["tool_resources"]["code_interpreter"]["file_ids"]
    assert offered == [copies["file-ours-3"]]
    assert upstream.violations() == []


def test_more_files_than_a_thread_may_have_are_the_assistants(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    ours = {f"file-ours-{n}": our_file(f"file-ours-{n}", f"{n}.csv") for n in range(25)}
    offered = {"code_interpreter": {"file_ids": [*ours]}}
    turn = scripted(assistants_connection, {}, files=ours, tool_resources=offered)
    progress = wait_for(finish(assistants, turn))
    assert progress.outcome == "completed"
    bodies = [e["body"] for e in upstream.journal("POST") if "/files" not in e["path"]]
    lists = [
        body["tool_resources"]["code_interpreter"]["file_ids"]
        for body in bodies
        if "tool_resources" in body
    ]
    assert sorted(map(len, lists)) == [5, 20]
    assert len({id for ids in lists for id in ids}) == 25
    assert upstream.violations() == []


def with_copies(turn: Turn, copies: Any) -> Turn:
    """The turn of a later run, which knows what the connection has."""
    files = {id: replace(file, upstream_id=copies[id]) for id, file in turn.files.items()}
    return replace(turn, files=files)


def test_a_file_that_is_there_already_is_not_sent_again(
    assistants: AssistantsEngine, turn: Turn, upstream: Upstream, wait_for: Await
) -> None:
    copies = wait_for(assistants.start(turn)).uploads
    again = wait_for(assistants.start(with_copies(turn, copies)))
    assert again.uploads == {}
    assert len(upstream.journal("POST", "/files")) == 3


def test_files_that_the_upstream_has_lost_are_sent_again(
    assistants: AssistantsEngine, turn: Turn, upstream: Upstream, wait_for: Await
) -> None:
    copies = wait_for(assistants.start(turn)).uploads
    upstream.forget(copies["file-ours-2"])
    again = wait_for(assistants.start(with_copies(turn, copies)))
    assert again.uploads["file-ours-2"] != copies["file-ours-2"]
    assert wait_for(see_through(assistants, with_copies(turn, again.uploads))).items


def test_azure_is_told_no_purpose_it_does_not_know(
    assistants: AssistantsEngine, turn: Turn, upstream: Upstream, wait_for: Await
) -> None:
    azure = replace(turn.connection, base_url=upstream.url, api_version="2024-05-01-preview")
    wait_for(assistants.start(replace(turn, connection=azure)))
    purposes = {entry["body"]["purpose"] for entry in upstream.journal("POST", "/files")}
    assert purposes == {"assistants"}


def test_a_file_that_was_deleted_is_left_out(
    assistants: AssistantsEngine, turn: Turn, upstream: Upstream, wait_for: Await
) -> None:
    started = wait_for(assistants.start(replace(turn, files={})))
    assert started.outcome == "working"
    (thread,) = (entry["body"] for entry in upstream.journal("POST", "/threads"))
    (message,) = thread["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "text"]
    assert "attachments" not in message
    assert "tool_resources" not in thread


def test_a_file_without_its_content_fails_the_run_by_name(
    assistants: AssistantsEngine, turn: Turn, wait_for: Await
) -> None:
    def gone() -> bytes:
        raise FileNotFoundError

    lost = replace(turn.files["file-ours-2"], read=gone)
    with pytest.raises(Rejected, match=r"book\.txt"):
        wait_for(assistants.start(replace(turn, files={**turn.files, lost.id: lost})))


def test_what_code_wrote_comes_down_with_its_place_in_the_text(
    assistants: AssistantsEngine, assistants_connection: ConnectionInfo, wait_for: Await
) -> None:
    script = {"code": "plot()", "logs": "done", "image": "plot.png", "file": "table.csv"}
    progress = wait_for(finish(assistants, scripted(assistants_connection, script)))
    message = message_of(progress)
    assert [image.content for image in message.images] == [PNG]
    (note,) = message.annotations
    assert note["type"] == "file_path"
    assert message.text[note["start_index"] : note["end_index"]] == note["text"]
    file = message.files[note["file_path"]["file_id"]]
    assert (file.name, file.content) == ("table.csv", b"The contents of table.csv\n")
    code = progress.items[0]
    assert isinstance(code, ToolCallsItem)
    assert (code.calls[0].input, code.calls[0].logs, code.done) == ("plot()", "done", True)


def test_a_citation_names_our_file(
    assistants: AssistantsEngine, turn: Turn, wait_for: Await
) -> None:
    script = {"answer": "The cat 🐈 is grey.", "citations": [{"file": 0, "at": 9}]}
    cited = scripted(
        turn.connection,
        script,
        messages=turn.messages,
        files=turn.files,
        tools=turn.tools,
    )
    progress = wait_for(finish(assistants, cited))
    message = message_of(progress)
    (note,) = message.annotations
    assert note["file_citation"]["file_id"] == "file-ours-2"
    assert message.text[note["start_index"] : note["end_index"]] == note["text"]
    assert message.text.replace(note["text"], "") == "The cat 🐈 is grey."
    search = progress.items[0]
    assert isinstance(search, ToolCallsItem)
    assert [result["file_id"] for result in search.calls[0].results] == ["file-ours-2"]


def test_a_file_that_vanished_upstream_takes_its_link_with_it(
    assistants: AssistantsEngine,
    assistants_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
) -> None:
    turn = scripted(assistants_connection, {"file": "table.csv", "code": "1"})
    first = wait_for(finish(assistants, turn))
    (id,) = message_of(first).files
    upstream.forget(id)
    again = wait_for(assistants.look(sighting_of(turn, first)))
    assert message_of(again).text == message_of(first).text
    assert message_of(again).annotations == []
    assert message_of(again).files == {}
