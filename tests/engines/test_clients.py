"""Clients over real HTTP: which key, how often, and what becomes of the upstream's errors."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from assistant_manager.engines import web
from assistant_manager.engines.base import ConnectionInfo, Key
from assistant_manager.engines.clients import Clients
from assistant_manager.engines.exceptions import EngineError, Rejected, Unavailable, Unknown
from assistant_manager.engines.gates import Gate, gate_of
from assistant_manager.engines.options import ConnectionOptions
from assistant_manager.engines.web import Line
from tests.benchmarks.certificates import certificate_in
from tests.engines.conftest import Await
from tests.fakes.upstream.running import Upstream

FIRST, SECOND = Key(1, "sk-first-000000001111"), Key(2, "sk-second-00000002222")
ENTRA = ConnectionOptions(authentication="entra_id")
numbers = count(5000)
Ask = Callable[..., Any]


@pytest.fixture
def clients(wait_for: Await) -> Iterator[Clients]:
    clients = Clients()
    yield clients
    wait_for(clients.close())


@pytest.fixture
def info(upstream: Upstream) -> ConnectionInfo:
    return ConnectionInfo(
        kind="responses",
        id=next(numbers),
        name="Upstream",
        base_url=f"{upstream.url}/v1",
        keys=(FIRST, SECOND),
    )


@pytest.fixture(params=["with the SDK", "without it"])
def ask(request: pytest.FixtureRequest, clients: Clients, wait_for: Await) -> Ask:
    """Begin an answer at a connection; `faults` are what goes wrong. Gives its status."""

    def ask(info: ConnectionInfo, *faults: str, creates: bool = True, **script: Any) -> str:
        told = json.dumps({"id": f"s{next(numbers)}", "faults": faults, **script})
        body = {"model": "fake", "instructions": told, "input": "What is x?"}
        body |= {"background": True, "store": True}

        async def by_sdk(sdk: Any) -> Any:
            return await sdk.responses.create(**body)

        async def by_line(line: Line) -> str:
            return str(json.loads(await line.send("POST", "/responses", body=body))["status"])

        async def work() -> str:
            client = clients.of(info)
            if request.param == "with the SDK":
                return str((await client.call(by_sdk, creates=creates)).status)
            return await client.ask(by_line, creates=creates)

        return wait_for(work())

    return ask


@pytest.fixture
def gate(info: ConnectionInfo, wait_for: Await) -> Gate:
    async def look() -> Gate:
        return gate_of(info.id, info.name)

    return wait_for(look())


def keys_shown(upstream: Upstream) -> list[str]:
    return [entry["headers"]["authorization"][-4:] for entry in upstream.journal("POST")]


# --- keys -------------------------------------------------------------------------------


def test_a_refused_key_gives_way_to_the_other_in_the_same_call(
    upstream: Upstream, ask: Ask, info: ConnectionInfo, gate: Gate
) -> None:
    upstream.revoke(FIRST.text)
    assert ask(info) == "queued"
    assert keys_shown(upstream) == ["1111", "2222"]
    assert "Key 1 was refused" in gate.standing.key_note
    ask(info)
    assert keys_shown(upstream) == ["1111", "2222", "2222"]


def test_two_refused_keys_fail_the_run_and_are_not_named(
    upstream: Upstream, ask: Ask, info: ConnectionInfo
) -> None:
    for key in info.keys:
        upstream.revoke(key.text)
    with pytest.raises(Rejected, match="does not accept the keys of its connection") as refused:
        ask(info)
    assert "sk-first-0" not in str(refused.value)
    assert "sk-second-0" not in str(refused.value)


def test_without_a_key_nothing_is_sent(upstream: Upstream, ask: Ask, info: ConnectionInfo) -> None:
    with pytest.raises(Rejected, match="has no key: add one to the connection"):
        ask(replace(info, keys=()))
    assert upstream.journal() == []


def test_an_edited_connection_is_used_with_its_new_key(
    upstream: Upstream, ask: Ask, info: ConnectionInfo
) -> None:
    ask(info)
    ask(replace(info, keys=(Key(1, "sk-third-3333"),)))
    assert keys_shown(upstream) == ["1111", "3333"]


def test_runs_from_before_an_edit_and_since_share_no_client_but_open_no_more(
    clients: Clients, info: ConnectionInfo, wait_for: Await
) -> None:
    async def by_turns() -> int:
        edited = replace(info, keys=(SECOND,))
        return len({id(clients.of(each)) for each in (info, edited) * 3})

    assert wait_for(by_turns()) == 2


def test_azures_dated_versions_get_their_own_path_and_header(
    upstream: Upstream, ask: Ask, info: ConnectionInfo
) -> None:
    ask(replace(info, base_url=upstream.url, api_version="2025-04-01-preview"))
    (entry,) = upstream.journal("POST")
    assert entry["path"] == "/openai/responses"
    assert entry["query"] == {"api-version": "2025-04-01-preview"}
    assert entry["headers"]["api-key"].endswith("1111")


def test_azures_v1_is_spoken_to_like_the_other_vendor(
    upstream: Upstream, ask: Ask, info: ConnectionInfo
) -> None:
    ask(replace(info, base_url=f"{upstream.url}/openai/v1/", api_version="preview"))
    (entry,) = upstream.journal("POST")
    assert (entry["path"], entry["query"]) == ("/openai/v1/responses", {"api-version": "preview"})


@pytest.mark.parametrize("path", ["/", "/openai", "/openai/", "/openai/v1/"])
def test_a_dated_version_has_its_path_once(
    upstream: Upstream, ask: Ask, info: ConnectionInfo, path: str
) -> None:
    ask(replace(info, base_url=f"{upstream.url}{path}", api_version="2025-04-01-preview"))
    (entry,) = upstream.journal("POST")
    assert entry["path"] == "/openai/responses"


@pytest.mark.parametrize("text", ["“sk-1”", "sk-1\nX: y", "sk-1\r\n", "ключ", "sk\0"])
def test_a_key_that_no_header_can_carry_is_not_used(
    upstream: Upstream, ask: Ask, info: ConnectionInfo, text: str
) -> None:
    wrong = Key(1, text)
    with pytest.raises(Rejected, match="Key 1 of “Upstream” has characters that no key has"):
        ask(replace(info, keys=(wrong,)))
    assert upstream.journal() == []
    ask(replace(info, keys=(wrong, SECOND)))
    assert keys_shown(upstream) == ["2222"]


@pytest.mark.parametrize("api_version", ["", "2025-04-01-preview"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_other_address_is_told_a_question_or_a_key(
    upstream: Upstream,
    server: Any,
    ask: Ask,
    info: ConnectionInfo,
    status: int,
    api_version: str,
) -> None:
    there = f"{upstream.url}/v1/responses"
    address, seen = server(status, "", location=there)
    with pytest.raises(Rejected, match="points to another address") as refused:
        ask(replace(info, base_url=address, api_version=api_version))
    assert there in str(refused.value)
    assert len(seen) == 1
    assert upstream.journal() == []


# --- troubles ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "503", "429", "html", "garbage", "cut_before", "context"])
def test_nothing_is_sent_twice_behind_the_drivers_back(
    upstream: Upstream, ask: Ask, info: ConnectionInfo, fault: str
) -> None:
    with pytest.raises(EngineError):
        ask(info, fault)
    assert len(upstream.journal("POST", "/responses")) == 1


def test_an_upstream_that_nobody_can_reach_was_not_asked(ask: Ask, info: ConnectionInfo) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        with pytest.raises(Unavailable, match="cannot be reached"):
            ask(replace(info, base_url=address))


@pytest.mark.parametrize(
    "fault", ["cut_after", "cut_before", "cut_middle", "500", "500_after", "html", "garbage"]
)
def test_a_lost_reply_to_a_start_is_unknown(ask: Ask, info: ConnectionInfo, fault: str) -> None:
    with pytest.raises(Unknown):
        ask(info, fault)


@pytest.mark.parametrize("fault", ["cut_after", "500", "html", "garbage"])
def test_a_lost_reply_to_anything_else_is_asked_again(
    ask: Ask, info: ConnectionInfo, fault: str
) -> None:
    with pytest.raises(Unavailable):
        ask(info, fault, creates=False)


def test_a_reply_that_takes_too_long_counts_as_lost(ask: Ask, info: ConnectionInfo) -> None:
    hasty = ConnectionOptions(timeout_seconds=0.2)
    with pytest.raises(Unknown):
        ask(replace(info, options=hasty), "slow", delay=600)


def test_a_rate_limit_says_how_long_to_wait_and_pauses_the_connection(
    ask: Ask, info: ConnectionInfo, gate: Gate
) -> None:
    with pytest.raises(Unavailable) as limited:
        ask(info, "429", retry_after=7)
    assert limited.value.retry_after == 7
    assert limited.value.code == "rate_limit_exceeded"
    assert "waiting for quota until" in str(limited.value)
    assert gate.standing.pause_reason == str(limited.value)


@pytest.mark.parametrize(
    "told",
    [
        {"retry-after": "864000"},
        {"retry-after": "9" * 400},
        {"retry-after-ms": "nan"},
        {"retry-after-ms": "inf"},
        {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "nan"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "inf"},
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9999999999d"},
        {
            "x-ratelimit-limit-requests": "inf",
            "x-ratelimit-remaining-requests": "nan",
            "x-ratelimit-reset-requests": "nan",
        },
    ],
)
def test_no_upstream_closes_a_connection_for_more_than_an_hour(
    server: Any, ask: Ask, info: ConnectionInfo, gate: Gate, told: dict[str, str]
) -> None:
    address, _ = server(429, "{}", **told)
    with pytest.raises(Unavailable):
        ask(replace(info, base_url=address))
    until = gate.standing.paused_until
    assert until is not None
    assert until <= timezone.now() + timedelta(hours=1)


def test_no_credit_fails_the_run_and_pauses_the_connection(
    ask: Ask, info: ConnectionInfo, gate: Gate
) -> None:
    with pytest.raises(Rejected, match="has no credit left") as refused:
        ask(info, "billing")
    assert refused.value.code == "rate_limit_exceeded"
    assert "has no credit left" in gate.standing.pause_reason


def test_an_input_that_is_refused_fails_the_run_with_the_upstreams_own_words(
    ask: Ask, info: ConnectionInfo, gate: Gate
) -> None:
    with pytest.raises(Rejected, match="exceeds the context window") as refused:
        ask(info, "context")
    assert refused.value.code == "invalid_prompt"
    assert gate.standing.pause_reason == ""


def test_failed_starts_open_the_breaker_and_a_refusal_closes_it(
    ask: Ask, info: ConnectionInfo, gate: Gate
) -> None:
    for _ in range(5):
        with pytest.raises(Unavailable, match="is overloaded"):
            ask(info, "503")
    assert "does not answer" in gate.standing.pause_reason
    with pytest.raises(Rejected):
        ask(info, "context")
    assert gate.standing.pause_reason == ""


def test_looks_that_fail_say_nothing_of_new_starts(
    ask: Ask, info: ConnectionInfo, gate: Gate
) -> None:
    for _ in range(6):
        with pytest.raises(Unavailable):
            ask(info, "500", creates=False)
    assert gate.standing.pause_reason == ""


def test_a_fault_of_our_own_is_not_dressed_up(
    clients: Clients, info: ConnectionInfo, wait_for: Await
) -> None:
    async def work() -> None:
        await clients.of(info).call(lambda sdk: 1 / 0)  # type: ignore[arg-type, return-value]

    with pytest.raises(ZeroDivisionError):
        wait_for(work())


# --- the way there ----------------------------------------------------------------------


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server with a certificate that it has signed itself, and the certificate."""
    certificate = certificate_in(tmp_path)
    http = HTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), {"told": {}, "seen": []}))
    security = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    security.load_cert_chain(certificate)
    http.socket = security.wrap_socket(http.socket, server_side=True)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    yield f"https://127.0.0.1:{http.server_port}", certificate
    http.shutdown()
    thread.join()
    http.server_close()


