"""This server as the upstream of another one: two quickstarts, each with its own database and data
folder, and the Assistants API between them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.acceptance.site import Site, eventually, fresh_environment, manage

pytestmark = [
    pytest.mark.timeout(300),  # two whole sites are started
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the SDK, of every call
]

QUESTION = "I need to solve the equation `3x + 11 = 14`. Can you help me?"
CODE = {"type": "code_interpreter"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
    },
}
POLL_MS = 100


@pytest.fixture(scope="module")
def asking(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A second server, whose models `by-v1` and `by-azure` lead to the first one's doors."""
    with fresh_environment(tmp_path_factory.mktemp("asking") / "var") as environment:
        running = Site(environment, "--port", "8300")
        try:
            connect(running, site, "by-v1", base_url=f"{site.url}/v1")
            connect(running, site, "by-azure", base_url=site.url, api_version="2024-05-01-preview")
            yield running
        finally:
            running.close()


def connect(asking: Site, answering: Site, model: str, **where: str) -> None:
    row = {"name": model, "kind": "assistants", "key_1": answering.key, **where}
    script = f"""
        import json
        from assistant_manager.models import Connection, Model
        options = {{"poll_seconds": 0.1}}
        row = Connection(**json.loads({json.dumps(row)!r}), options=options)
        row.full_clean()
        row.save()
        Model.objects.create(name={model!r}, connection=row, upstream_name="some-model")
    """
    done = manage(asking.environment, "shell", "-c", textwrap.dedent(script))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def openai(asking: Site) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{asking.url}/v1", api_key=asking.key, max_retries=0) as client:
        yield client


@pytest.fixture
def upstream(site: Site) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


def ask(openai: OpenAI, model: str, *tools: Any, tool_choice: Any = "auto") -> Any:
    """The run where it ended, or waits for its functions."""
    made = openai.beta.assistants.create(model=model, tools=tools)
    thread = openai.beta.threads.create(messages=[{"role": "user", "content": QUESTION}])
    return openai.beta.threads.runs.create_and_poll(
        thread_id=thread.id,
        assistant_id=made.id,
        tool_choice=tool_choice,
        poll_interval_ms=POLL_MS,
        timeout=60,
    )


def answer_to(openai: OpenAI, run: Any) -> str:
    (message,) = openai.beta.threads.messages.list(run.thread_id, run_id=run.id)
    return message.content[0].text.value


def names(openai: OpenAI) -> list[str]:
    return [assistant.name for assistant in openai.beta.assistants.list(limit=100)]


@pytest.mark.parametrize("model", ["by-v1", "by-azure"])
def test_the_quickstart_question_is_answered_by_the_other_server(
    openai: OpenAI, upstream: OpenAI, model: str
) -> None:
    run = ask(openai, model, CODE)

    assert run.status == "completed", run.last_error
    assert "x = 1" in answer_to(openai, run)
    assert run.usage.total_tokens > 0
    steps = openai.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc").data
    assert [step.type for step in steps] == ["tool_calls", "message_creation"]
    (call,) = steps[0].step_details.tool_calls
    assert "Eq(3*x + 11, 14)" in call.code_interpreter.input
    assert call.code_interpreter.outputs[0].logs.strip() == "[1]"
    assert eventually(lambda: f"For {run.id}" not in names(upstream), within=120), "tidied up"


@pytest.mark.parametrize("model", ["by-v1", "by-azure"])
def test_a_function_is_called_through_both_servers(openai: OpenAI, model: str) -> None:
    asking = ask(
        openai,
        model,
        WEATHER,
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    assert asking.status == "requires_action", asking.last_error
    (call,) = asking.required_action.submit_tool_outputs.tool_calls
    assert call.function.name == "get_weather"
    assert "place" in json.loads(call.function.arguments)

    ended = openai.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=asking.id,
        thread_id=asking.thread_id,
        tool_outputs=[{"tool_call_id": call.id, "output": "snow, -42 degrees"}],
        poll_interval_ms=POLL_MS,
        timeout=60,
    )

    assert ended.status == "completed", ended.last_error
    assert "snow, -42 degrees" in answer_to(openai, ended)


def test_a_key_that_the_other_server_refuses_fails_the_run_and_is_not_told(
    asking: Site, site: Site, openai: OpenAI
) -> None:
    wrong = "sk-am-this-key-is-not-known-over-there"
    stranger = {"name": "by-stranger", "kind": "assistants", "key_1": wrong}
    script = (
        "from assistant_manager.models import Connection, Model\n"
        f"row = Connection.objects.create(base_url='{site.url}/v1', **{stranger!r})\n"
        "Model.objects.create(name='by-stranger', connection=row)\n"
    )
    assert manage(asking.environment, "shell", "-c", script).returncode == 0

    run = ask(openai, "by-stranger")

    assert run.status == "failed"
    assert "does not accept the keys" in run.last_error.message
    assert wrong not in run.last_error.message
