"""Files: each goes up once a connection, and what code writes comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from openai import OpenAI

from assistant_manager.engines.exceptions import Rejected
from assistant_manager.engines.responses import ResponsesEngine
from tests.engines.conftest import Await
from tests.engines.responses.conftest import Ask, attached, by_id, file_of, shown
from tests.engines.turns import answer_of, finish, sighting_of
from tests.fakes.upstream.files import PNG
from tests.fakes.upstream.running import Upstream

SEARCH = {"type": "file_search"}
LINKED = {"answer": "See sandbox:/mnt/data/out.csv", "file": "out.csv"}


def uploads(upstream: Upstream) -> list[dict[str, Any]]:
    return [entry["body"] for entry in upstream.journal("POST", "/files")]


def test_files_of_the_assistant_and_of_messages_lie_in_the_container(
    play: Any, bodies: Any, upstream: Upstream
) -> None:
    own, given = file_of("own.csv"), file_of("given.csv")
    progress = play(
        attached("Sum it up.", given, tool="code_interpreter"),
        files=by_id(own, given),
        tool_resources={"code_interpreter": {"file_ids": [own.id]}},
    )
    (tool,) = bodies()[-1]["tools"]
    copies = progress.state["files"]
    assert [copies[id] for id in tool["container"]["file_ids"]] == [own.id, given.id]
    assert [upload["file"] for upload in uploads(upstream)] == ["own.csv", "given.csv"]
    assert uploads(upstream)[0]["purpose"] == "user_data"


def test_the_first_progress_tells_which_copies_there_are(
    responses: ResponsesEngine, ask: Ask, wait_for: Await
) -> None:
    picture = file_of("cat.png", PNG)
    turn = ask(shown("A cat?", picture), files=by_id(picture))
    progress = wait_for(responses.start(turn))
    assert progress.uploads.keys() == {picture.id}


def test_a_copy_that_the_connection_has_is_used_again(
    play: Any, bodies: Any, upstream: Upstream
) -> None:
    picture = file_of("cat.png", PNG)
    first = play(shown("A cat?", picture), files=by_id(picture))
    (copy,) = first.state["files"]
    known = replace(picture, upstream_id=copy)
    play(shown("Sure?", known), files=by_id(known))
    assert len(uploads(upstream)) == 1
    image = bodies()[-1]["input"][0]["content"][1]
    assert image == {"type": "input_image", "detail": "low", "file_id": copy}


def test_runs_that_start_together_share_one_upload(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    table = file_of("table.csv")
    turns = [
        ask(
            attached("Sum it up.", table, tool="code_interpreter"),
            files=by_id(table),
            attempt_key=f"attempt-{number}",
        )
        for number in range(5)
    ]

    async def all_at_once() -> None:
        await asyncio.gather(*(finish(responses, turn) for turn in turns))

    wait_for(all_at_once())
    assert len(uploads(upstream)) == 1


@pytest.mark.parametrize("tool", ["code_interpreter", "file_search"])
def test_a_copy_that_the_upstream_has_lost_is_uploaded_again(
    play: Any, upstream: Upstream, tool: str
) -> None:
    table = file_of("table.csv", upstream_id="file-lost-long-ago")
    progress = play(
        attached("Sum it up.", table, tool=tool), tools=[{"type": tool}], files=by_id(table)
    )
    assert progress.outcome == "completed"
    assert len(uploads(upstream)) == 1
    assert "file-lost-long-ago" not in progress.state["files"]


def test_a_lost_copy_is_not_uploaded_for_ever(play: Any, upstream: Upstream) -> None:
    table = file_of("table.csv", upstream_id="file-lost-long-ago")
    script = {"id": "lost", "faults": ["missing_file"] * 9}
    with pytest.raises(Rejected, match="No such File"):
        play(
            attached("Sum it up.", table, tool="code_interpreter"),
            files=by_id(table),
            script=script,
        )
    assert len(uploads(upstream)) == 1


def test_pictures_travel_inside_the_request_where_files_cannot(
    play: Any, bodies: Any, upstream: Upstream
) -> None:
    picture = file_of("cat.png", PNG)
    play(shown("A cat?", picture), files=by_id(picture), options={"image_file_ids": False})
    image = bodies()[-1]["input"][0]["content"][1]
    assert image["image_url"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert uploads(upstream) == []


def test_azure_is_given_its_own_purpose(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    table = file_of("table.csv")
    turn = ask(attached("Sum it up.", table, tool="code_interpreter"), files=by_id(table))
    azure = replace(turn.connection, base_url=f"{upstream.url}/openai/v1", api_version="preview")
    progress = wait_for(finish(responses, replace(turn, connection=azure)))
    assert progress.outcome == "completed"
    assert uploads(upstream)[0]["purpose"] == "assistants"


def test_a_deleted_file_is_left_out_and_a_deleted_picture_is_said_to_be(
    play: Any, bodies: Any
) -> None:
    table, picture = file_of("table.csv"), file_of("cat.png")
    progress = play(
        attached("Sum it up.", table, tool="code_interpreter"), shown("A cat?", picture), files={}
    )
    assert progress.outcome == "completed"
    body = bodies()[-1]
    assert "file_ids" not in body["tools"][0]["container"]
    assert "deleted" in body["input"][1]["content"][1]["text"]


def test_a_file_whose_bytes_are_gone_fails_the_run_by_name(play: Any) -> None:
    def read() -> bytes:
        raise FileNotFoundError

    table = replace(file_of("table.csv"), read=read)
    with pytest.raises(Rejected, match=r"table\.csv"):
        play(attached("Sum it up.", table, tool="code_interpreter"), files=by_id(table))


def test_attachments_are_searched_through_one_store_that_goes_by_itself(
    play: Any, bodies: Any, upstream: Upstream
) -> None:
    notes, more = file_of("notes.txt"), file_of("more.txt")
    question = attached("What is x?", notes, more, tool="file_search")
    tool = {
        "type": "file_search",
        "file_search": {
            "max_num_results": 5,
            "ranking_options": {"ranker": "default_2024_08_21", "score_threshold": 0.5},
        },
    }
    for _ in range(2):
        play(question, tools=[tool], files=by_id(notes, more))
    (created,) = upstream.journal("POST", "/vector_stores")
    assert len(created["body"]["file_ids"]) == 2
    assert created["body"]["expires_after"] == {"anchor": "last_active_at", "days": 1}
    (sent,) = bodies()[-1]["tools"]
    assert sent["max_num_results"] == 5
    assert sent["ranking_options"] == {"score_threshold": 0.5}


def test_a_store_that_the_upstream_has_lost_is_made_again(
    play: Any, bodies: Any, upstream: Upstream
) -> None:
    notes = file_of("notes.txt")
    question = attached("What is x?", notes, tool="file_search")
    play(question, tools=[SEARCH], files=by_id(notes))
    (lost,) = bodies()[-1]["tools"][0]["vector_store_ids"]
    upstream.forget(lost)
    assert play(question, tools=[SEARCH], files=by_id(notes)).outcome == "completed"
    (made,) = bodies()[-1]["tools"][0]["vector_store_ids"]
    assert made != lost


def test_files_that_code_wrote_come_back(play: Any) -> None:
    script = {
        "code": "table.to_csv('out.csv')",
        "answer": "See [the table](sandbox:/mnt/data/out.csv).",
        "file": "out.csv",
        "image": "plot.png",
    }
    progress = play(script=script)
    message = progress.items[-1]
    (annotation,) = message.annotations
    assert annotation["text"] == "sandbox:/mnt/data/out.csv"
    written = message.files[annotation["file_path"]["file_id"]]
    assert (written.name, written.content) == ("out.csv", b"The contents of out.csv\n")
    (picture,) = message.images
    assert (picture.name, picture.content) == ("plot.png", PNG)


def test_a_cell_shows_its_code_its_logs_and_its_pictures(play: Any) -> None:
    progress = play(script={"code": "plot(x)", "logs": "drawn", "plot": True})
    (call,) = progress.items[0].calls
    assert (call.type, call.input, call.logs) == ("code_interpreter", "plot(x)", "drawn")
    (picture,) = call.images
    assert picture.content == PNG
    assert "base64" not in str(progress.state)


def test_an_answer_is_given_without_a_file_that_is_gone(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    turn = ask(script=LINKED)
    started = wait_for(responses.start(turn))
    client = OpenAI(base_url=turn.connection.base_url, api_key="sk-test-0001")
    (message,) = client.responses.retrieve(started.state["id"]).output
    upstream.forget(message.content[0].annotations[0].file_id)
    progress = wait_for(responses.look(sighting_of(turn, started)))
    assert progress.outcome == "completed"
    assert answer_of(progress) == "See sandbox:/mnt/data/out.csv"
    assert progress.items[-1].annotations == []


def test_a_file_that_cannot_be_fetched_just_now_is_fetched_later(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    turn = ask(script=LINKED)
    upstream.set_chaos({"503": 1.0}, path="/content")
    started = wait_for(responses.start(turn))
    first = wait_for(responses.look(sighting_of(turn, started)))
    assert (first.outcome, first.state["fetches"]) == ("working", 1)
    upstream.set_chaos()
    last = wait_for(responses.look(sighting_of(turn, first)))
    assert last.outcome == "completed"
    assert len(last.items[-1].files) == 1


def test_an_answer_does_not_wait_for_its_files_for_ever(
    responses: ResponsesEngine, ask: Ask, wait_for: Await, upstream: Upstream
) -> None:
    turn = ask(script=LINKED)
    upstream.set_chaos({"503": 1.0}, path="/content")
    progress = wait_for(responses.start(turn))
    looks = 0
    while progress.outcome == "working":
        progress = wait_for(responses.look(sighting_of(turn, progress)))
        looks += 1
    assert (progress.outcome, looks) == ("completed", 4)
    assert progress.items[-1].files == {}
