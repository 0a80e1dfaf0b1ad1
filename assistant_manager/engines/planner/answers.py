"""Words the answer to a planned question around the output of its program.

The output is quoted as it came or cut into its parts, never computed with; what has no sentence
of its own is quoted whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, Inexact, localcontext

Words = Mapping[str, str]

_UNSOLVED = re.compile(
    r"\b(Integral|Limit|Sum|Derivative|ConditionSet|Intersection|Complement|Subs|AccumBounds)\("
)
_UNDEFINED = re.compile(r"\b(nan|zoo)\b")
_WRAPPED = re.compile(r"\((.*)\)|\[(.*)\]|\{(.*)\}", re.S)


def phrase(intent: str, words: Words, value: str) -> str:
    """Markdown for people. `value` is the repr that the program's last line had."""
    if found := _UNSOLVED.search(value):
        text = (
            f"sympy found no closed form for {_subject(words)}; "
            f"it left a `{found.group(1)}` in its output:\n\n    {value}"
        )
    elif _UNDEFINED.search(value):
        text = f"{_subject(words)} has no defined value; sympy returned `{value}`."
    else:
        text = _TEMPLATES.get(intent, _plain)(words, value)
    return f"{text}\n\n{words['notes']}" if words.get("notes") else text


def _subject(words: Words) -> str:
    for name in ("equation", "system", "inequality", "expression"):
        if name in words:
            return f"`{words[name]}`"
    return "the question"


def pieces(value: str) -> list[str]:
    """The items of a printed list, tuple, set or dict; brackets inside stay whole."""
    wrapped = _WRAPPED.fullmatch(value.strip())
    inside = next((group for group in wrapped.groups() if group is not None), "") if wrapped else ""
    items, depth, start = [], 0, 0
    for at, char in enumerate(inside):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            items.append(inside[start:at].strip())
            start = at + 1
    items.append(inside[start:].strip())
    return [item for item in items if item]


def _plain(words: Words, value: str) -> str:
    return f"The result is `{value}`."


def _equation(words: Words, value: str) -> str:
    unknown, equation = words["unknown"], words["equation"]
    if value in ("Complexes", "Reals"):
        return f"`{equation}` holds for every value of {unknown}."
    if value == "EmptySet":
        return f"`{equation}` has no solution."
    if not value.startswith(("[", "{")):
        return f"The values of {unknown} that solve `{equation}` are\n\n    {value}"
    solutions = [f"`{unknown} = {item}`" for item in pieces(value)]
    if not solutions:
        return f"sympy found no solution of `{equation}` for {unknown}."
    if len(solutions) == 1:
        return f"The solution of `{equation}` is {solutions[0]}."
    return f"The solutions of `{equation}` are {_listed(solutions)}."


def _real_equation(words: Words, value: str) -> str:
    return _equation(words, value) + " Only real numbers were looked at."


def _system(words: Words, value: str) -> str:
    solutions = [
        _listed([f"`{item.replace(':', ' =', 1)}`" for item in pieces(solution)])
        for solution in pieces(value)
    ]
    if not solutions:
        return f"sympy found no solution of the system `{words['system']}`."
    if len(solutions) == 1:
        return f"The solution of the system `{words['system']}` is {solutions[0]}."
    lines = "\n".join(f"- {solution}" for solution in solutions)
    return f"The system `{words['system']}` has these solutions:\n\n{lines}"


def _inequality(words: Words, value: str) -> str:
    inequality, unknown = words["inequality"], words["unknown"]
    if value == "True":
        return f"`{inequality}` holds for every real {unknown}."
    if value == "False":
        return f"`{inequality}` holds for no real {unknown}."
    shown = re.sub(rf"\(-oo < {unknown}\) & | & \({unknown} < oo\)", "", value)
    shown = re.sub(rf"\({unknown} < oo\) & | & \(-oo < {unknown}\)", "", shown)
    shown = shown.replace(" & ", " and ").replace(" | ", " or ")
    shown = re.sub(r"^\(([^()]*)\)$", r"\1", shown)
    return f"`{inequality}` holds exactly when `{shown}`."


def _rewrite(words: Words, value: str) -> str:
    done = {"factor": "Factored", "expand": "Expanded", "simplify": "Simplified"}[words["verb"]]
    return f"{done}, `{words['expression']}` is `{value}`."


def _substitution(words: Words, value: str) -> str:
    return f"At `{words['at']}`, `{words['expression']}` is {_with_decimal(value)}."


def _derivative(words: Words, value: str) -> str:
    order = {"1": "", "2": "second ", "3": "third "}[words["order"]]
    at = f" at `{words['at']}`" if "at" in words else ""
    return (
        f"The {order}derivative of `{words['expression']}` with respect to {words['variable']}{at} "
        f"is `{value}`."
    )


