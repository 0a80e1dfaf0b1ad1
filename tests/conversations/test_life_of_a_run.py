"""A model of the life of runs: clients, two drivers, the upstream, its webhooks and reviewers act in
any order, and each of them may stop half-way. Whatever they do, the rows obey their rules, nobody's
start is made twice, and every run can still be brought to its end.

`LIFE_EXAMPLES` and `LIFE_STEPS` look for longer; then the order is another each time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import QuerySet
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from assistant_manager.engines.base import (
    Item,
    MessageItem,
    Progress,
    Sighting,
    ToolCall,
    ToolCallsItem,
    Turn,
    Usage,
)
from assistant_manager.engines.exceptions import Rejected, Unknown
from assistant_manager.models import Assistant, Connection, Model, ReleasePolicy
from conversations import adoption, ledger, recording
from conversations.exceptions import Refusal
from conversations.ledger import Begun
from conversations.models import (
    Message,
    Review,
    Run,
    RunAttempt,
    RunStatus,
    Thread,
    WebhookDelivery,
)
from conversations.models.status import TERMINAL
from conversations.services import reviews, runs, threads
from tests.factories import make_assistant, make_project, make_staff
from tests.fakes.engine import KIND, ScriptedEngine
from tests.invariants import answers_of, broken

M = TypeVar("M", bound=models.Model)

EXAMPLES = int(os.environ.get("LIFE_EXAMPLES", "0"))
STEPS = int(os.environ.get("LIFE_STEPS", "50"))
IN_SUITE = 40
"""Examples of the whole suite, always the same ones."""
RUNS_AT_ONCE = 4
"""More would only keep the drivers from coming far with any."""
ROUNDS = 40
"""Of a driver that nobody disturbs, until every run has ended; ten are usual."""
ONCE = "once"
HOUR = timedelta(hours=1)


class OnceEngine(ScriptedEngine):
    """As the vendors': a start whose fate nobody knows is not simply made again."""

    kind = ONCE
    start_is_repeatable = False


@dataclass(slots=True)
class Work:
    """What the upstream does for one attempt. `told` is how much of its `story` has happened."""

    id: str
    key: str
    story: Sequence[Progress]
    told: int = 0
    is_forgotten: bool = False

    def now(self) -> Progress:
        return self.story[self.told]


@dataclass(slots=True)
class Hand:
    """What a driver knows of a run it has claimed; it may be long out of date."""

    run: Run
    begun: Begun | None = None
    work: Turn | Sighting | None = None


@dataclass(slots=True)
class DriverModel:
    name: str
    hands: dict[int, Hand] = field(default_factory=dict)


@dataclass(slots=True)
class Cast:
    """The rows that all examples share."""

    staff: User
    assistants: list[Assistant]


@dataclass(frozen=True, slots=True)
class Luck:
    """How a driver fares with its next step."""

    looks: bool = True
    """Whether it looks at the table before."""
    overlaps: bool = False
    """Whether it is still writing for a run as somebody knocks."""
    fate: str = "heard"
    """What comes of a start: heard, lost, refused, rejected, never sent."""
    ending: str = "completed"
    has_code: bool = False
    further: int = 9
    """How far the upstream has come since the last look."""


WEIGHTS = {
    "drive": 60,
    "ask": 4,
    "ask_in_the_thread": 3,
    "cancel": 2,
    "submit_outputs": 6,
    "delete_a_message": 1,
    "delete_the_thread": 1,
    "time_is_up": 2,
    "read": 2,
    "sweep": 3,
    "approve": 2,
    "edit": 2,
    "reject": 1,
    "send_back": 3,
    "renew": 2,
    "hand_over": 2,
    "die": 2,
    "let_leases_lapse": 4,
    "forget": 1,
    "send_a_webhook": 5,
}
WHAT = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
NUMBERS = st.integers(0, 15)
LUCK = st.builds(
    Luck,
    looks=st.booleans(),
    overlaps=st.booleans(),
    fate=st.sampled_from(["heard"] * 8 + ["lost", "lost", "refused", "rejected", "never sent"]),
    ending=st.sampled_from(
        ["completed"] * 5
        + ["requires_action"] * 4
        + ["incomplete", "failed", "cancelled", "expired"]
    ),
    has_code=st.booleans(),
    further=st.integers(0, 3),
)