def test_only_a_server_that_is_trusted_is_told_anything(
    encrypted: tuple[str, Path],
    clients: Clients,
    info: ConnectionInfo,
    wait_for: Await,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, certificate = encrypted
    there = replace(info, base_url=address)

    async def ask() -> bytes:
        return await clients.of(there).ask(lambda line: line.send("GET", "/responses/resp_1"))

    web.trusted.cache_clear()
    with pytest.raises(Unavailable, match="cannot be reached"):
        wait_for(ask())
    wait_for(clients.close())
    web.trusted.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert wait_for(ask()) == b"{}"
    web.trusted.cache_clear()


def test_a_proxy_of_the_environment_is_used(
    server: Any, ask: Ask, info: ConnectionInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = server(400, '{"error": {"message": "Asked through a proxy."}}')
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", address)
    with pytest.raises(Rejected, match="Asked through a proxy"):
        ask(replace(info, base_url="http://upstream.invalid/v1"))
    assert [path for path, _ in seen] == ["http://upstream.invalid/v1/responses"]


# --- secrets ----------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """A server of one answer: `status`, `told` in headers and `text`, in which `{key}` is the key
    it was shown."""

    status = 200
    text = "{}"
    told: dict[str, str]
    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.path, headers))
        self.rfile.read(int(headers.get("content-length", 0)))
        key = headers.get("authorization", "").removeprefix("Bearer ")
        body = self.text.replace("{key}", key).encode()
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in self.told.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the library's own name

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Callable[..., tuple[str, list[Any]]]]:
    """Start a server of one answer; gives its address and what it saw."""
    running: list[tuple[HTTPServer, threading.Thread]] = []

    def serve(status: int, text: str, **told: str) -> tuple[str, list[Any]]:
        answer = {"status": status, "text": text, "told": told, "seen": []}
        handler = type("Handler", (Answers,), answer)
        http = HTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        running.append((http, thread))
        return f"http://127.0.0.1:{http.server_port}", handler.seen  # type: ignore[attr-defined]

    yield serve
    for http, thread in running:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_a_key_that_the_upstream_quotes_is_taken_out(
    server: Any, ask: Ask, info: ConnectionInfo, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    quoting = '{"error": {"message": "Wrong key {key}!", "code": "insufficient_quota"}}'
    address, _ = server(status, quoting)
    with pytest.raises(EngineError) as raised:
        ask(replace(info, base_url=address))
    for text in (str(raised.value), repr(raised.value), caplog.text, repr(info)):
        assert FIRST.text not in text
        assert SECOND.text not in text
    assert "••••" in str(raised.value)


def test_long_words_of_the_upstream_are_cut(server: Any, ask: Ask, info: ConnectionInfo) -> None:
    address, _ = server(400, json.dumps({"error": {"message": "very " * 1000}}))
    with pytest.raises(Rejected) as refused:
        ask(replace(info, base_url=address))
    assert len(str(refused.value)) < 600


# --- Microsoft Entra ID -----------------------------------------------------------------


@pytest.fixture
def identity(server: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The machine's own identity, as an app service offers it."""
    body = {
        "access_token": "entra-token-4444",
        "expires_on": "4102444800",
        "resource": "https://ai.azure.com",
        "token_type": "Bearer",
    }
    address, seen = server(200, json.dumps(body))
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return seen


def test_a_token_of_the_machines_identity_stands_in_for_a_key(
    upstream: Upstream, ask: Ask, info: ConnectionInfo, identity: list[Any]
) -> None:
    entra = replace(info, options=ENTRA, keys=())
    ask(entra)
    ask(entra)
    assert [entry["headers"]["authorization"][-4:] for entry in upstream.journal("POST")] == [
        "4444",
        "4444",
    ]
    assert len(identity) == 1, "the token is kept"
    assert identity[0][0].endswith("resource=https://ai.azure.com")


def test_dated_azure_gets_the_token_as_a_bearer(
    upstream: Upstream, ask: Ask, info: ConnectionInfo, identity: list[Any]
) -> None:
    dated = replace(info, base_url=upstream.url, api_version="2025-04-01-preview", keys=())
    ask(replace(dated, options=ENTRA))
    (entry,) = upstream.journal("POST")
    assert entry["headers"]["authorization"] == "…4444"


def test_a_token_that_the_upstream_quotes_is_taken_out(
    server: Any, ask: Ask, info: ConnectionInfo, identity: list[Any]
) -> None:
    address, _ = server(400, '{"error": {"message": "No to {key}"}}')
    with pytest.raises(Rejected) as refused:
        ask(replace(info, base_url=address, options=ENTRA, keys=()))
    assert "entra-token" not in str(refused.value)


def test_a_machine_without_an_identity_is_told_so(
    server: Any,
    ask: Ask,
    info: ConnectionInfo,
    identity: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, _ = server(400, '{"error": "invalid_request", "error_description": "no identity"}')
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/token")
    with pytest.raises(Rejected, match="Microsoft Entra ID gave no token"):
        ask(replace(info, options=ENTRA, keys=()))
