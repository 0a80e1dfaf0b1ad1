"""Pieces of sympy source, put together operator by operator.

The source is made from the tables below, digits and single letters; no part of the
question is ever copied into it, and nothing is evaluated but small exact fractions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction

LARGEST_DIGITS = 2_000  # Python refuses to print integers beyond 4,300 digits
LARGEST_POWER = 1_000
LARGEST_EXPANSION = 50  # (x + 1)**50 expands in milliseconds, (x + y + z)**500 does not
LARGEST_FACTORIAL = 700  # 1,689 digits

FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "asin": "asin", "acos": "acos",
    "atan": "atan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "exp": "exp", "ln": "log",
    "log": "log", "sqrt": "sqrt", "cbrt": "cbrt", "abs": "Abs", "factorial": "factorial",
    "floor": "floor", "ceil": "ceiling", "ceiling": "ceiling",
}  # fmt: skip
INVERSES = {"sin": "asin", "cos": "acos", "tan": "atan"}
CONSTANTS = {"pi": "pi", "e": "E", "oo": "oo"}
GREEK = {"alpha", "beta", "theta", "phi", "omega", "mu", "sigma", "rho", "tau"}
# The missing capitals are sympy's own names, or stand for something else in most texts.
SYMBOLS = frozenset("abcdfghijklmnopqrstuvwxyzABCDFGHJKLMPRTUVWXYZ") | GREEK
ANGLED = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
KNOWN_NAMES = frozenset(FUNCTIONS) | frozenset(CONSTANTS) | GREEK | {"mod"}
NAMED_FUNCTIONS = frozenset("fgh")


class Unreadable(Exception):
    """The notation has no single sure reading. The text says why, for people."""


class Level(IntEnum):
    """How tightly an expression's outermost operator binds in Python."""

    SUM = 1
    PRODUCT = 2
    SIGN = 3
    POWER = 4
    ATOM = 5


@dataclass(frozen=True, slots=True)
class Expression:
    """A piece of sympy source and what the planner must know of it.

    `value` is its exact value when it is a rational number, None otherwise. `is_sympy` is False
    while Python would see plain integers, whose `/` and `**` would make floats. `literal` means
    one number as written, `exponential` that a letter stands in an exponent.
    """

    code: str
    level: Level = Level.ATOM
    symbols: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    value: Fraction | None = None
    is_sympy: bool = True
    literal: bool = False
    decimal: bool = False
    percent: bool = False
    operators: int = 0
    exponential: bool = False
    notes: frozenset[str] = frozenset()

    @property
    def literal_division(self) -> bool:
        """One whole number over another, as in a date or a fraction."""
        return self.operators == 1 and self.code.startswith("Rational(")

    @property
    def is_symbol(self) -> bool:
        return self.code in self.symbols

    def at(self, level: Level) -> str:
        return self.code if self.level >= level else f"({self.code})"

    def as_sympy(self) -> Expression:
        """The same, safe as the left side of `/` and `**`."""
        if self.is_sympy:
            return self
        return _join(f"S({self.code})", Level.ATOM, self, imports={"S"}, value=self.value)


def _join(
    code: str,
    level: Level,
    *parts: Expression,
    imports: set[str] | frozenset[str] = frozenset(),
    value: Fraction | None = None,
    is_sympy: bool | None = None,
    notes: frozenset[str] = frozenset(),
) -> Expression:
    return Expression(
        code=code,
        level=level,
        symbols=frozenset().union(*(part.symbols for part in parts)),
        imports=frozenset(imports).union(*(part.imports for part in parts)),
        value=value,
        is_sympy=True if is_sympy is None else is_sympy,
        decimal=any(part.decimal for part in parts),
        percent=any(part.percent for part in parts),
        operators=1 + sum(part.operators for part in parts),
        exponential=any(part.exponential for part in parts),
        notes=notes.union(*(part.notes for part in parts)),
    )


