"""The fake upstream behaves as the vendor's own SDK expects."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import httpx2
import openai
import pytest

from tests.fakes.upstream import events, responses, schema
from tests.fakes.upstream.running import Upstream
from tests.fakes.upstream.state import State

T = TypeVar("T")
PATIENCE = 60
SECRET = "whsec_" + base64.b64encode(b"a secret").decode()
INCLUDE = {"code_interpreter_call.outputs", "reasoning.encrypted_content"}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
def client(upstream: Upstream) -> Iterator[openai.OpenAI]:
    url = f"{upstream.url}/v1"
    with openai.OpenAI(base_url=url, api_key="sk-test-1234", max_retries=0) as client:
        yield client


def until(look: Callable[[], T], done: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + PATIENCE
    while not done(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
    return seen


def background(client: openai.OpenAI, **script: Any) -> Any:
    return client.responses.create(
        model="fake",
        instructions=json.dumps(script),
        input="What is x?",
        background=True,
        store=True,
        metadata={"am_run": "run_1", "am_attempt": "a"},
    )


def finished(client: openai.OpenAI, id: str) -> Any:
    return until(
        lambda: client.responses.retrieve(id),
        lambda seen: seen.status not in ("queued", "in_progress"),
    )


def test_a_background_response_is_queued_and_then_completed(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    first = background(client, answer="x = 7", seconds=0.2)
    assert first.status == "queued"
    last = finished(client, first.id)
    assert (last.status, last.output_text) == ("completed", "x = 7")
    assert upstream.counts()["creates_by_run"] == {"run_1": 1}
    assert upstream.violations() == []


def test_a_cancelled_response_stays_cancelled(client: openai.OpenAI) -> None:
    first = background(client, seconds=60)
    assert client.responses.cancel(first.id).status == "cancelled"
    assert client.responses.cancel(first.id).status == "cancelled"
    assert client.responses.retrieve(first.id).status == "cancelled"


def test_chat_streams_tool_calls_in_pieces(client: openai.OpenAI) -> None:
    script = {"tools": [{"name": "weather", "arguments": {"city": "Bern, Switzerland"}}]}
    stream = client.chat.completions.create(
        model="fake",
        messages=[{"role": "system", "content": json.dumps(script)}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert len(calls) > 2
    arguments = "".join(call.function.arguments for call in calls)
    assert json.loads(arguments) == {"city": "Bern, Switzerland"}
    assert chunks[-1].usage.total_tokens > 0


def test_faults_come_once_each_and_in_order(client: openai.OpenAI, upstream: Upstream) -> None:
    def ask() -> Any:
        return background(client, id="s", faults=["429", "cut_after", "cut_middle", "garbage"])

    with pytest.raises(openai.RateLimitError) as limited:
        ask()
    assert limited.value.response.headers["retry-after"] == "0.2"
    for _ in range(2):
        with pytest.raises(openai.APIConnectionError):
            ask()
    assert isinstance(ask(), str), "the SDK hands on what is no JSON"
    assert ask().status == "queued"
    assert (upstream.counts()["asked"], upstream.counts()["accepted"]) == (5, 3)


def test_a_revoked_key_is_refused(client: openai.OpenAI, upstream: Upstream) -> None:
    client.models.list()
    upstream.revoke("sk-test-1234")
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_asks_for_its_tools_and_then_answers(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    script = {
        "tools": [{"name": "weather", "arguments": {"city": "Bern"}}],
        "code": "1",
        "file": "a.csv",
    }
    assistant = client.beta.assistants.create(model="fake", instructions=json.dumps(script))
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "What is x?"}])
    runs = client.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=20)
    assert run.status == "requires_action"
    calls = run.required_action.submit_tool_outputs.tool_calls
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=thread.id,
        tool_outputs=[{"tool_call_id": call.id, "output": "rain"} for call in calls],
        poll_interval_ms=20,
    )
    assert run.status == "completed"
    answer = client.beta.threads.messages.list(thread.id).data[0].content[0]
    assert answer.text.value.startswith("The tools say: rain")
    path = answer.text.annotations[0].file_path.file_id
    assert b"a.csv" in client.files.content(path).read()
    kinds = [step.type for step in runs.steps.list(run.id, thread_id=thread.id, order="asc")]
    assert kinds == ["tool_calls", "tool_calls", "message_creation"]
    assert_by_the_schema(upstream, f"threads/{thread.id}", run.id)


def assert_by_the_schema(upstream: Upstream, thread: str, run_id: str) -> None:
    def get(path: str) -> Any:
        headers = {"Authorization": "Bearer sk-test-1234"}
        return httpx2.get(f"{upstream.url}/openai/{path}", headers=headers, timeout=PATIENCE).json()

    assert schema.violations("ThreadObject", get(thread)) == []
    assert schema.violations("RunObject", get(f"{thread}/runs/{run_id}")) == []
    for step in get(f"{thread}/runs/{run_id}/steps")["data"]:
        assert schema.violations("RunStepObject", step) == []
    for message in get(f"{thread}/messages")["data"]:
        assert schema.violations("MessageObject", message) == []


@pytest.mark.parametrize(("how", "status"), [("404", 404), ("410", 410)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_retired_assistants_api_says_so(
    client: openai.OpenAI, upstream: Upstream, how: str, status: int
) -> None:
    upstream.retire(how)
    with pytest.raises(openai.APIStatusError) as refused:
        client.beta.threads.create()
    assert refused.value.status_code == status


def test_a_request_that_breaks_the_vendors_schema_is_refused_and_remembered(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    weather: Any = {"type": "function", "name": "weather"}
    with pytest.raises(openai.BadRequestError, match="strict"):
        client.responses.create(model="fake", input="What is x?", tools=[weather])
    assert "strict" in upstream.violations()[0]


SCRIPTS: list[dict[str, Any]] = [
    {},
    {"reasoning": True, "code": "1 + 1", "image": "plot.png", "file": "data.csv"},
    {"reasoning": True, "tools": [{"name": "weather"}]},
    {"refusal": "No."},
    {"status": "failed"},
    {"status": "incomplete"},
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_responses_and_their_events_keep_to_the_vendors_schema(script: dict[str, Any]) -> None:
    body = {"model": "fake", "instructions": json.dumps(script), "include": sorted(INCLUDE)}
    response = responses.make(State(), body)
    last = response.read(script.get("status", "completed"))
    assert schema.violations("Response", last) == ["Unknown parameter: 'store'."]
    for number, event in enumerate(events.tell(response)):
        # While it works the vendor says `usage: null`, whatever its schema says.
        event.get("response", {}).pop("usage", None)
        assert schema.errors("ResponseStreamEvent", {**event, "sequence_number": number}) == []


def test_thoughts_must_come_back_with_the_calls_they_led_to(client: openai.OpenAI) -> None:
    asked: Any = {
        "model": "fake",
        "instructions": json.dumps({"reasoning": True, "tools": [{"name": "weather"}] * 2}),
        "tools": [WEATHER],
        "include": ["reasoning.encrypted_content"],
    }
    question = {"role": "user", "content": "What is the weather?"}
    first = client.responses.create(**asked, input=[question])
    thought, *calls = [item.model_dump(exclude_none=True) for item in first.output]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
        for call in calls
    ]
    with pytest.raises(openai.BadRequestError, match="without its required 'reasoning' item"):
        client.responses.create(**asked, input=[question, *calls, *outputs])
    with pytest.raises(openai.BadRequestError, match="without its required following item"):
        client.responses.create(**asked, input=[question, thought])
    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        client.responses.create(**asked, input=[question, thought, *calls])
    last = client.responses.create(**asked, input=[question, thought, *calls, *outputs])
    assert last.output_text == "The tools say: rain, rain"


def test_a_stream_is_taken_up_where_it_was_left(client: openai.OpenAI) -> None:
    whole = list(client.responses.create(model="fake", input="x?", background=True, stream=True))
    assert whole[-1].type == "response.completed"
    later = client.responses.retrieve(whole[0].response.id, stream=True, starting_after=3)
    assert [event.sequence_number for event in later] == list(range(4, len(whole)))


def test_files_are_searched_and_cited(client: openai.OpenAI, upstream: Upstream) -> None:
    file = client.files.create(file=("notes.txt", b"x is 1"), purpose="assistants")
    store = client.vector_stores.create(file_ids=[file.id])
    until(lambda: client.vector_stores.retrieve(store.id), lambda seen: seen.status == "completed")
    response = client.responses.create(
        model="fake",
        instructions=json.dumps({"citations": [{"file": 0, "at": 5}], "image": "plot.png"}),
        input="What is x?",
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
        include=["file_search_call.results"],
    )
    search, message = (item.model_dump() for item in response.output)
    assert search["results"][0]["text"] == "x is 1"
    cited, plot = message["content"][0]["annotations"]
    assert (cited["file_id"], cited["index"]) == (file.id, 5)
    content = client.containers.files.content.retrieve(
        plot["file_id"], container_id=plot["container_id"]
    )
    assert content.read().startswith(b"\x89PNG")
    upstream.forget(file.id)
    with pytest.raises(openai.NotFoundError, match=file.id):
        client.files.retrieve(file.id)


def test_chat_runs_code_in_the_function_that_stands_in_for_it(client: openai.OpenAI) -> None:
    python: Any = {"type": "function", "function": {"name": "python", "parameters": {}}}
    messages: list[Any] = [{"role": "user", "content": json.dumps({"code": "1", "code_rounds": 2})}]
    for _ in range(2):
        told = client.chat.completions.create(model="fake", messages=messages, tools=[python])
        assert told.choices[0].finish_reason == "tool_calls"
        message = told.choices[0].message.model_dump(exclude_none=True)
        tool = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}
        messages += [message, tool]
    told = client.chat.completions.create(model="fake", messages=messages, tools=[python])
    assert told.choices[0].message.content == "x = 1 42 42"


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[tuple[bytes, dict[str, str]]]]]:
    """An address to send events to, and what arrived there."""
    arrived: list[tuple[bytes, dict[str, str]]] = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append((body, dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", arrived
        server.shutdown()


def test_events_are_signed_as_the_sdk_checks_it(
    client: openai.OpenAI, upstream: Upstream, inbox: tuple[str, list[Any]]
) -> None:
    url, arrived = inbox
    upstream.send_webhooks(url, SECRET, repeat=2, drop=1)
    background(client, answer="lost")
    response = background(client, seconds=0.1)
    until(upstream.deliveries, lambda sent: len(sent) == 2)
    assert [event["status"] for event in upstream.deliveries()] == [200, 200]
    for body, headers in arrived:
        event = client.webhooks.unwrap(body, headers, secret=SECRET)
        assert (event.type, event.data.id) == ("response.completed", response.id)


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1", "/openai", "/api/projects/p"])
def test_every_prefix_leads_to_the_assistants(upstream: Upstream, prefix: str) -> None:
    headers = {"api-key": "azure-key-1234", "OpenAI-Beta": "assistants=v2"}
    url = f"{upstream.url}{prefix}/threads?api-version=x"
    made = httpx2.post(url, headers=headers, json={}, timeout=PATIENCE)
    assert made.status_code == 200
    assert upstream.journal("POST", "/threads")[0]["headers"]["api-key"] == "…1234"


def test_chaos_can_be_had_again(client: openai.OpenAI, upstream: Upstream) -> None:
    def day() -> list[int | None]:
        upstream.reset()
        upstream.set_chaos({"429": 0.3, "500": 0.2, "cut": 0.3}, seed=7)
        for _ in range(20):
            with contextlib.suppress(openai.APIError):
                client.models.list()
        return [entry["status"] for entry in upstream.journal()]

    first = day()
    assert first == day()
    assert {200, 429, 500} < set(first)


def leave_early(upstream: Upstream, path: str, body: dict[str, Any]) -> None:
    """Asks, makes sure that it was taken, and hangs up."""
    connection = http.client.HTTPConnection(upstream.url.removeprefix("http://"))
    headers = {"Authorization": "Bearer sk-test-1234", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps({"model": "fake", **body}), headers)
    until(upstream.counts, lambda seen: seen["accepted"] == 1)
    connection.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_in_the_middle_is_noticed(upstream: Upstream, stream: bool) -> None:
    message = {"role": "system", "content": json.dumps({"seconds": 600})}
    leave_early(upstream, "/v1/chat/completions", {"messages": [message], "stream": stream})
    until(upstream.journal, lambda entries: entries[0]["status"] == 499)


def test_a_slow_answer_was_taken_although_nobody_waited(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    script = {"id": "s", "faults": ["slow"], "delay": 600}
    leave_early(upstream, "/v1/responses", {"instructions": json.dumps(script), "input": "x?"})
    assert background(client, **script).status == "queued"
    assert upstream.counts()["accepted"] == 2


def test_looks_fail_as_planned(client: openai.OpenAI) -> None:
    first = background(client, id="s", look_faults=["503", None, "cut_before"])
    with pytest.raises(openai.InternalServerError):
        client.responses.retrieve(first.id)
    assert finished(client, first.id).status == "completed"
    with pytest.raises(openai.APIConnectionError):
        client.responses.retrieve(first.id)
    assert client.responses.retrieve(first.id).status == "completed"


def test_azure_refuses_in_its_own_words(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.revoke("sk-test-1234")
    azure = client.with_options(base_url=f"{upstream.url}/openai/v1")
    with pytest.raises(openai.AuthenticationError) as refused:
        azure.models.list()
    assert refused.value.body == {
        "code": "401",
        "message": "Access denied due to invalid subscription key or wrong API endpoint.",
    }


def test_what_chance_lets_through_is_counted_once(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    upstream.set_chaos({"429": 0.2, "cut": 0.3}, seed=3)
    for _ in range(30):
        with contextlib.suppress(openai.APIError):
            background(client)
    counts = upstream.counts()
    assert counts["asked_by_run"] == {"run_1": 30}
    assert 0 < counts["accepted"] < 30
    assert counts["creates_by_attempt"] == {"a": counts["accepted"]}
    replies = [entry["status"] for entry in upstream.journal("POST", "/responses")]
    assert counts["accepted"] > replies.count(200), "a cut may come after the work"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ({"tools": [{"name": "weather"}], "patience": 0}, "expired"),
        ({"status": "failed", "answer": "x ="}, "failed"),
        ({"status": "incomplete"}, "incomplete"),
    ],
)
def test_runs_end_as_their_script_says(
    client: openai.OpenAI, upstream: Upstream, script: dict[str, Any], status: str
) -> None:
    assistant = client.beta.assistants.create(model="fake", instructions=json.dumps(script))
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "What is x?"}])
    runs = client.beta.threads.runs
    run = runs.create(thread_id=thread.id, assistant_id=assistant.id)
    until(
        lambda: runs.retrieve(run.id, thread_id=thread.id),
        lambda seen: seen.status == status,
    )
    assert_by_the_schema(upstream, f"threads/{thread.id}", run.id)


def test_a_server_that_knows_no_background_answers_at_once(client: openai.OpenAI) -> None:
    response = background(client, synchronous=True)
    assert response.status == "completed"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