def _antiderivative(words: Words, value: str) -> str:
    return (
        f"The integral of `{words['expression']}` with respect to {words['variable']} "
        f"is `{value} + C`, where C is any constant."
    )


def _integral(words: Words, value: str) -> str:
    return (
        f"The integral of `{words['expression']}` for {words['variable']} from `{words['low']}` "
        f"to `{words['high']}` is {_with_decimal(value)}."
    )


def _limit(words: Words, value: str) -> str:
    return (
        f"The limit of `{words['expression']}` as {words['variable']} approaches "
        f"`{words['point']}` is {_with_decimal(value)}."
    )


def _summation(words: Words, value: str) -> str:
    return (
        f"The sum of `{words['expression']}` for {words['index']} from `{words['low']}` "
        f"to `{words['high']}` is {_with_decimal(value)}."
    )


def _value(words: Words, value: str) -> str:
    return f"`{words['expression']}` is {_exact_or_rounded(value, words)}."


def _exact_or_rounded(value: str, words: Words) -> str:
    if not value.startswith("("):
        return _with_decimal(value, decimal_first="decimal" in words)
    exact, rounded = pieces(value)
    if re.fullmatch(r"-?\d+(/\d+)?|-?oo", exact):
        return _with_decimal(exact)
    return f"`{exact}`, about {rounded.rstrip('0') if '.' in rounded else rounded}"


def _with_decimal(value: str, *, decimal_first: bool = False) -> str:
    """A printed fraction with its decimal form beside it."""
    if not (found := re.fullmatch(r"(-?\d+)/(\d+)", value)):
        return f"`{value}`"
    with localcontext() as context:
        context.prec = 15
        context.clear_flags()
        decimal = Decimal(found[1]) / Decimal(found[2])
        exact = not context.flags[Inexact]
    if exact:
        shown = format(decimal, "f")
        return f"`{shown}` (`{value}`)" if decimal_first else f"`{value}`, that is {shown}"
    return f"`{value}`, about {decimal:.10g}"


def _percentage(words: Words, value: str) -> str:
    return f"`{words['part']}` is {_exact_or_rounded(value, words)} percent of `{words['whole']}`."


def _common(name: str) -> Callable[[Words, str], str]:
    return lambda words, value: f"The {name} of {words['numbers']} is `{value}`."


def _prime(words: Words, value: str) -> str:
    if value == "True":
        return f"Yes, {words['number']} is a prime number."
    return f"No, {words['number']} is not a prime number."


def _prime_factors(words: Words, value: str) -> str:
    powers = []
    for item in pieces(value):
        prime, _, power = item.partition(": ")
        powers.append(prime if power == "1" else f"{prime}^{power}")
    return f"{words['number']} = `{' * '.join(powers)}`."


def _divisors(words: Words, value: str) -> str:
    return f"The divisors of {words['number']} are {', '.join(pieces(value))}."


def _statistic(name: str) -> Callable[[Words, str], str]:
    return lambda words, value: f"The {name} of {words['numbers']} is {_with_decimal(value)}."


def _mode(words: Words, value: str) -> str:
    return f"What occurs most often in {words['numbers']} is {_listed(pieces(value))}."


def _spread(name: str) -> Callable[[Words, str], str]:
    def template(words: Words, value: str) -> str:
        population, sample = pieces(value)
        return (
            f"The {name} of {words['numbers']} is {_with_decimal(population)} when they are the "
            f"whole population, and {_with_decimal(sample)} when they are a sample."
        )

    return template


def _matrix(words: Words, value: str) -> str:
    return f"The {words['verb']} of `{words['matrix']}` is {_with_decimal(value)}."


def _listed(items: list[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


_TEMPLATES: dict[str, Callable[[Words, str], str]] = {
    "equation": _equation,
    "real_equation": _real_equation,
    "system": _system,
    "inequality": _inequality,
    "rewrite": _rewrite,
    "substitution": _substitution,
    "derivative": _derivative,
    "antiderivative": _antiderivative,
    "integral": _integral,
    "limit": _limit,
    "summation": _summation,
    "value": _value,
    "percentage": _percentage,
    "gcd": _common("greatest common divisor"),
    "lcm": _common("least common multiple"),
    "prime": _prime,
    "prime_factors": _prime_factors,
    "divisors": _divisors,
    "mean": _statistic("mean"),
    "median": _statistic("median"),
    "range": _statistic("range"),
    "mode": _mode,
    "variance": _spread("variance"),
    "deviation": _spread("standard deviation"),
    "matrix": _matrix,
}
