"""A run asked for through the API, driven through an engine by hand, and what came of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from assistant_manager.engines.base import Engine, Progress, Sighting, Turn
from assistant_manager.engines.exceptions import Rejected, Unavailable
from assistant_manager.models import Connection, Model
from assistant_manager.secrets import Secret
from conversations import ledger, recording
from conversations.models import Run, RunStatus
from tests.engines.conftest import Await
from tests.engines.fields.asked import FILES, Asked
from tests.engines.turns import CODE, PATIENCE
from tests.fakes.upstream.running import Upstream
from tests.openai_api.http import Door, multipart

Row = dict[str, Any]

ME = "the table's driver"
UPSTREAM_MODEL = "upstream-model"
NUMBERS = itertools.count(50_000)
"""Gates remember a connection by its number, longer than a test's transaction lasts."""
QUICKLY: dict[str, Row] = {
    "responses": {"poll_seconds": 0.02},
    "assistants": {"poll_seconds": 0.02},
}


@dataclass(frozen=True)
class Seen:
    """`run`, `steps` and `answers` as the API shows them, oldest first; `journal` what the fake
    upstream was sent; `files` our ids of those that were uploaded, by name."""

    run: Row
    steps: list[Row]
    answers: list[Row]
    journal: list[Row]
    files: dict[str, str]
    door: Door

    @property
    def status(self) -> str:
        return str(self.run["status"])

    @property
    def error(self) -> str:
        return str((self.run["last_error"] or {}).get("code", ""))

    @property
    def incomplete(self) -> str:
        return str((self.run["incomplete_details"] or {}).get("reason", ""))

    @property
    def answer(self) -> str:
        parts = [part for message in self.answers for part in message["content"]]
        return "\n".join(part["text"]["value"] for part in parts if part["type"] == "text")

    @property
    def annotations(self) -> list[Row]:
        parts = [part for message in self.answers for part in message["content"]]
        return [n for part in parts if part["type"] == "text" for n in part["text"]["annotations"]]

    @property
    def calls(self) -> list[Row]:
        found = [step["step_details"].get("tool_calls", []) for step in self.steps]
        return [call for calls in found for call in calls]

    @property
    def code_outputs(self) -> list[Row]:
        code = [call["code_interpreter"] for call in self.calls if call["type"] == CODE["type"]]
        return [output for inside in code for output in inside["outputs"]]

    @property
    def logs(self) -> str:
        return "".join(output.get("logs", "") for output in self.code_outputs)

    @property
    def pictures(self) -> list[str]:
        return [out["image"]["file_id"] for out in self.code_outputs if out["type"] == "image"]

    def sent(self, path: str) -> list[Any]:
        """The bodies of what was posted to this path's end."""
        return [
            e["body"] for e in self.journal if e["method"] == "POST" and e["path"].endswith(path)
        ]

    def was_told(self, words: str) -> bool:
        """Whether the upstream was sent these words anywhere."""
        return any(words in json.dumps(entry["body"]) for entry in self.journal)

    def content(self, file_id: str) -> bytes:
        return self.door("GET", f"/v1/files/{file_id}/content").content