def story_of(key: str, upstream_id: str, luck: Luck) -> list[Progress]:
    """What an upstream says of one attempt, look after look."""
    state = {"id": upstream_id}
    base: dict[str, Any] = {"state": state, "upstream_id": upstream_id}
    items: list[Item] = []
    told = [Progress("working", **base)]
    if luck.has_code:
        call = ToolCall(id=f"call_{key}", type="code_interpreter", input="1 + 1")
        told.append(Progress("working", items=[ToolCallsItem("code", [call])], **base))
        done = ToolCall(id=f"call_{key}", type="code_interpreter", input="1 + 1", logs="2")
        items = [ToolCallsItem("code", [done], done=True)]
    usage = Usage(prompt_tokens=7, completion_tokens=3)
    if luck.ending == "requires_action":
        function = ToolCall(id=f"call_{key[:8]}", type="function", name="weather", arguments="{}")
        items = [*items, ToolCallsItem("function", [function])]
        return [*told, Progress("requires_action", items=items, usage=usage, **base)]
    told.append(Progress("working", items=[*items, MessageItem("answer", f"{key}: x")], **base))
    items = [*items, MessageItem("answer", f"{key}: x = 1", done=luck.ending == "completed")]
    last = Progress(luck.ending, items=items, usage=usage, error="It broke.", **base)  # type: ignore[arg-type]
    return [*told, last]


