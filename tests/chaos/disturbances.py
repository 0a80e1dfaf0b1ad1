"""What goes wrong, and in which order: all of it drawn from one seed before anything begins."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "kill", "stop", "freeze", "cut_upstream", "upstream_away", "cut_broker", "cut_database",
    "webhooks_away", "cancel",
]  # fmt: skip
WEIGHTS: dict[Kind, int] = {
    "kill": 5,
    "stop": 3,
    "freeze": 2,
    "cut_upstream": 4,
    "upstream_away": 2,
    "cut_broker": 3,
    "cut_database": 4,
    "webhooks_away": 2,
    "cancel": 6,
}
WORKERS = 2
PER_RUNS = 15
"""One disturbance for so many runs, up to the most, and never fewer than the least."""
LEAST, MOST = 10, 60


@dataclass(frozen=True, slots=True)
class Disturbance:
    kind: Kind
    after: float
    """Seconds since the one before."""
    worker: int
    seconds: float
    """How long it lasts, where it lasts."""
    share: float
    """Which of the runs it is about, where it is about one: 0 the first, 1 the last."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one run is to be: the model it asks, the upstream's script, what its client does."""

    number: int
    model: Literal["responses", "chat", "scripted", "embedded"]
    script: dict[str, Any]
    policy: str = "immediately"
    verdict: Literal["approve", "edit", "reject", "ask_again"] = "approve"
    cancelled: bool = False
    """It would take for ever; its client cancels it."""

    @property
    def answer(self) -> str:
        """What it is to be answered with; the embedded engine words its own answers."""
        if "tools" in self.script:
            return f"The tools say: {self.number}"
        return f"x = {self.number}"


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    questions: tuple[Question, ...]
    disturbances: tuple[Disturbance, ...]
    has_webhooks: bool


def plan(seed: int, runs: int, without: Collection[Kind] = ()) -> Plan:
    """The same for the same seed, number of runs, and kinds that are not to be had here."""
    drawn = random.Random(seed)
    questions = tuple(_question(drawn, number) for number in range(runs))
    count = min(max(LEAST, runs // PER_RUNS), MOST)
    weights = {kind: weight for kind, weight in WEIGHTS.items() if kind not in without}
    disturbances = tuple(_disturbance(drawn, weights) for _ in range(count))
    return Plan(seed, questions, disturbances, has_webhooks=drawn.random() < 0.5)


def _disturbance(drawn: random.Random, weights: dict[Kind, int]) -> Disturbance:
    [kind] = drawn.choices(list(weights), list(weights.values()))
    return Disturbance(
        kind,
        after=drawn.uniform(0.05, 1.0),
        worker=drawn.randrange(WORKERS),
        seconds=drawn.uniform(0.1, 2.5),
        share=drawn.random(),
    )


def _question(drawn: random.Random, number: int) -> Question:
    script: dict[str, Any] = {
        "id": f"question-{number}",
        "answer": f"x = {number}",
        "seconds": round(drawn.uniform(0, 2), 2),
        "usage": {"input_tokens": 20, "output_tokens": 5},
    }
    match drawn.choices(
        ("plain", "function", "held", "endless", "chat", "scripted", "embedded"),
        (50, 12, 12, 8, 8, 6, 4),
    ):
        case ["function"]:
            called = {"name": "get_weather", "arguments": {"place": "Bern"}}
            return Question(number, "responses", {**script, "tools": [called]})
        case ["held"]:
            [verdict] = drawn.choices(("approve", "edit", "reject", "ask_again"), (4, 2, 2, 2))
            return Question(number, "responses", script, policy="after_review", verdict=verdict)
        case ["endless"]:
            return Question(number, "responses", {**script, "seconds": 3600}, cancelled=True)
        case ["chat"]:
            return Question(number, "chat", script)
        case ["scripted"]:
            own = {"answer": script["answer"], "seconds": script["seconds"], "look_again": 0.2}
            return Question(number, "scripted", {**own, "code": "1"})
        case ["embedded"]:
            return Question(number, "embedded", {})
    return Question(number, "responses", script)


def told(plan: Plan) -> Iterator[str]:
    """The plan in words, for whoever reads a failure."""
    for number, event in enumerate(plan.disturbances, start=1):
        yield (
            f"{number}. after {event.after:.2f} s: {event.kind} "
            f"(worker {event.worker}, {event.seconds:.2f} s, {event.share:.2f})"
        )
