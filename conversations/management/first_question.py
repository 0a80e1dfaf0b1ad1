"""One question from end to end, over HTTP, as a program would ask it."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

from conversations.management.ports import HOST

QUESTION = "I need to solve the equation 3x + 11 = 14. Can you help me?"
UNFINISHED = ("queued", "in_progress", "cancelling")


class Unanswered(Exception):
    """str() is the reason."""


def call(port: int, method: str, path: str, *, token: str = "", body: Any = None) -> Any:
    """The decoded answer of our own server. Raises Unanswered for a refusal, OSError or
    HTTPException when nobody speaks HTTP there. Never goes through a proxy."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        raise Unanswered(f"{method} {path} was answered {response.status}: {text}")
    return json.loads(text)


def request_body(assistant_id: str) -> dict[str, Any]:
    """A thread with the question, and its run, in one call."""
    messages = [{"role": "user", "content": QUESTION}]
    return {"assistant_id": assistant_id, "thread": {"messages": messages}}


def ask(*, port: int, token: str, assistant_id: str, patience: float = 120.0) -> str:
    """The answer's text. Raises Unanswered, also after `patience` seconds."""
    deadline = time.monotonic() + patience
    run = call(port, "POST", "/v1/threads/runs", token=token, body=request_body(assistant_id))
    messages = f"/v1/threads/{run['thread_id']}/messages"
    path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    while run["status"] in UNFINISHED:
        if time.monotonic() > deadline:
            raise Unanswered(f"The run is still {run['status']} after {patience:g} s.")
        time.sleep(0.1)
        run = call(port, "GET", path, token=token)
    if run["status"] != "completed":
        error = (run["last_error"] or {}).get("message", "no reason given")
        raise Unanswered(f"The run ended as {run['status']}: {error}")
    newest = call(port, "GET", f"{messages}?limit=1", token=token)["data"][0]
    text = "\n".join(part["text"]["value"] for part in newest["content"] if part["type"] == "text")
    if newest["role"] != "assistant" or not text.strip():
        raise Unanswered("The run is completed, but the thread holds no answer.")
    return text