def _bounded(value: Fraction | None) -> Fraction | None:
    if value is not None and max(_bits(value.numerator), _bits(value.denominator)) > (
        LARGEST_DIGITS * 3.33
    ):
        raise Unreadable(f"It asks for a number of more than {LARGEST_DIGITS:,} digits.")
    return value


def _bits(number: int) -> int:
    return abs(number).bit_length()


def number(text: str) -> Expression:
    if len(text) > LARGEST_DIGITS:
        raise Unreadable(f"A number has more than {LARGEST_DIGITS:,} digits.")
    if "." in text:
        return Expression(
            f"Rational('{text}')",
            imports=frozenset({"Rational"}),
            value=Fraction(text),
            literal=True,
            decimal=True,
        )
    if text != "0" and text.startswith("0"):
        raise Unreadable(f"'{text}' begins with a zero, as dates and codes do.")
    return Expression(text, value=Fraction(text), is_sympy=False, literal=True)


def symbol(name: str) -> Expression:
    return Expression(name, symbols=frozenset({name}))


def add(left: Expression, right: Expression, sign: str) -> Expression:
    if left.percent or right.percent:
        raise Unreadable("Adding a percentage to a number can mean two things; write 'of'.")
    value = None
    if left.value is not None and right.value is not None:
        value = left.value + right.value if sign == "+" else left.value - right.value
    right_level = Level.SUM if sign == "+" else Level.PRODUCT
    return _join(
        f"{left.at(Level.SUM)} {sign} {right.at(right_level)}",
        Level.SUM,
        left,
        right,
        value=_bounded(value),
        is_sympy=left.is_sympy or right.is_sympy,
    )


def multiply(left: Expression, right: Expression) -> Expression:
    value = None
    if left.value is not None and right.value is not None:
        value = left.value * right.value
    return _join(
        f"{left.at(Level.PRODUCT)}*{right.at(Level.SIGN)}",
        Level.PRODUCT,
        left,
        right,
        value=_bounded(value),
        is_sympy=left.is_sympy or right.is_sympy,
    )


def divide(left: Expression, right: Expression) -> Expression:
    if right.value == 0:
        raise Unreadable("It divides by zero, which has no value.")
    value = None
    if left.value is not None and right.value is not None:
        value = left.value / right.value
    value = _bounded(value)
    if left.code.isdigit() and right.code.isdigit():
        code = f"Rational({left.code}, {right.code})"
        return _join(code, Level.ATOM, left, right, imports={"Rational"}, value=value)
    if not right.is_sympy:
        left = left.as_sympy()
    return _join(
        f"{left.at(Level.PRODUCT)}/{right.at(Level.POWER)}",
        Level.PRODUCT,
        left,
        right,
        value=value,
    )


def remainder(left: Expression, right: Expression) -> Expression:
    if min(left.level, right.level) <= Level.PRODUCT:
        raise Unreadable("It is not clear how far 'mod' goes; add brackets.")
    if right.value is None or left.value is None:
        raise Unreadable("A remainder is only worked out for numbers.")
    if right.value == 0:
        raise Unreadable("It divides by zero, which has no value.")
    return _join(
        f"{left.at(Level.PRODUCT)} % {right.at(Level.SIGN)}",
        Level.PRODUCT,
        left,
        right,
        value=left.value % right.value,
        is_sympy=left.is_sympy or right.is_sympy,
    )


def negate(operand: Expression) -> Expression:
    return Expression(
        code=f"-{operand.at(Level.SIGN)}",
        level=Level.SIGN,
        symbols=operand.symbols,
        imports=operand.imports,
        value=None if operand.value is None else -operand.value,
        is_sympy=operand.is_sympy,
        literal=operand.literal,
        decimal=operand.decimal,
        percent=operand.percent,
        operators=operand.operators,
        exponential=operand.exponential,
        notes=operand.notes,
    )


