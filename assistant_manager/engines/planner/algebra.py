"""Equations, systems, inequalities and rewriting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assistant_manager.engines.planner.expressions import ANGLED, Expression, Unreadable
from assistant_manager.engines.planner.programs import (
    Intent,
    Plan,
    body_of,
    notes_of,
    program,
    quoted,
    sentence,
    symbols_of,
    tags,
    the_variable,
)
from assistant_manager.engines.planner.question import Slot

Slots = Mapping[str, Slot]
# With these, `solve` may return one period or one branch only; `solveset` returns them all.
_MANY_VALUED = ANGLED | {
    "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "Abs", "floor", "ceiling", "E",
    "factorial", "oo", "pi",
}  # fmt: skip


def solve_equations(match: re.Match[str], slots: Slots) -> Plan:
    found = match.groupdict()
    asked = [slots[tag].expression.code for tag in tags(found.get("vs"))]
    asked += [slots[tag].expression.code for tag in tags(found.get("vs2"))]
    equations = [slots[tag].parts for tag in tags(found["qs"])]
    asked = list(dict.fromkeys(asked))
    letters = symbols_of(side for sides in equations for side in sides)
    if not letters or set(asked) - set(letters):
        raise Unreadable("It has no unknown to solve for.")
    if len(equations) == 1:
        left, right = equations[0]
        if len(asked) > 1:
            raise Unreadable("One equation does not settle several unknowns.")
        if not asked and len(letters) > 1:
            raise Unreadable(
                "The equation holds several letters and it does not say which to solve for."
            )
        return _one_equation(left, right, asked[0] if asked else letters[0])
    return _system(equations, asked or letters)


def _one_equation(left: Expression, right: Expression, unknown: str) -> Plan:
    parts = [left, right]
    equation = f"equation = Eq({quoted(left, right)})"
    text = f"{left.code} = {right.code}"
    words = {"equation": text, "unknown": unknown, "notes": notes_of(*parts)}
    imports = left.imports | right.imports
    seen = len(re.findall(rf"\b{unknown}\b", text))
    if imports & _MANY_VALUED or left.exponential or right.exponential:
        if len(symbols_of(parts)) > 1:
            raise Unreadable("Equations of this kind are solved with one letter only.")
        lines = [equation, f"solution = solveset(equation, {unknown}, S.Reals)", "solution"]
        source = program(lines, parts, {"Eq", "S", "solveset"})
        return Plan("real_equation", source, words)
    if seen > 1 and len(symbols_of(parts)) == 1:
        # Unlike `solve`, `solveset` tells "no solution" from "every number is one".
        lines = [equation, f"solution = solveset(equation, {unknown})", "solution"]
        return Plan("equation", program(lines, parts, {"Eq", "solveset"}), words)
    lines = [equation, f"solution = solve(equation, {unknown})", "solution"]
    return Plan("equation", program(lines, parts, {"Eq", "solve"}), words)


def _system(equations: Sequence[tuple[Expression, ...]], unknowns: Sequence[str]) -> Plan:
    parts = [side for sides in equations for side in sides]
    if len(unknowns) > len(equations):
        raise Unreadable("There are more unknowns than equations.")
    if len(equations) > 8:
        raise Unreadable("Systems are solved up to eight equations.")
    if frozenset().union(*(part.imports for part in parts)) & _MANY_VALUED:
        raise Unreadable("Systems are solved only when they are polynomial.")
    if set(symbols_of(parts)) - set(unknowns):
        raise Unreadable("The system holds letters besides its unknowns.")
    lines = [
        "equations = [",
        *(f"    Eq({quoted(*sides)})," for sides in equations),
        "]",
        f"solution = solve(equations, [{', '.join(unknowns)}], dict=True)",
        "solution",
    ]
    text = ", ".join(f"{left.code} = {right.code}" for left, right in equations)
    words = {"system": text, "notes": notes_of(*parts)}
    return Plan("system", program(lines, parts, {"Eq", "solve"}), words)


def find_roots(match: re.Match[str], slots: Slots) -> Plan:
    body = body_of(slots[match["f"]])
    return _one_equation(
        body, Expression("0", value=None, is_sympy=False), the_variable([body], None)
    )


def solve_inequality(match: re.Match[str], slots: Slots) -> Plan:
    slot = slots[match["k"]]
    unknown = the_variable(slot.parts)
    if any(slots[tag].expression.code != unknown for tag in tags(match.groupdict().get("vs"))):
        raise Unreadable("It asks for a letter that the inequality does not hold.")
    if frozenset().union(*(part.imports for part in slot.parts)) & (_MANY_VALUED - {"Abs"}):
        raise Unreadable("Inequalities are solved only with polynomials and absolute values.")
    conditions = [
        f"{left.code} {relation} {right.code}"
        for left, relation, right in zip(
            slot.parts[:-1], slot.relations, slot.parts[1:], strict=True
        )
    ]
    text = conditions[0] + "".join(
        f" {relation} {part.code}"
        for relation, part in zip(slot.relations[1:], slot.parts[2:], strict=True)
    )
    lines = [
        f"solution = reduce_inequalities([{', '.join(conditions)}], {unknown})",
        "solution",
    ]
    source = program(lines, slot.parts, {"reduce_inequalities"}, real=True)
    return Plan("inequality", source, {"inequality": text, "unknown": unknown})


def rewrite(match: re.Match[str], slots: Slots) -> Plan:
    body = body_of(slots[match["f"]])
    verb = match["verb"]
    if not body.symbols and verb != "simplify":
        raise Unreadable("It holds no letter to work on.")
    lines = [f"result = {verb}({body.code})", "result"]
    words = {"verb": verb, "expression": body.code, "notes": notes_of(body)}
    return Plan("rewrite", program(lines, [body], {verb}), words)


def substitute(match: re.Match[str], slots: Slots) -> Plan:
    """`f(4)` after `f(x) = ...`, or an expression at given values of its letters."""
    found = match.groupdict()
    if found.get("c"):
        definition, call = slots[match["d"]], slots[match["c"]]
        if definition.function != call.function:
            raise Unreadable(f"The function {call.function} has not been given.")
        body, variable = definition.parts
        values = {variable.code: call.expression}
    else:
        body = body_of(slots[match["f"]])
        values = {}
        for tag in tags(match["qs"]):
            name, value = slots[tag].parts
            if not name.is_symbol or value.symbols:
                raise Unreadable("It does not give the letter a plain value.")
            values[name.code] = value
    if body.symbols != set(values) or any(value.symbols for value in values.values()):
        raise Unreadable("It does not give a value for each letter.")
    pairs = ", ".join(f"{name}: {value.code}" for name, value in values.items())
    lines = [f"expression = {body.code}", f"result = expression.subs({{{pairs}}})", "result"]
    if not body.is_sympy or not body.symbols:
        raise Unreadable("It holds no letter to give a value to.")
    at = ", ".join(f"{name} = {value.code}" for name, value in values.items())
    words = {"expression": body.code, "at": at, "notes": notes_of(body)}
    return Plan("substitution", program(lines, [body, *values.values()]), words)


_ASK = r"(?:(?:ask|solve)(?: for)? )?"
_WHERE = r"(?:(?: ,)? (?:if|from|in|of|for|with))?(?: system(?: of)?)?(?: ,)?"

INTENTS: tuple[Intent, ...] = (
    (
        sentence(
            r"(?:(?:ask|solve)(?: roots(?: of| to| for)?)?(?: for)? )?(?:(?:for )?(?P<vs>{vs}) ?,? )?"
            r"(?:ask roots (?:of|to) )?(?:system (?:of )?,? ?)?(?P<qs>{qs})"
            r"(?: ,?(?: and)? ?(?:ask|solve)?(?: for)?(?: (?:roots|system))?)?"
            r"(?: ?(?:for|ask|solve|solve for|in)? (?P<vs2>{vs}))?"
        ),
        solve_equations,
    ),
    (sentence(rf"{_ASK}(?P<vs>{{vs}}){_WHERE} (?P<qs>{{qs}})"), solve_equations),
    (sentence(r"valuesof (?P<vs>{v}) satisfy (?P<qs>{q})"), solve_equations),
    (
        sentence(r"(?:if )?(?P<qs>{qs}) ,? ?(?:ask|solve)(?: for| of)? (?P<vs>{vs})"),
        solve_equations,
    ),
    (sentence(r"(?:ask )?roots (?:of|to|for) (?P<qs>{q})"), solve_equations),
    (sentence(r"(?:ask |solve )?roots (?:of|to|for) (?P<f>{f})"), find_roots),
    (
        sentence(
            r"(?:(?:solve|ask|valuesof)(?: for)? )?(?:(?P<vs>{v}) (?:satisfy|,|if) )?(?P<k>{k})"
        ),
        solve_inequality,
    ),
    (sentence(r"(?:solve|ask) (?P<k>{k}) for (?P<vs>{v})"), solve_inequality),
    (sentence(r"if is (?P<k>{k})"), solve_inequality),
    (sentence(r"(?P<k>{k}) , (?:solve|ask)(?: for (?P<vs>{v}))?"), solve_inequality),
    (
        sentence(
            r"(?:ask )?(?:expand and )?(?P<verb>factor|expand|simplify)(?: of)?,? (?P<f><[ed]\d+>)"
        ),
        rewrite,
    ),
    (sentence(r"(?:if |for )?(?P<d>{d}) (?:, )?ask (?P<c>{c})"), substitute),
    (sentence(r"ask (?P<c>{c}) (?:, )?(?:if|for) (?P<d>{d})"), substitute),
    (sentence(r"ask (?:of )?(?P<f>{f}) (?:at|if|for|,) (?P<qs>{qs})"), substitute),
    (sentence(r"(?:if|for) (?P<qs>{qs}) ,? ?ask (?P<f>{e})"), substitute),
)