class Table:
    """Asks what a row asks, of one engine."""

    def __init__(self, engine: Engine, upstream: Upstream, door: Door, wait_for: Await) -> None:
        self.engine, self.upstream, self.door, self.wait_for = engine, upstream, door, wait_for

    def ask(self, asked: Asked) -> Seen:
        self._connect(asked)
        files = self._upload(asked)
        run = self._request(asked, files)
        self._drive(run, asked)
        place = f"/v1/threads/{run.thread.public_id}"
        messages = self._get(f"{place}/messages?order=asc&run_id={run.public_id}")
        return Seen(
            run=self._get(f"{place}/runs/{run.public_id}"),
            steps=self._get(f"{place}/runs/{run.public_id}/steps?order=asc")["data"],
            answers=messages["data"],
            journal=self._journal(),
            files=files,
            door=self.door,
        )

    def _journal(self) -> list[Row]:
        """Once the upstream has done with every request: one that was left is noticed soon."""
        deadline = time.monotonic() + PATIENCE
        while True:
            journal = self.upstream.journal()
            if all(entry["status"] for entry in journal) or time.monotonic() > deadline:
                return journal
            time.sleep(0.01)

    # --- as a program does ----------------------------------------------------------------

    def _connect(self, asked: Asked) -> None:
        kind = self.engine.kind
        connection = Connection.objects.create(
            pk=next(NUMBERS),
            name="Fake",
            kind=kind,
            base_url=f"{self.upstream.url}/v1",
            key_1=Secret("sk-fields-0001"),
            options={**QUICKLY.get(kind, {}), **asked.options.get(kind, {})},
        )
        Model.objects.create(name="ours", connection=connection, upstream_name=UPSTREAM_MODEL)

    def _upload(self, asked: Asked) -> dict[str, str]:
        named = json.dumps([asked.messages, asked.assistant])
        return {
            name: self._upload_one(name, content)
            for name, content in FILES.items()
            if f"@{name}" in named
        }

    def _upload_one(self, name: str, content: bytes) -> str:
        body, headers = multipart(("purpose", None, b"assistants"), ("file", name, content))
        return str(self.door("POST", "/v1/files", body, headers=headers).body["id"])

    def _request(self, asked: Asked, files: dict[str, str]) -> Run:
        script = json.dumps({"id": f"fields-{next(NUMBERS)}", **asked.script})
        fixed = {"model": "ours", "instructions": script, "tools": [CODE]}
        assistant = self._post("/v1/assistants", {**fixed, **asked.assistant}, files)
        thread = self._post("/v1/threads", {"messages": asked.messages, **asked.thread}, files)
        place = f"/v1/threads/{thread['id']}/runs"
        run = self._post(place, {"assistant_id": assistant["id"], **asked.run}, files)
        return Run.objects.get(public_id=run["id"])

    def _post(self, path: str, body: Row, files: dict[str, str] | None = None) -> Row:
        said = json.dumps(body)
        for name, id in (files or {}).items():
            said = said.replace(f'"@{name}"', f'"{id}"')
        reply = self.door("POST", path, json.loads(said))
        assert reply.status == 200, reply.body
        return dict(reply.body)

    def _get(self, path: str) -> Row:
        return dict(self.door("GET", path).body)

    # --- as a driver does -----------------------------------------------------------------

    def _drive(self, run: Run, asked: Asked) -> None:
        """One attempt after the other, until the run has ended."""
        while not run.is_ended:
            (claimed,) = Run.objects.claim(driver=ME, now=timezone.now(), limit=1)
            begun = ledger.begin(claimed, driver=ME)
            assert begun is not None
            try:
                self._attempt(claimed, begun, asked)
            except Rejected as error:
                recording.fail(claimed, str(error), code=error.code, driver=ME)
            run.refresh_from_db()
            if run.state is RunStatus.REQUIRES_ACTION:
                self._submit(run, asked.output)

    def _attempt(self, run: Run, begun: ledger.Begun, asked: Asked) -> None:
        work = begun.work
        progress = self._patiently(self.engine.start, work)
        while True:
            assert recording.record(run, begun.attempt, progress, driver=ME)
            sighting = _sighting(work, progress)
            if progress.outcome != "working":
                return
            if asked.then and self._is_under_way():
                self._stop(run, sighting, asked.then)
                return
            self.wait_for(asyncio.sleep(progress.look_again))
            progress = self._patiently(self.engine.look, sighting)

    def _patiently(self, ask: Any, work: Turn | Sighting) -> Progress:
        async def persist() -> Progress:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        progress: Progress = await ask(work)
                        return progress
                    except Unavailable:
                        await asyncio.sleep(0.02)

        return self.wait_for(persist())

    def _is_under_way(self) -> bool:
        """Whether the upstream, where there is one, has begun to answer."""
        accepted: int = self.upstream.counts()["accepted"]
        return accepted > 0 or self.engine.kind == "embedded"

    def _stop(self, run: Run, sighting: Sighting, then: str) -> None:
        if then == "cancel":
            self._post(f"/v1/threads/{run.thread.public_id}/runs/{run.public_id}/cancel", {})
            run.refresh_from_db()
        self.wait_for(self.engine.cancel(sighting))
        if then == "cancel":
            recording.end(run, RunStatus.CANCELLED)
            return
        Run.objects.filter(pk=run.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        run.refresh_from_db()
        assert recording.expire(run)

    def _submit(self, run: Run, output: str) -> None:
        place = f"/v1/threads/{run.thread.public_id}/runs/{run.public_id}"
        action = self._get(place)["required_action"]["submit_tool_outputs"]
        given = [{"tool_call_id": call["id"], "output": output} for call in action["tool_calls"]]
        self._post(f"{place}/submit_tool_outputs", {"tool_outputs": given})
        run.refresh_from_db()


def _sighting(work: Turn | Sighting, progress: Progress) -> Sighting:
    """With the state as it comes back from a row."""
    return Sighting(
        run_id=work.run_id,
        attempt=work.attempt,
        attempt_key=work.attempt_key,
        state=json.loads(json.dumps(progress.state)),
        connection=work.connection,
        deadline=work.deadline,
    )