def power(base: Expression, exponent: Expression) -> Expression:
    value = None
    exact = exponent.value
    if base.value == 0 and exact == 0:
        raise Unreadable("Zero to the power of zero has no agreed value.")
    if exact is not None:
        if abs(exact) > LARGEST_POWER or exact.denominator > LARGEST_POWER:
            raise Unreadable(f"It asks for a power beyond {LARGEST_POWER:,}.")
        if base.value is None and base.operators and abs(exact) > LARGEST_EXPANSION:
            raise Unreadable(f"It raises a sum or product to a power beyond {LARGEST_EXPANSION}.")
        if base.value is not None and exact.denominator == 1:
            value = _integer_power(base.value, exact.numerator)
    elif not exponent.symbols and "**" in exponent.code:
        raise Unreadable("A power whose exponent holds another power grows beyond all bounds.")
    elif _largest_literal(exponent.code) > LARGEST_POWER:
        raise Unreadable(f"It asks for a power beyond {LARGEST_POWER:,}.")
    if value is None or value.denominator != 1 or (exact is not None and exact < 0):
        base = base.as_sympy()
    raised = _join(
        f"{base.at(Level.ATOM)}**{exponent.at(Level.POWER)}",
        Level.POWER,
        base,
        exponent,
        value=_bounded(value),
        is_sympy=base.is_sympy or exponent.is_sympy,
    )
    return replace(raised, exponential=True) if exponent.symbols else raised


def _integer_power(base: Fraction, exponent: int) -> Fraction:
    if base == 0 and exponent < 0:
        raise Unreadable("It divides by zero, which has no value.")
    if max(_bits(base.numerator), _bits(base.denominator)) * abs(exponent) > LARGEST_DIGITS * 3.33:
        raise Unreadable(f"It asks for a number of more than {LARGEST_DIGITS:,} digits.")
    return base**exponent


def _largest_literal(code: str) -> int:
    digits = "".join(char if char.isdigit() else " " for char in code).split()
    return max((int(text) for text in digits), default=0)


def factorial(operand: Expression) -> Expression:
    if operand.value is None:
        if operand.symbols and operand.is_symbol:
            return apply("factorial", operand)
        raise Unreadable("A factorial is only worked out for a whole number.")
    if operand.value.denominator != 1 or operand.value < 0:
        raise Unreadable("A factorial is only worked out for a whole number that is not negative.")
    if operand.value > LARGEST_FACTORIAL:
        raise Unreadable(f"It asks for a factorial beyond {LARGEST_FACTORIAL}.")
    return apply("factorial", operand)


def percent(operand: Expression) -> Expression:
    if not operand.literal or operand.value is None:
        raise Unreadable("A percentage is only read after a number.")
    hundredth = divide(operand, number("100"))
    return replace(hundredth, percent=True, literal=False)


def apply(name: str, *arguments: Expression) -> Expression:
    """A call of a whitelisted sympy function."""
    inside = ", ".join(argument.code for argument in arguments)
    return _join(f"{name}({inside})", Level.ATOM, *arguments, imports={name})


def constant(name: str) -> Expression:
    code = CONSTANTS[name]
    return Expression(code, imports=frozenset({code}))


def degrees(operand: Expression) -> Expression:
    """An angle in degrees, as sympy wants it: in radians."""
    return divide(multiply(operand, constant("pi")), number("180"))


def logarithm(argument: Expression, base: Expression | None) -> Expression:
    """`log` with no base is the natural logarithm, as in sympy; the answer says so."""
    if base is not None:
        return apply("log", argument, base)
    note = "Here log is the natural logarithm."
    return replace(apply("log", argument), notes=argument.notes | {note})


def bracketed(operand: Expression) -> Expression:
    """The same in brackets: a percentage in them is a plain number."""
    more = 1 if operand.literal_division else 0  # (2/3)/4 is no date
    return replace(operand, percent=False, operators=operand.operators + more)