class LifeOfARun(RuleBasedStateMachine):
    cast: Cast

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.drivers = [DriverModel("first"), DriverModel("second")]
        self.upstream: dict[str, Work] = {}
        self.starts: dict[str, int] = {}
        self.ended: dict[int, tuple[Any, ...]] = {}
        self.numbers = count(1)
        ScriptedEngine.known.clear()
        ScriptedEngine.discarded.clear()

    def teardown(self) -> None:
        if sys.exc_info()[1] is None:
            self.every_run_comes_to_its_end()
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    # --- clients ------------------------------------------------------------------------

    @initialize(which=st.lists(NUMBERS, min_size=1, max_size=3))
    def some_questions(self, which: list[int]) -> None:
        for number in which:
            self.ask(number, Luck())

    # One rule for all, as hypothesis likes to leave rules out, and without drivers little happens.
    @rule(what=st.sampled_from(WHAT), which=NUMBERS, luck=LUCK)
    def happens(self, what: str, which: int, luck: Luck) -> None:
        getattr(self, what)(which, luck)

    # --- clients ------------------------------------------------------------------------

    def ask(self, which: int, luck: Luck) -> None:
        if Run.objects.active().count() < RUNS_AT_ONCE:
            runs.ask(assistant=self._assistant(which), text="What is x?")

    def ask_in_the_thread(self, which: int, luck: Luck) -> None:
        thread = one_of(Thread.objects.all(), which)
        if thread is not None:
            with suppress(Refusal):
                runs.ask(assistant=self._assistant(which), text="And y?", thread=thread)

    def _assistant(self, which: int) -> Assistant:
        return self.cast.assistants[which % len(self.cast.assistants)]

    def cancel(self, which: int, luck: Luck) -> None:
        run = one_of(Run.objects.all(), which)
        if run is not None:
            with suppress(Refusal):
                runs.cancel_run(run=run)

    def submit_outputs(self, which: int, luck: Luck) -> None:
        run = one_of(Run.objects.filter(status=RunStatus.REQUIRES_ACTION), which)
        if run is not None:
            outputs = {call["id"]: "sunny" for call in runs.pending_calls(run)}
            with suppress(Refusal):
                runs.submit_tool_outputs(run=run, outputs=outputs if luck.looks else {"x": "?"})

    def delete_a_message(self, which: int, luck: Luck) -> None:
        message = one_of(Message.objects.filter(role="assistant"), which)
        if message is not None:
            self.ended.pop(message.run_id or 0, None)
            threads.delete_message(message=message)

    def delete_the_thread(self, which: int, luck: Luck) -> None:
        thread = one_of(Thread.objects.all(), which)
        if thread is not None:
            threads.delete_thread(thread=thread)

    def time_is_up(self, which: int, luck: Luck) -> None:
        run = one_of(Run.objects.active(), which)
        if run is not None:
            Run.objects.filter(pk=run.pk).update(expires_at=timezone.now() - HOUR)

    def read(self, which: int, luck: Luck) -> None:
        run = one_of(Run.objects.all(), which)
        if run is not None:
            runs.end_if_overdue(run)

    # --- reviewers ----------------------------------------------------------------------

    def sweep(self, which: int, luck: Luck) -> None:
        Run.objects.bring_forward(timezone.now())
        Review.objects.open_missing()

    def approve(self, which: int, luck: Luck) -> None:
        self._judge(which, reviews.approve)

    def edit(self, which: int, luck: Luck) -> None:
        self._judge(which, reviews.edit, text="Better.")

    def reject(self, which: int, luck: Luck) -> None:
        self._judge(which, reviews.reject, reason="No.")

    def send_back(self, which: int, luck: Luck) -> None:
        self._judge(which, reviews.ask_again, note="Once more.")

    def _judge(self, which: int, verdict: Callable[..., None], **said: str) -> None:
        review = one_of(Review.objects.all(), which)
        if review is not None:
            with suppress(Refusal):
                verdict(review=review, by=self.cast.staff, **said)
                self.ended.pop(review.run_id, None)

    # --- drivers ------------------------------------------------------------------------

    def drive(self, which: int, luck: Luck) -> None:
        """A driver looks at the table, or not, and does the next thing for one of its runs."""
        driver = self._driver(which)
        if luck.looks or not driver.hands:
            self._answer_knocks(driver, luck)
            self._claim(driver)
        if driver.hands:
            hands = sorted(driver.hands)
            self._step(driver, driver.hands[hands[which % len(hands)]], luck)

    def _driver(self, which: int) -> DriverModel:
        return self.drivers[which // 8 % 2]

    def _claim(self, driver: DriverModel) -> None:
        for run in Run.objects.claim(driver=driver.name, now=timezone.now(), limit=10):
            driver.hands[run.pk] = Hand(run)

    def _answer_knocks(self, driver: DriverModel, luck: Luck) -> None:
        """What went on for the run is dropped; its last word may come after the row was read."""
        for run in ledger.knocks(driver=driver.name):
            before = driver.hands.get(run.pk)
            if before is not None and luck.overlaps:
                self._step(driver, before, luck)
            driver.hands[run.pk] = Hand(run)

    def _step(self, driver: DriverModel, hand: Hand, luck: Luck) -> None:
        if hand.run.state is RunStatus.CANCELLING:
            recording.end(hand.run, RunStatus.CANCELLED)
            del driver.hands[hand.run.pk]
        elif hand.run.expires_at is not None and hand.run.expires_at <= timezone.now():
            self._expire(driver, hand)
        elif hand.work is None:
            self._begin(driver, hand)
        elif isinstance(hand.work, Turn):
            self._start(driver, hand, luck)
        else:
            self._look(driver, hand, luck)

    def _begin(self, driver: DriverModel, hand: Hand) -> None:
        try:
            [begun] = ledger.begin_all([hand.run], driver=driver.name)
            if isinstance(begun, Exception):
                raise begun
        except Unknown:
            self._start_over(driver, hand, lost=True)
            return
        if begun is None:
            del driver.hands[hand.run.pk]
        else:
            hand.begun, hand.work = begun, begun.work

    def _start_over(self, driver: DriverModel, hand: Hand, *, lost: bool) -> None:
        hand.begun = hand.work = None
        try:
            if not ledger.start_over(hand.run, driver=driver.name, lost=lost):
                del driver.hands[hand.run.pk]
        except Rejected as error:
            recording.fail(hand.run, str(error), driver=driver.name)
            del driver.hands[hand.run.pk]

    def _start(self, driver: DriverModel, hand: Hand, luck: Luck) -> None:
        assert hand.begun is not None
        attempt, run = hand.begun.attempt, hand.run
        if attempt.sent_at is None and not ledger.send(attempt, driver=driver.name):
            del driver.hands[run.pk]
            return
        if luck.fate == "never sent":  # the worker died
            del driver.hands[run.pk]
            return
        if luck.fate in ("refused", "rejected"):
            attempt.sent_at = None
            ledger.not_taken(run, attempt.number, driver=driver.name)
            if luck.fate == "rejected":
                recording.fail(run, "Not this.", driver=driver.name)
                del driver.hands[run.pk]
            return
        work = self._taken(attempt, luck)
        if luck.fate == "lost" and run.connection.kind == ONCE:
            self._start_over(driver, hand, lost=True)
        elif luck.fate == "lost":
            del driver.hands[run.pk]
        else:
            self._record(driver, hand, work.story[0])

    def _taken(self, attempt: RunAttempt, luck: Luck) -> Work:
        """The upstream begins; engines whose start may be repeated find what they began before."""
        key = attempt.key
        self.starts[key] = self.starts.get(key, 0) + 1
        if key not in self.upstream:
            id = f"resp_{next(self.numbers)}"
            story = story_of(key, id, luck)
            self.upstream[key] = Work(id, key, story)
            ScriptedEngine.known[id] = key
        return self.upstream[key]

    def _look(self, driver: DriverModel, hand: Hand, luck: Luck) -> None:
        assert isinstance(hand.work, Sighting)
        work = self.upstream[hand.work.attempt_key]
        work.told = min(work.told + luck.further, len(work.story) - 1)
        if work.is_forgotten:
            self._start_over(driver, hand, lost=False)
        else:
            self._record(driver, hand, work.now())

    def _record(self, driver: DriverModel, hand: Hand, progress: Progress) -> None:
        assert hand.begun is not None
        attempt = hand.begun.attempt
        if recording.is_bare_start(progress):
            [is_ours] = recording.record_starts([(attempt, progress)], driver=driver.name)
        else:
            is_ours = recording.record(hand.run, attempt, progress, driver=driver.name)
        if not is_ours or progress.outcome != "working":
            del driver.hands[hand.run.pk]
        else:
            hand.work = ledger.build_sighting(hand.run, attempt)

    @staticmethod
    def _expire(driver: DriverModel, hand: Hand) -> None:
        if not recording.expire(hand.run):
            ledger.let_go(hand.run, driver=driver.name, due_at=hand.run.expires_at)
        del driver.hands[hand.run.pk]

    def renew(self, which: int, luck: Luck) -> None:
        driver = self._driver(which)
        held = Run.objects.filter(leased_by=driver.name).values_list("pk", flat=True)
        strays = set(held) - driver.hands.keys()
        ours = ledger.renew(driver=driver.name, orphans=strays, in_flight=len(driver.hands))
        for pk in driver.hands.keys() - ours:
            del driver.hands[pk]

    def hand_over(self, which: int, luck: Luck) -> None:
        """Its leases are given back; where it `looks`, it knows of it."""
        driver = self._driver(which)
        ledger.hand_over(driver=driver.name)
        if luck.looks:
            driver.hands.clear()

    def die(self, which: int, luck: Luck) -> None:
        self._driver(which).hands.clear()

    def let_leases_lapse(self, which: int, luck: Luck) -> None:
        """The driver goes on as if it still had them."""
        lapse(self._driver(which).name)

    # --- the upstream -------------------------------------------------------------------

    def forget(self, which: int, luck: Luck) -> None:
        if self.upstream:
            self._work(which).is_forgotten = True

    def send_a_webhook(self, which: int, luck: Luck) -> None:
        if not self.upstream:
            return
        work = self._work(which)
        attempt = RunAttempt.objects.filter(key=work.key).select_related("run").first()
        if attempt is not None:
            delivery = WebhookDelivery.objects.create(
                connection_id=attempt.run.connection_id,
                webhook_id=f"wh_{next(self.numbers)}",
                upstream_id=work.id,
            )
            adoption.adopt(delivery)

    def _work(self, which: int) -> Work:
        works = list(self.upstream.values())
        return works[-1 - which % len(works)]

    # --- what must hold -----------------------------------------------------------------

    def every_run_comes_to_its_end(self) -> None:
        """Whatever happened so far: once nobody disturbs them any more, nothing is stuck."""
        last = DriverModel("last")
        for driver in self.drivers:
            lapse(driver.name)
        for _ in range(ROUNDS):
            self._claim(last)
            self._answer_knocks(last, Luck())
            for hand in list(last.hands.values()):
                self._step(last, hand, Luck())
            Review.objects.open_missing()
            for run in Run.objects.filter(status=RunStatus.REQUIRES_ACTION):
                outputs = {call["id"]: "sunny" for call in runs.pending_calls(run)}
                runs.submit_tool_outputs(run=run, outputs=outputs)
            for review in Review.objects.waiting().filter(run__status=RunStatus.HELD):
                reviews.approve(review=review, by=self.cast.staff)
            if not Run.objects.active().exists():
                return
        stuck = Run.objects.active().values("status", "due_at", "leased_by", "lease_expires_at")
        raise AssertionError(f"never end: {list(stuck)}")

    @invariant()
    def the_rows_obey_their_rules(self) -> None:
        assert broken(Run.objects.all()) == []

    @invariant()
    def no_start_is_made_twice(self) -> None:
        once = RunAttempt.objects.filter(run__connection__kind=ONCE)
        for key in once.values_list("key", flat=True):
            assert self.starts.get(key, 0) <= 1

    @invariant()
    def an_answer_is_what_its_own_attempt_said(self) -> None:
        keys = dict(RunAttempt.objects.values_list("key", "pk"))
        for message in Message.objects.filter(role="assistant", revisions=None, run__isnull=False):
            key = message.text.partition(":")[0]
            if message.text:
                attempt = RunAttempt.objects.get(pk=keys[key])
                assert (attempt.run_id, attempt.number) == (message.run_id, message.attempt)

    @invariant()
    def what_has_ended_stays_as_it_is(self) -> None:
        for run in Run.objects.filter(status__in=TERMINAL).prefetch_related("messages"):
            said = [(message.public_id, message.text) for message in answers_of(run)]
            now = (run.status, run.ended_at, run.prompt_tokens, run.events.count(), said)
            assert self.ended.setdefault(run.pk, now) == now


def one_of(rows: QuerySet[M], which: int) -> M | None:
    """The newest more often than older ones; by place, so that the same choices find the same."""
    found = list(rows.order_by("-pk"))
    return found[which % len(found)] if found else None


def lapse(driver: str) -> None:
    Run.objects.filter(leased_by=driver).update(lease_expires_at=timezone.now() - HOUR)


@pytest.fixture
def cast(db: None, settings: Settings) -> Cast:
    settings.ENGINES = {
        **settings.ENGINES,
        KIND: f"{__name__}.ScriptedEngine",
        ONCE: f"{__name__}.OnceEngine",
    }
    project = make_project()
    assistants = []
    for kind in (KIND, ONCE):
        row = Connection.objects.create(name=kind, kind=kind)
        Model.objects.create(name=kind, connection=row)
        for policy in ReleasePolicy.IMMEDIATELY, ReleasePolicy.AFTER_REVIEW:
            assistants.append(make_assistant(project=project, model=kind, release_policy=policy))
    return Cast(make_staff(project), assistants)


def machine_of(cast: Cast) -> type[LifeOfARun]:
    return type("LifeOfARun", (LifeOfARun,), {"cast": cast})


@pytest.mark.slow
@pytest.mark.timeout(1200 + 10 * EXAMPLES)
def test_runs_live_by_their_rules_whoever_does_what_when(cast: Cast) -> None:
    run_state_machine_as_test(
        machine_of(cast),
        settings=settings(
            max_examples=EXAMPLES or IN_SUITE,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
