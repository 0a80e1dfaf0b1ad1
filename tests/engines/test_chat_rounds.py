"""The loop of the chat engine: the model asks for code and functions until it has answered."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from assistant_manager.engines.base import (
    ConnectionInfo,
    MessageItem,
    Progress,
    ToolCall,
    ToolCallsItem,
    TurnFile,
    TurnMessage,
    Usage,
)
from assistant_manager.engines.chat import ChatEngine
from assistant_manager.engines.exceptions import Rejected, Unavailable
from assistant_manager.engines.gates import Standing, Tell, gate_of
from tests.engines.chat import asked, persist, scripted
from tests.engines.conftest import Await
from tests.engines.turns import CODE, PATIENCE, WEATHER, answer_of, finish, say
from tests.fakes.upstream.running import Upstream

BERN = {"name": "get_weather", "arguments": {"place": "Bern"}}
OSLO = {"name": "get_weather", "arguments": {"place": "Oslo"}}
# Names another function as the one for code, so that “python” is called like any other.
PLAIN = {"code_function": "none"}


@pytest.fixture
def play(chat: ChatEngine, chat_connection: ConnectionInfo, wait_for: Await) -> Any:
    """Ask with a script for the fake; what is unavailable is asked again."""

    def play(script: dict[str, Any], *questions: Any, **changes: Any) -> Progress:
        return wait_for(persist(chat, scripted(chat_connection, script, *questions, **changes)))

    return play


def code_calls(progress: Progress) -> list[ToolCall]:
    steps = [item for item in progress.items if isinstance(item, ToolCallsItem)]
    return [call for step in steps for call in step.calls if call.type == "code_interpreter"]


def last_output(upstream: Upstream) -> str:
    """What the model was told last."""
    message = asked(upstream)[-1]["messages"][-1]
    assert message["role"] == "tool"
    return str(message["content"])


def test_the_models_code_runs_in_our_sandbox_and_its_output_goes_back(
    play: Any, upstream: Upstream
) -> None:
    progress = play({"code": "print('six times seven'); 6 * 7"})
    step, message = progress.items
    (call,) = step.calls
    assert (call.type, call.input) == ("code_interpreter", "print('six times seven'); 6 * 7")
    assert call.logs == "six times seven\n42"
    assert call.notes["seconds"] > 0
    assert step.done
    assert message.text == "x = 1 six times seven\n42"
    assert last_output(upstream) == "six times seven\n42"


def test_variables_stay_from_round_to_round(play: Any, upstream: Upstream) -> None:
    progress = play({"code": "n = globals().get('n', 0) + 1; n", "code_rounds": 3})
    assert [call.logs for call in code_calls(progress)] == ["1", "2", "3"]
    assert len(asked(upstream)) == 4


def test_an_error_in_the_code_is_the_models_to_mend(play: Any, upstream: Upstream) -> None:
    progress = play({"code": "1 / 0"})
    assert progress.outcome == "completed"
    assert "ZeroDivisionError" in last_output(upstream)


def test_a_picture_is_kept_and_shown_with_the_answer(play: Any, upstream: Upstream) -> None:
    progress = play({"code": "import matplotlib.pyplot as plt; _ = plt.plot([1, 2])"})
    (call,) = code_calls(progress)
    (image,) = call.images
    assert image.content.startswith(b"\x89PNG")
    assert progress.items[-1].images == [image]
    assert last_output(upstream) == "[1 picture was shown to the user]"


def test_a_file_that_the_answer_links_is_handed_over(play: Any) -> None:
    link = "sandbox:/mnt/data/out.csv"
    text = f"🙏 Your [table]({link}). Again: {link}. No sandbox:/mnt/data/none.csv, though."
    progress = play({"code": "_ = open('out.csv', 'w').write('1;2')", "answer": text})
    message = progress.items[-1]
    assert {name: file.content for name, file in message.files.items()} == {"out.csv": b"1;2"}
    assert len(message.annotations) == 2
    for annotation in message.annotations:
        place = slice(annotation["start_index"], annotation["end_index"])
        assert message.text[place] == annotation["text"] == link
        assert annotation["file_path"] == {"file_id": "out.csv"}


def test_a_link_may_write_a_name_with_escapes(play: Any) -> None:
    link = "sandbox:/mnt/data/my%20table%20%C3%BC.csv"
    progress = play({"code": "_ = open('my table ü.csv', 'w').write('1')", "answer": link})
    (file,) = progress.items[-1].files.values()
    assert (file.name, file.content) == ("my table ü.csv", b"1")
    assert progress.items[-1].annotations[0]["text"] == link


@pytest.mark.parametrize("way_out", ["..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "%2E%2E", "a%00"])
def test_no_link_leads_out_of_the_folder(play: Any, way_out: str) -> None:
    progress = play({"code": "1", "answer": f"sandbox:/mnt/data/{way_out}"})
    assert (progress.outcome, progress.items[-1].files) == ("completed", {})


def test_a_message_hands_over_no_more_than_a_process_can_hold(play: Any) -> None:
    # Files with holes: nearly nothing on the disk, and gigabytes once they are read.
    code = "for n in range(30):\n    _ = open(f'f{n}', 'wb').truncate(2**25)"
    text = " ".join(f"sandbox:/mnt/data/f{number}" for number in range(30))
    progress = play({"code": code, "answer": text})
    assert list(progress.items[-1].files) == ["f0", "f1"]
    assert len(progress.items[-1].annotations) == 2


def test_an_attempt_keeps_no_more_pictures_than_a_process_can_hold(play: Any) -> None:
    code = (
        "import os\nfor n in range(10):\n"
        "    _ = open(f'{n}.png', 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom(5_000_000))"
    )
    progress = play({"code": code, "code_rounds": 2})
    assert [len(call.images) for call in code_calls(progress)] == [10, 3]
    assert len(progress.items[-1].images) == 13


def test_a_file_of_an_earlier_attempt_is_made_again_for_the_link_to_it(play: Any) -> None:
    source = "_ = open('out.csv', 'w').write('1;2')"
    past = [ToolCallsItem("a", [ToolCall("call_a", "code_interpreter", input=source, logs="")])]
    link = "sandbox:/mnt/data/out.csv"
    progress = play({"answer": link}, past=past, note="Link it.", attempt=2)
    assert progress.items[-1].files["out.csv"].content == b"1;2"


def test_code_opens_the_files_of_its_run_by_name(play: Any, upstream: Upstream) -> None:
    files = {
        "file-1": TurnFile("file-1", "figures.csv", 5, lambda: b"1;2;3"),
        "file-2": TurnFile("file-2", "../figures.csv", 1, lambda: b"4"),
    }
    attachment = {"file_id": "file-1", "tools": [CODE]}
    question = TurnMessage("user", say("What is in it?").content, [attachment])
    progress = play(
        {"code": "import os; open('figures.csv').read(), sorted(os.listdir())"},
        question,
        files=files,
        tool_resources={"code_interpreter": {"file_ids": ["file-2"]}},
    )
    (call,) = code_calls(progress)
    assert "('1;2;3', [" in call.logs
    assert "'_figures.csv'" in call.logs
    (tool,) = asked(upstream)[0]["tools"]
    assert "figures.csv" in tool["function"]["description"]


def test_a_function_of_the_client_waits_for_its_output(play: Any) -> None:
    progress = play({"tools": [BERN, OSLO]}, tools=[WEATHER])
    assert progress.outcome == "requires_action"
    (step,) = progress.items
    assert [json.loads(call.arguments)["place"] for call in step.calls] == ["Bern", "Oslo"]
    assert len({call.id for call in step.calls}) == 2
    assert not step.done


def test_code_comes_first_where_functions_are_called_beside_it(play: Any) -> None:
    progress = play({"code": "21 * 2", "tools": [BERN]}, tools=[CODE, WEATHER])
    assert progress.outcome == "requires_action"
    code, functions = progress.items
    assert (code.calls[0].logs, code.done) == ("42", True)
    assert (functions.calls[0].name, functions.done) == ("get_weather", False)


def test_arguments_of_functions_go_to_the_client_as_they_are(play: Any) -> None:
    progress = play(
        {"tools": [{"name": "get_weather", "arguments": '{"place": '}]}, tools=[WEATHER]
    )
    (step,) = progress.items
    assert step.calls[0].arguments == '{"place": '


def test_what_comes_after_the_functions_still_has_the_variables(
    play: Any, upstream: Upstream
) -> None:
    """The kernel of the attempt before is gone: its cells run again, unseen."""
    cell = ToolCall("call_a", "code_interpreter", input="n = 41; print('seen')", logs="seen")
    weather = ToolCall("call_b", "function", name="get_weather", arguments="{}", output="dry")
    past = [ToolCallsItem("a", [cell], done=True), ToolCallsItem("b", [weather], done=True)]
    script = {"code": "n + 1", "code_rounds": 2}
    progress = play(script, tools=[CODE, WEATHER], past=past, attempt=2)
    assert [call.logs for call in code_calls(progress)] == ["42"]
    assert last_output(upstream) == "42"


def test_a_function_that_does_not_exist_is_the_models_to_mend(play: Any) -> None:
    progress = play({"tools": [{"name": "fly"}]})
    assert progress.outcome == "completed"
    assert answer_of(progress) == "The tools say: There is no function “fly”."
    assert [type(item) for item in progress.items] == [MessageItem]


@pytest.mark.parametrize("arguments", ['{"code": "1', '{"source": "1"}', "[1]", ""])
def test_code_that_cannot_be_read_is_the_models_to_mend(play: Any, arguments: str) -> None:
    progress = play({**PLAIN, "tools": [{"name": "python", "arguments": arguments}]})
    assert progress.outcome == "completed"
    assert "Nothing was run" in answer_of(progress)
    assert code_calls(progress) == []


def test_a_server_may_say_stop_and_call_functions_all_the_same(play: Any) -> None:
    progress = play({"tools": [BERN], "finish": "stop"}, tools=[WEATHER])
    assert progress.outcome == "requires_action"


def test_a_demand_holds_until_it_is_met(play: Any, upstream: Upstream) -> None:
    play({"code": "1"}, tool_choice="required")
    first, second = asked(upstream)
    assert first["tool_choice"] == "required"
    assert "tool_choice" not in second


def test_a_model_that_never_answers_is_stopped(play: Any, upstream: Upstream) -> None:
    with pytest.raises(Rejected, match="called tools 3 times without an answer"):
        play({"code": "1", "code_rounds": 100}, options={"max_rounds": 3})
    assert len(asked(upstream)) == 3


def test_each_round_waits_at_the_connections_gate(
    chat: ChatEngine,
    chat_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked_before: list[int] = []

    async def play() -> None:
        gate = gate_of(chat_connection.id)
        enter_again = gate.enter_again

        async def come(tell: Tell) -> None:
            asked_before.append(len(asked(upstream)))
            await enter_again(tell)

        monkeypatch.setattr(gate, "enter_again", come)
        gate.wait_for_quota(1200)
        turn = scripted(chat_connection, {"code": "1", "code_rounds": 2})
        playing = asyncio.create_task(persist(chat, turn))
        async with asyncio.timeout(PATIENCE):
            while not asked_before:
                await asyncio.sleep(0.02)
        assert len(asked(upstream)) == 1
        gate.read(Standing())
        await playing

    wait_for(play())
    assert asked_before == [1, 2], "the first round is the driver's to ask for"
    assert len(asked(upstream)) == 3


@pytest.mark.parametrize("faults", [[None, "500"], ["cut_middle"]])
def test_what_failed_waits_at_the_gate_before_it_is_asked_again(
    chat: ChatEngine,
    chat_connection: ConnectionInfo,
    upstream: Upstream,
    wait_for: Await,
    faults: list[str | None],
) -> None:
    turn = scripted(chat_connection, {"code": "1", "answer": "word " * 100, "faults": faults})

    async def play() -> float:
        with pytest.raises(Unavailable):
            await finish(chat, turn)
        paused_at = time.time()
        gate_of(chat_connection.id).wait_for_quota(1.0)
        await persist(chat, turn)
        return paused_at

    paused_at = wait_for(play())
    assert upstream.journal("POST", "/chat/completions")[len(faults)]["at"] - paused_at > 0.9


def test_an_answer_that_hit_a_limit_stays_open(play: Any) -> None:
    """Its message then ends as incomplete."""
    progress = play({"answer": "It is", "status": "incomplete"})
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_completion_tokens")
    assert [(item.text, item.done) for item in progress.items] == [("It is", False)]


def test_calls_that_hit_a_limit_are_not_offered(play: Any) -> None:
    progress = play({"tools": [BERN], "finish": "length"}, tools=[WEATHER])
    assert (progress.outcome, list(progress.items)) == ("incomplete", [])


def test_a_filtered_answer_fails_and_keeps_what_there_was(play: Any) -> None:
    progress = play({"answer": "It is", "status": "incomplete", "reason": "content_filter"})
    assert (progress.outcome, progress.error_code) == ("failed", "invalid_prompt")
    assert answer_of(progress) == "It is"


def test_an_end_that_we_do_not_know_fails(play: Any) -> None:
    progress = play({"finish": "bored"})
    assert (progress.outcome, progress.error_code) == ("failed", "server_error")
    assert "“bored”" in progress.error


def test_a_refusal_is_an_answer(play: Any) -> None:
    progress = play({"refusal": "I will not."})
    assert (progress.outcome, answer_of(progress)) == ("completed", "I will not.")


def test_tokens_are_added_up_over_the_rounds(play: Any) -> None:
    progress = play({"code": "1", "usage": {"input_tokens": 100, "output_tokens": 7}})
    assert progress.usage == Usage(200, 14)


def test_tokens_that_nobody_told_are_unknown(play: Any) -> None:
    assert play({"usage": None}).usage is None


def test_the_rounds_share_the_runs_allowance(play: Any, upstream: Upstream) -> None:
    progress = play(
        {"code": "1", "code_rounds": 9, "usage": {"input_tokens": 1, "output_tokens": 30}},
        max_completion_tokens=100,
        spent=Usage(0, 50),
        attempt=2,
    )
    assert (progress.outcome, progress.incomplete_reason) == ("incomplete", "max_completion_tokens")
    assert [body["max_completion_tokens"] for body in asked(upstream)] == [50, 20]
