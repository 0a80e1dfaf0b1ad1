"""What an answer from an upstream costs: each engine, a worker of its own, real HTTP to the fake.

The upstream needs a second for each answer; "wait" is what comes on top of it, from the stored
question to the stored answer. The fake and whoever asks run on the same processors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from django.db.models import F

from assistant_manager.models import Connection, Model
from assistant_manager.secrets import Secret
from conversations.models import DriverHeartbeat, Run
from conversations.services import runs
from tests.benchmarks.table import percentile
from tests.benchmarks.watching import wait
from tests.factories import make_assistant, make_project, make_thread
from tests.fakes.upstream.running import Upstream, running_upstream
from tests.processes import WORKER, running

TITLE = "Upstreams: 200 questions at once, each answered after one second"
COLUMNS = (
    *("engine", "answered", "answers/s", "wait p50", "wait p95"),
    *("CPU an answer", "requests an answer"),
)
QUESTIONS = 200
UPSTREAM_SECONDS = 1.0
KINDS = ("responses", "chat", "assistants")


def measure(log: Path) -> Iterator[Sequence[str]]:
    with running_upstream() as upstream:
        for kind in KINDS:
            yield _answer(kind, upstream, log)


def _answer(kind: str, upstream: Upstream, log: Path) -> Sequence[str]:
    upstream.reset()
    url = f"{upstream.url}/v1"
    key = Secret("sk-bench-0123456789")
    connection = Connection.objects.create(name=kind, kind=kind, base_url=url, key_1=key)
    Model.objects.create(name=f"bench-{kind}", connection=connection)
    project = make_project()
    script = json.dumps({"answer": "x = 1", "seconds": UPSTREAM_SECONDS})
    assistant = make_assistant(
        project=project, model=f"bench-{kind}", instructions=script, tools=[]
    )
    ours = Run.objects.filter(project=project)
    DriverHeartbeat.objects.all().delete()
    with running(WORKER, log) as worker:
        wait(lambda: DriverHeartbeat.objects.exists(), 60)
        process = psutil.Process(worker.pid)
        time.sleep(2)
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        for _ in range(QUESTIONS):
            thread = make_thread(project=project, question="x?")
            runs.request_run(thread=thread, assistant=assistant)
        wait(lambda: not ours.active().exists(), 180)
        took = time.monotonic() - began
        cpu = sum(process.cpu_times()[:2]) - before
    answered = ours.filter(status="completed")
    waits = [
        run_time.total_seconds() - UPSTREAM_SECONDS
        for run_time in answered.values_list(F("completed_at") - F("created_at"), flat=True)
    ]
    return (
        kind,
        str(len(waits)),
        f"{len(waits) / took:.0f}",
        f"{percentile(waits, 50):.2f} s",
        f"{percentile(waits, 95):.2f} s",
        f"{cpu / QUESTIONS * 1000:.0f} ms",
        f"{len(upstream.journal()) / QUESTIONS:.1f}",
    )
