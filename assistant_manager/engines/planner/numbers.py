"""Arithmetic, percentages, whole numbers, statistics and matrices."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assistant_manager.engines.planner import expressions as build
from assistant_manager.engines.planner.expressions import Expression, Level, Unreadable
from assistant_manager.engines.planner.programs import (
    Intent,
    Plan,
    as_numbers,
    notes_of,
    program,
    quoted,
    sentence,
    tags,
)
from assistant_manager.engines.planner.question import Slot

Slots = Mapping[str, Slot]
LARGEST_TO_FACTOR = 10**40
LARGEST_TO_TEST = 10**600
LARGEST_TO_DIVIDE = 10**15
LARGEST_TO_CHOOSE = 1_000


def calculate(match: re.Match[str], slots: Slots) -> Plan:
    expression = slots[match["n"]].expression
    if "ask" not in match.groupdict() or not match["ask"]:
        _must_look_asked(expression)
    return _arithmetic(expression)


def _must_look_asked(expression: Expression) -> None:
    """Without a verb, `1984 - 2001` is a span of years and `3/4` may be a date."""
    if not re.search(r"\+|\*|[a-z]\(", expression.code.replace("Rational(", "")):
        raise Unreadable("It does not say what to do with the numbers.")


def _arithmetic(expression: Expression) -> Plan:
    if expression.symbols:
        raise Unreadable("It holds letters but no equation, and does not say what to do with it.")
    words = {"expression": expression.code, "notes": notes_of(expression)}
    if expression.decimal and expression.value is not None:
        words["decimal"] = "yes"
    lines = [f"result = {expression.code}"]
    if expression.value is None:
        if not expression.is_sympy:
            raise Unreadable("It is not plain arithmetic.")
        return Plan("value", program([*lines, "result, result.evalf(12)"], [expression]), words)
    return Plan("value", program([*lines, "result"], [expression]), words)


def part_of(match: re.Match[str], slots: Slots) -> Plan:
    """`15% of 240`, `1/3 of 90`, `half of 50`."""
    share = slots[match["p"]].expression if match.groupdict().get("p") else _HALF
    if not (share.percent or share.code.startswith("Rational(")):
        raise Unreadable("It does not say what to do with the numbers.")
    return _arithmetic(build.multiply(share, _alone(slots[match["n"]].expression)))


_HALF = build.divide(build.number("1"), build.number("2"))


def _alone(expression: Expression) -> Expression:
    """Refuses `15% of 80 plus 3`, where the words do not say what the part is taken of."""
    if expression.level is Level.SUM:
        raise Unreadable("It is not clear how far the 'of' goes; add brackets.")
    return expression


def what_percent(match: re.Match[str], slots: Slots) -> Plan:
    part, whole = (_alone(slots[match[name]].expression) for name in ("part", "whole"))
    share = build.multiply(build.divide(part, whole), build.number("100"))
    plan = _arithmetic(share)
    return Plan("percentage", plan.source, {**plan.words, "part": part.code, "whole": whole.code})


def change_by_percent(match: re.Match[str], slots: Slots) -> Plan:
    sign = "+" if match["way"] == "increase" else "-"
    share = build.bracketed(slots[match["p"]].expression)
    factor = build.add(build.number("1"), share, sign)
    return _arithmetic(build.multiply(slots[match["n"]].expression, factor))


def take_off(match: re.Match[str], slots: Slots) -> Plan:
    """`30% off 50`: what is left to pay."""
    share = build.bracketed(slots[match["p"]].expression)
    rest = build.add(build.number("1"), share, "-")
    return _arithmetic(build.multiply(_alone(slots[match["n"]].expression), rest))


def combine(match: re.Match[str], slots: Slots) -> Plan:
    total, *rest = as_numbers(tags(match["list"]), slots)
    for part in rest:
        total = (
            build.add(total, part, "+") if match["verb"] == "sum" else build.multiply(total, part)
        )
    return _arithmetic(total)


def operate(match: re.Match[str], slots: Slots) -> Plan:
    """`add 5 and 6`, `subtract 3 from 10`, `the difference between 10 and 3`."""
    a, b = slots[match["a"]].expression, slots[match["b"]].expression
    match match["verb"], match["joint"]:
        case "add", "and" | "to":
            return _arithmetic(build.add(a, b, "+"))
        case "subtract", "from":
            return _arithmetic(build.add(b, a, "-"))
        case "multiply", "and" | "by":
            return _arithmetic(build.multiply(a, b))
        case "divide", "by":
            return _arithmetic(build.divide(a, b))
        case "difference", _ if a.value is not None and b.value is not None and a.value >= b.value:
            return _arithmetic(build.add(a, b, "-"))
    raise Unreadable("It does not say clearly what to do with the two numbers.")


def remainder(match: re.Match[str], slots: Slots) -> Plan:
    return _arithmetic(build.remainder(slots[match["a"]].expression, slots[match["b"]].expression))


def common(match: re.Match[str], slots: Slots) -> Plan:
    verb, items = match["verb"], as_numbers(tags(match["list"]), slots)
    for item in items:
        _whole(item, LARGEST_TO_TEST, least=1)
    name = {"gcd": "igcd", "lcm": "ilcm"}[verb]
    lines = [f"result = {name}({quoted(*items)})", "result"]
    return Plan(verb, program(lines, items, {name}), {"numbers": quoted(*items)})


def _whole(expression: Expression, most: int, *, least: int = 0) -> Expression:
    value = expression.value
    if value is None or value.denominator != 1 or expression.decimal:
        raise Unreadable("It needs a whole number.")
    if not least <= value <= most:
        raise Unreadable(f"It needs a whole number from {least} to {most:.0e}.")
    return expression


def test_prime(match: re.Match[str], slots: Slots) -> Plan:
    n = _whole(slots[match["n"]].expression, LARGEST_TO_TEST)
    source = program([f"isprime({n.code})"], [n], {"isprime"})
    return Plan("prime", source, {"number": n.code})


def prime_factors(match: re.Match[str], slots: Slots) -> Plan:
    n = _whole(slots[match["n"]].expression, LARGEST_TO_FACTOR, least=2)
    lines = [f"factors = factorint({n.code})", "factors"]
    return Plan("prime_factors", program(lines, [n], {"factorint"}), {"number": n.code})


def list_divisors(match: re.Match[str], slots: Slots) -> Plan:
    n = _whole(slots[match["n"]].expression, LARGEST_TO_DIVIDE, least=1)
    return Plan("divisors", program([f"divisors({n.code})"], [n], {"divisors"}), {"number": n.code})


def choose(match: re.Match[str], slots: Slots) -> Plan:
    n, k = (_whole(slots[match[name]].expression, LARGEST_TO_CHOOSE) for name in ("n", "k"))
    chosen = build.apply("binomial", n, k)
    return _arithmetic(chosen)


def describe(match: re.Match[str], slots: Slots) -> Plan:
    items = as_numbers(tags(match["list"]), slots)
    if any(item.value is None for item in items):
        raise Unreadable("It needs plain numbers.")
    verb = match["verb"]
    lines = [f"numbers = [{quoted(*items)}]"]
    words = {"numbers": quoted(*items)}
    mean = "mean = S(sum(numbers))/len(numbers)"
    squares = "squares = sum((number - mean)**2 for number in numbers)"
    tails: dict[str, tuple[list[str], set[str]]] = {
        "mean": ([mean, "mean"], {"S"}),
        "median": (
            ["numbers.sort()", "middle = len(numbers)//2", _median(len(items)), "median"],
            {"S"},
        ),
        "mode": (
            [
                "most = max(numbers.count(number) for number in numbers)",
                "sorted({number for number in numbers if numbers.count(number) == most})",
            ],
            set(),
        ),
        "range": (["max(numbers) - min(numbers)"], set()),
        "variance": (
            [mean, squares, "squares/len(numbers), squares/(len(numbers) - 1)"],
            {"S"},
        ),
        "deviation": (
            [mean, squares, "sqrt(squares/len(numbers)), sqrt(squares/(len(numbers) - 1))"],
            {"S", "sqrt"},
        ),
    }
    tail, imports = tails[verb]
    return Plan(verb, program([*lines, *tail], items, imports), words)


def _median(count: int) -> str:
    if count % 2:
        return "median = numbers[middle]"
    return "median = S(numbers[middle - 1] + numbers[middle])/2"


def with_matrix(match: re.Match[str], slots: Slots) -> Plan:
    rows = slots[match["m"]].rows
    verb = match["verb"]
    cells = [cell for row in rows for cell in row]
    if verb in {"determinant", "inverse", "trace"} and len(rows) != len(rows[0]):
        raise Unreadable("The matrix is not square.")
    text = "[" + ", ".join(f"[{quoted(*row)}]" for row in rows) + "]"
    method = {"determinant": "det", "inverse": "inv", "transpose": "transpose", "trace": "trace",
              "rank": "rank"}[verb]  # fmt: skip
    finish = "" if verb != "inverse" else ".tolist()"
    if verb == "transpose":
        finish = ".tolist()"
    lines = [f"matrix = Matrix({text})", f"result = matrix.{method}(){finish}", "result"]
    return Plan("matrix", program(lines, cells, {"Matrix"}), {"verb": verb, "matrix": text})


INTENTS: tuple[Intent, ...] = (
    (sentence(r"(?P<ask>ask|solve|simplify) (?P<n>{any})(?: is|(?: (?:,|=) ?(?:ask)?))?"), calculate),
    (sentence(r"(?P<n>{any}) (?:, )?(?P<ask>ask|=)"), calculate),
    (sentence(r"(?P<n>{e})"), calculate),
    (sentence(r"(?:ask )?(?P<p><[pe]\d+>) of (?P<n>{num})"), part_of),
    (sentence(r"(?:ask )?(?P<p>{p}) off (?P<n>{num})"), take_off),
    (sentence(r"(?:ask )?half of (?P<n>{num})"), part_of),
    (sentence(r"(?:ask )?(?P<verb>add|subtract|multiply|divide) (?P<a>{n}) (?P<joint>and|to|from|by) (?P<b>{n})"), operate),
    (sentence(r"(?:ask )?(?P<verb>difference) (?P<joint>between|of) (?P<a>{n}) and (?P<b>{n})"), operate),
    (sentence(r"(?:ask )?(?P<part>{num}) is what (?:%|percentage) of (?P<whole>{num})"), what_percent),
    (sentence(r"(?:what|ask)(?: is)? (?:%|percentage) of (?P<whole>{num}) is (?P<part>{num})"), what_percent),
    (sentence(r"(?:ask )?(?P<way>increase) (?P<n>{num}) by (?P<p>{p})"), change_by_percent),
    (sentence(r"(?:ask )?(?P<way>decrease|simplify) (?P<n>{num}) by (?P<p>{p})"), change_by_percent),
    (sentence(r"(?:ask )?(?P<verb>sum|product)(?: of)? (?P<list>{list})"), combine),
    (sentence(r"(?:ask )?remainder (?:if|of) (?P<a>{n}) (?:is )?/ (?P<b>{n})"), remainder),
    (sentence(r"(?:ask )?(?P<verb>gcd|lcm)(?: of)? (?P<list>{list})"), common),
    (sentence(r"(?:is|check (?:if|whether)|ask (?:if|whether)|whether) (?P<n>{num}) (?:is )?prime"), test_prime),
    (sentence(r"(?:ask |factor )?primefactors of (?P<n>{num})"), prime_factors),
    (sentence(r"factor (?P<n>{n})(?: into primes?)?"), prime_factors),
    (sentence(r"(?:ask )?(?:divisors|factors) of (?P<n>{n})"), list_divisors),
    (sentence(r"(?:ask )?(?P<n>{n}) choose (?P<k>{n})"), choose),
    (
        sentence(
            r"(?:ask )?(?P<verb>mean|median|mode|range|variance|deviation)(?: of| for)?(?: ,)? "
            r"(?P<list>{list})"
        ),
        describe,
    ),
    (
        sentence(
            r"(?:ask )?(?P<verb>determinant|inverse|transpose|trace|rank)(?: of)?(?: ,)? (?P<m>{m})"
        ),
        with_matrix,
    ),
)  # fmt: skip
