"""Figure 1: answers a second, end to end through REST, by programs that ask again and again.

Web and worker are the processes that `manage.py quickstart` starts. Each program makes a thread, a
message and a run, looks just after the five seconds that an answer usually takes and every tenth of
a second from there on, and reads the answer: five requests at least, each with its key checked. N of
them could get N/5 answers a second if nothing took any time. All run on the same processors.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from assistant_manager.models import ApiKey
from conversations.management.commands.quickstart import web, web_answers, worker
from conversations.management.ports import reserved_port
from conversations.management.supervisor import Supervisor
from conversations.models import DriverHeartbeat
from tests.benchmarks.questions import make_asker
from tests.benchmarks.table import percentile, reached
from tests.benchmarks.upstream import Upstream, running_upstream
from tests.benchmarks.watching import Watched, wait
from tests.benchmarks.ways import LISTENING

TITLE = "Figure 1: answers a second through REST, 5 s upstream"
COLUMNS = (
    *("programs asking", "answers/s", "ideal", "of the ideal", "goal", "requests/s"),
    *("added p50", "added p95", "CPU web + worker", "troubles"),
)
UPSTREAM_SECONDS = 5.0
SIZES = ((200, 0.95), (2000, 0.90))
SECONDS = 20.0


def measure(log: Path, scale: float) -> Iterator[Sequence[str]]:
    with running_upstream() as upstream:
        for askers, least in SIZES:
            yield _ask(int(askers * scale), least, upstream)
    yield ("*open-assistant-api, 200 at once, as measured before*", "3.8", "40", "10%")
    yield ("*django-openai-assistant, 20 at once, as measured before*", "0.24", "4", "6%")


def _ask(askers: int, least: float, upstream: Upstream) -> Sequence[str]:
    assistant = make_asker(upstream.url, seconds=UPSTREAM_SECONDS, **LISTENING.options)
    _, key = ApiKey.objects.issue(project=assistant.project, name="bench")
    DriverHeartbeat.objects.all().delete()
    with reserved_port(8000) as port, Supervisor(print) as supervisor:
        supervisor.start(web(port))
        supervisor.start(worker())
        wait(lambda: web_answers(port) and DriverHeartbeat.objects.exists(), 60)
        pids = [child.pid for child in supervisor.children if child.pid]
        before = sum(Watched(pid).cpu() for pid in pids)
        found = _found(port, key, assistant.public_id, askers)
        cpu = sum(Watched(pid).cpu() for pid in pids) - before
    took = [seconds - UPSTREAM_SECONDS for seconds in found["took"]]
    rate, ideal = found.get("answers", 0) / found["seconds"], askers / UPSTREAM_SECONDS
    troubles = {name: value for name, value in found.items() if name not in USUAL}
    return (
        *(f"{askers:,}", f"{rate:.1f}", f"{ideal:.0f}", f"{rate / ideal:.0%}"),
        reached(rate >= least * ideal, f"≥ {least:.0%}"),
        f"{found.get('requests', 0) / found['seconds']:.0f}",
        f"{percentile(took, 50):.2f} s",
        f"{percentile(took, 95):.2f} s",
        f"{cpu / (found['seconds'] + _warm_up()):.0%} of a core",
        ", ".join(f"{name}: {value}" for name, value in troubles.items()) or "none",
    )


USUAL = ("seconds", "usual", "took", "answers", "requests")


def _warm_up() -> float:
    """Until those who began first ask for the third time."""
    return 2.5 * UPSTREAM_SECONDS


def _found(port: int, key: str, assistant: str, askers: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.benchmarks.askers"]
    options = {
        **{"port": port, "key": key, "assistant": assistant, "askers": askers},
        **{"connections": 64, "usual": UPSTREAM_SECONDS, "warm-up": _warm_up()},
        "seconds": SECONDS,
    }
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
