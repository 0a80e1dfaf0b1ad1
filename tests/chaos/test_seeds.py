"""Whatever dies, is cut or away: every run ends once, with one answer, and all books balance.

A seed decides what is asked and what goes wrong in which order; only the moments vary. `CHAOS_SEEDS`
(such as `1-100` or `17`) and `CHAOS_RUNS` choose other numbers than those of the whole suite.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from assistant_manager.models import Connection, Model, Project
from assistant_manager.secrets import Secret
from conversations.ledger import LOST_AT_MOST
from conversations.models import Run, RunAttempt, RunStatus
from tests.chaos.clients import Clients
from tests.chaos.disturbances import Plan, Question, plan, told
from tests.chaos.relay import Relay
from tests.chaos.site import LIFETIME, Site, site, unavailable
from tests.factories import make_project
from tests.fakes import engine
from tests.fakes.upstream.running import Upstream
from tests.invariants import answers_of, broken, disagreements, unfinished

RUNS = int(os.environ.get("CHAOS_RUNS", "100"))
SEEDS = os.environ.get("CHAOS_SEEDS", "1-3")
TROUBLES = {"429": 0.05, "500": 0.02, "cut": 0.03}
WEBHOOK_SECRET = f"whsec_{base64.b64encode(b'thirty-two bytes of a secret ...').decode()}"
FILE = "tests/chaos/test_seeds.py"
PACE = 0.1
"""Seconds between two looks at what clients have to do."""
END_WITHIN = 600 + RUNS / 2
"""Seconds from the last disturbance to the end of the last run; a tenth of it is usual."""


def seeds() -> list[int]:
    first, _, last = SEEDS.partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.fixture
def project(transactional_db: None, settings: Settings) -> Project:
    settings.RUN_LIFETIME_SECONDS = LIFETIME
    return make_project()


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(1200 + 2 * RUNS)
@pytest.mark.parametrize("seed", seeds())
def test_nothing_is_lost_and_nothing_is_done_twice(
    seed: int, project: Project, upstream: Upstream, live_server: LiveServer, tmp_path: Path
) -> None:
    planned = plan(seed, RUNS, without=unavailable())
    say(f"Again: CHAOS_SEEDS={seed} CHAOS_RUNS={RUNS} python -m pytest {FILE}", *told(planned))
    log = tmp_path / "workers.log"
    clients = Clients(project, planned.questions)
    with Relay(f"{upstream.url}/v1") as line, Relay(live_server.url) as webhooks:
        connect(planned, line, upstream, webhooks)
        with site(log, line, webhooks) as running:
            go_through(planned, clients, running)
            see_the_end(clients, running)
            running.stop()
    upstream.set_chaos()
    wrong = [*broken(Run.objects.all()), *unfinished(Run.objects.all())]
    wrong += [said for run in Run.objects.all() for said in misled(run, clients.questions)]
    wrong += disagreements(upstream, unheard=unheard(log))
    wrong += upstream.violations() + complaints(log)
    say(f"{Counter(Run.objects.values_list('status', flat=True))}", f"{attempts_by_fate()}")
    assert not wrong, "\n".join([*wrong, "", log.read_text()[-5000:]])


def say(*lines: str) -> None:
    """Shown with a failure."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def connect(planned: Plan, line: Relay, upstream: Upstream, webhooks: Relay) -> None:
    """Models of every kind, all by way of lines that can be cut."""
    upstream.set_chaos(TROUBLES, seed=planned.seed)
    for kind, options in (("responses", {"poll_seconds": 0.3}), ("chat", {}), (engine.KIND, {})):
        row = Connection.objects.create(
            name=kind, kind=kind, base_url=line.url, key_1=Secret(f"sk-{kind}"), options=options
        )
        Model.objects.create(name=kind, connection=row)
        if kind == "responses" and planned.has_webhooks:
            row.webhook_secret = Secret(WEBHOOK_SECRET)
            row.save()
            upstream.send_webhooks(f"{webhooks.url}/webhooks/{row.pk}", WEBHOOK_SECRET)


def go_through(planned: Plan, clients: Clients, running: Site) -> None:
    """Ask a third at once, the others between the disturbances."""
    clients.ask(len(planned.questions) // 3)
    each = len(planned.questions) // len(planned.disturbances) + 1
    for event in planned.disturbances:
        until = time.monotonic() + event.after
        clients.ask(each)
        while time.monotonic() < until or not running.is_ready(event):
            turn(clients, running)
        if event.kind == "cancel":
            clients.cancel_one(event.share)
        else:
            running.disturb(event)


def see_the_end(clients: Clients, running: Site) -> None:
    until = time.monotonic() + END_WITHIN
    while not (clients.have_asked and running.is_whole) or Run.objects.active().exists():
        clients.ask(1)
        clients.hear_no_word()
        turn(clients, running)
        assert time.monotonic() < until, "\n".join(
            [*unfinished(Run.objects.all()), running.log.read_text()[-5000:]]
        )


def turn(clients: Clients, running: Site) -> None:
    running.mend()
    clients.act()
    time.sleep(PACE)


# --- what must have come of it ----------------------------------------------------------


def misled(run: Run, questions: dict[int, Question]) -> list[str]:
    """Where the run is not what its question asked for."""
    question = questions[int(run.metadata["number"])]
    texts = [message.text for message in answers_of(run)]
    is_edited = question.policy == "after_review" and question.verdict == "edit"
    expected = f"{question.answer}, checked" if is_edited else question.answer
    match run.state:
        case RunStatus.COMPLETED if question.model == "embedded" and len(texts) == 1:
            return []
        case RunStatus.COMPLETED if texts != [expected]:
            return [f"{run} answers {texts} to question {question.number}"]
        case RunStatus.FAILED if not was_bound_to_fail(run, question):
            return [f"{run} failed: {run.last_error}"]
        case RunStatus.EXPIRED | RunStatus.INCOMPLETE:
            return [f"{run} is {run.status}"]
    return []


def was_bound_to_fail(run: Run, question: Question) -> bool:
    if question.policy == "after_review" and question.verdict == "reject":
        return True
    if question.model == "chat" and "did not finish its answer" in str(run.last_error):
        return True  # a stream that breaks off again and again is not asked for for ever
    lost = run.attempts.exclude(lost_at=None).count()
    return lost == LOST_AT_MOST and "lost again and again" in str(run.last_error)


def attempts_by_fate() -> dict[str, int]:
    attempts = RunAttempt.objects.all()
    return {
        "attempts": attempts.count(),
        "lost": attempts.exclude(lost_at=None).count(),
        "claims": sum(Run.objects.values_list("claims", flat=True)),
    }


def unheard(log: Path) -> set[str]:
    """The runs that the upstream could not be told to stop."""
    return set(re.findall(r"(run_\w+) was not cancelled upstream", log.read_text()))


def complaints(log: Path) -> list[str]:
    """What our own code calls an error: whatever breaks around it is none."""
    lines = log.read_text().splitlines()
    return [line for line in lines if re.search(r" ERROR (conversations|assistant_manager)", line)]
