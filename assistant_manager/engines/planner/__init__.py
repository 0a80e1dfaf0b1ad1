"""Turns a question of school and college mathematics into a short Python program.

Rules only: no model, no evaluation, no network. A question is planned when every word and every
sign of it is understood; anything else is `NoPlan`, so that no answer is ever a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant_manager.engines.planner import algebra, calculus, numbers
from assistant_manager.engines.planner.answers import phrase
from assistant_manager.engines.planner.expressions import Unreadable
from assistant_manager.engines.planner.programs import Plan
from assistant_manager.engines.planner.question import read_question

__all__ = ["NoPlan", "Plan", "phrase", "plan"]

LONGEST_QUESTION = 1_000  # characters; planning takes milliseconds on the driver's loop
_INTENTS = (*algebra.INTENTS, *calculus.INTENTS, *numbers.INTENTS)


@dataclass(frozen=True, slots=True)
class NoPlan:
    """The question is outside what the planner does. `reason` is a sentence, or empty."""

    reason: str = ""


def plan(question: str) -> Plan | NoPlan:
    """The program that answers the question, or why there is none."""
    if len(question) > LONGEST_QUESTION:
        return NoPlan(f"The question is longer than {LONGEST_QUESTION:,} characters.")
    try:
        asked = read_question(question)
        for pattern, make in _INTENTS:
            if match := pattern.fullmatch(asked.sentence):
                return make(match, asked.slots)
    except Unreadable as unreadable:
        return NoPlan(str(unreadable))
    return NoPlan()
