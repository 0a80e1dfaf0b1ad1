"""Derivatives, integrals, limits and sums."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assistant_manager.engines.planner.expressions import Expression, Level, Unreadable
from assistant_manager.engines.planner.programs import (
    Intent,
    Plan,
    body_of,
    notes_of,
    program,
    sentence,
    the_variable,
)
from assistant_manager.engines.planner.question import Slot

Slots = Mapping[str, Slot]


def _optional(match: re.Match[str], slots: Slots, *names: str) -> Slot | None:
    tag = next((match[name] for name in names if match.groupdict().get(name)), None)
    return slots[tag] if tag else None


def differentiate(match: re.Match[str], slots: Slots) -> Plan:
    body = body_of(slots[match["f"]])
    chosen = _optional(match, slots, "v", "v2")
    if chosen is None and slots[match["f"]].kind == "d":
        chosen = Slot("v", slots[match["f"]].parts[1:])
    variable = the_variable([body], chosen)
    order = {"": 1, "second": 2, "third": 3}[match["order"]]
    times = f", {order}" if order > 1 else ""
    lines = [f"derivative = diff({body.code}, {variable}{times})", "derivative"]
    words = {
        "expression": body.code,
        "variable": variable,
        "order": str(order),
        "notes": notes_of(body),
    }
    parts = [body]
    if point := _optional(match, slots, "at"):
        value = _value_at(point, variable)
        parts.append(value)
        lines[-1:] = [f"slope = derivative.subs({variable}, {value.code})", "slope"]
        words["at"] = f"{variable} = {value.code}"
    return Plan("derivative", program(lines, parts, {"diff"}, variables=[variable]), words)


def _value_at(slot: Slot, variable: str) -> Expression:
    if slot.kind != "q":
        return slot.expression
    name, value = slot.parts
    if name.code != variable or value.symbols:
        raise Unreadable("It does not give the variable a plain value.")
    return value


def differentiate_named(match: re.Match[str], slots: Slots) -> Plan:
    """`f'(3)` where `f(x) = ...` is given."""
    if slots[match["name"]].expression.code != slots[match["f"]].function:
        raise Unreadable("It asks for another function than the one it gives.")
    return differentiate(match, slots)


def integrate(match: re.Match[str], slots: Slots) -> Plan:
    body = body_of(slots[match["f"]])
    variable = the_variable([body], _optional(match, slots, "v", "v2"))
    low = _optional(match, slots, "low", "low2")
    high = _optional(match, slots, "high", "high2")
    words = {"expression": body.code, "variable": variable, "notes": notes_of(body)}
    if low is None or high is None:
        lines = [f"antiderivative = integrate({body.code}, {variable})", "antiderivative"]
        source = program(lines, [body], {"integrate"}, variables=[variable])
        return Plan("antiderivative", source, words)
    bounds = [low.expression, high.expression]
    if any(variable in bound.symbols for bound in bounds):
        raise Unreadable("The bounds of the integral hold its own variable.")
    span = f"({variable}, {bounds[0].code}, {bounds[1].code})"
    lines = [f"integral = integrate({body.code}, {span})", "integral"]
    words |= {"low": bounds[0].code, "high": bounds[1].code}
    source = program(lines, [body, *bounds], {"integrate"}, variables=[variable])
    return Plan("integral", source, words)


def take_limit(match: re.Match[str], slots: Slots) -> Plan:
    body = body_of(slots[match["f"]])
    variable, point = slots[match["v"]].expression.code, slots[match["at"]].expression
    if variable not in body.symbols or point.symbols:
        raise Unreadable("It does not say where the limit is taken.")
    side = match.groupdict().get("side") or match.groupdict().get("side2")
    # sympy looks from the right unless told; a limit with no side named must hold from both.
    direction = {"right": "'+'", "left": "'-'", None: "'+-'"}[side]
    endless = "oo" in point.code
    arguments = f"{body.code}, {variable}, {point.code}" + ("" if endless else f", {direction}")
    words = {
        "expression": body.code,
        "variable": variable,
        "point": point.code + (f" from the {side}" if side else ""),
        "notes": notes_of(body),
    }
    source = program([f"value = limit({arguments})", "value"], [body, point], {"limit"})
    return Plan("limit", source, words)


def add_up(match: re.Match[str], slots: Slots) -> Plan:
    body, index = slots[match["f"]].expression, slots[match["v"]].expression.code
    low, high = slots[match["low"]].expression, slots[match["high"]].expression
    if body.level is Level.SUM:
        raise Unreadable("It is not clear how far the sum goes; write it without a '+' or '-'.")
    if body.symbols - {index} or low.symbols | high.symbols:
        raise Unreadable("The sum holds letters besides its index.")
    lines = [f"total = summation({body.code}, ({index}, {low.code}, {high.code}))", "total"]
    words = {"expression": body.code, "index": index, "low": low.code, "high": high.code}
    source = program(lines, [body, low, high], {"summation"}, variables=[index])
    return Plan("summation", source, words)


_BETWEEN = r"(?:(?:from|between|over) (?P<low{n}>{any})(?: to| and|,| ,) (?P<high{n}>{any}))"


def _between(n: str) -> str:
    return _BETWEEN.replace("{n}", n)


INTENTS: tuple[Intent, ...] = (
    (
        sentence(
            r"(?:ask |simplify )*(?P<order>second|third|)derivative(?: wrt (?P<v>{v}))?(?: of)?(?: (?:for|if|,))? "
            r"(?P<f>{f})(?: wrt (?P<v2>{v}))?(?: ,? ?(?:at|if|for)(?: point)? (?P<at><[qne]\d+>))?"
        ),
        differentiate,
    ),
    (
        sentence(
            r"(?:if |for )?(?P<f>{d}) (?:, )?ask (?P<order>second|)derivative (?P<name>{v})"
            r"(?: at (?P<at><n\d+>))?"
        ),
        differentiate_named,
    ),
    (
        sentence(
            r"ask (?P<order>second|)derivative (?P<name>{v})(?: at (?P<at><n\d+>))? "
            r"(?:if|for|,) (?P<f>{d})"
        ),
        differentiate_named,
    ),
    (
        sentence(
            rf"(?:ask |integral (?:of )?)*integral(?: {_between('')})?(?: wrt (?P<v>{{v}}))?(?: of|,)? (?P<f>{{f}})"
            rf"(?: wrt (?P<v2>{{v}}))?(?: {_between('2')})?(?: wrt {{v}})?"
        ),
        integrate,
    ),
    (sentence(r"ask (?P<f>{f}) approach as (?P<v>{v}) -> (?P<at>{any})"), take_limit),
    (
        sentence(
            r"(?:ask )?limit (?:as|if|for) (?P<v>{v}) -> (?P<at>{any})(?: from (?P<side>right|left))?"
            r"(?: of|,) (?P<f>{f})"
        ),
        take_limit,
    ),
    (
        sentence(
            r"(?:ask )?limit(?: of)? (?P<f>{f})(?: ,)? (?:as|if|for|at) (?P<v>{v}) -> (?P<at>{any})"
            r"(?: from (?P<side>right|left))?"
        ),
        take_limit,
    ),
    (
        sentence(
            r"(?:ask )?summation (?P<v>{v}) from (?P<low>{any}) to (?P<high>{any}) of (?P<f>{any})"
        ),
        add_up,
    ),
    (
        sentence(
            r"(?:ask )?sum of (?P<f>{any}) (?:for|as|,) (?P<v>{v}) from (?P<low>{any}) to (?P<high>{any})"
        ),
        add_up,
    ),
)
