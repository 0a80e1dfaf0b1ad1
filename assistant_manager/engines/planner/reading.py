"""Reads tokens of mathematical notation into an Expression.

Precedence is the usual one: sums, products, signs, powers. A product may be written without a
sign (`3x`, `2(x + 1)`), a function without brackets takes the product after it (`sin 2x`).
What two readers could read differently is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from assistant_manager.engines.planner import expressions as build
from assistant_manager.engines.planner.expressions import Expression, Unreadable
from assistant_manager.engines.planner.tokens import Token

DEEPEST = 80  # signs and operands inside one another, well within Python's recursion limit
CLOSING = {"(": ")", "[": "]", "{": "}"}


def read_expression(tokens: Sequence[Token]) -> Expression:
    """The one expression that all the tokens make. Raises Unreadable."""
    names = [token.text for token in tokens]
    if names.count("mod") == 1:
        at = names.index("mod")
        return build.remainder(read_expression(tokens[:at]), read_expression(tokens[at + 1 :]))
    reader = _Reader([piece for token in tokens for piece in _letters(token)])
    expression = reader.sum()
    if not reader.at_end:
        raise Unreadable(f"'{reader.here}' does not fit where it stands.")
    return expression


def _letters(token: Token) -> list[Token]:
    """`ax` as a product of letters, so that in `ax^2` only x is squared; known names stay whole."""
    name = token.text
    if token.kind != "name" or len(name) > 3 or name in build.KNOWN_NAMES:
        return [token]
    return [Token("name", letter, token.glued or at > 0) for at, letter in enumerate(name)]


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._bars = 0  # how many |...| are open

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._tokens)

    @property
    def here(self) -> str:
        return "" if self.at_end else self._tokens[self._at].text

    def sum(self) -> Expression:
        left = self._product()
        while self._sees("+", "-"):
            sign = self._take().text
            left = build.add(left, self._product(), sign)
        return left

    def _product(self) -> Expression:
        left = self._signed()
        while True:
            if self._sees("*"):
                self._take()
                left = build.multiply(left, self._signed())
            elif self._sees("/"):
                self._take()
                if left.literal_division:
                    raise Unreadable("Several '/' in a row may be a date; add brackets.")
                left = build.divide(left, self._divisor())
            elif self._starts_operand():
                left = self._implied_product(left)
            else:
                return left

    def _implied_product(self, left: Expression) -> Expression:
        if self._tokens[self._at].kind == "number":
            raise Unreadable("Two numbers stand side by side with no sign between them.")
        right = self._power()
        if left.literal and right.code.startswith("Rational("):
            raise Unreadable("A number before a fraction may be a mixed number; add a sign.")
        return build.multiply(left, right)

    def _divisor(self) -> Expression:
        """What stands after `/`. `1/2x` is refused: half of x to some, 1/(2x) to others."""
        first = self._at
        divisor = self._signed()
        bracketed = self._tokens[first].is_sign("(")
        if not bracketed and self._starts_operand() and self._is_glued():
            raise Unreadable("After '/' it is not clear how far the divisor goes; add brackets.")
        return divisor

    def _signed(self) -> Expression:
        with self._deeper():
            return self._signed_power()

    def _signed_power(self) -> Expression:
        if self._sees("-"):
            self._take()
            return build.negate(self._signed())
        if self._sees("+"):
            self._take()
            return self._signed()
        return self._power()

    def _power(self) -> Expression:
        base = self._postfix()
        if self._sees("^"):
            self._take()
            bracketed = self._sees("(", "{")
            exponent = self._signed()
            if not (base.symbols or bracketed) and self._starts_operand() and self._is_glued():
                raise Unreadable("It is not clear how far the exponent goes; add brackets.")
            return build.power(base, exponent)
        return base

    def _postfix(self) -> Expression:
        operand = self._operand()
        while True:
            if self._sees("!"):
                self._take()
                if self._sees("!"):
                    raise Unreadable("A double factorial and a repeated one look alike.")
                operand = build.factorial(operand)
            elif self._sees("%"):
                self._take()
                operand = build.percent(operand)
            elif self._sees("°"):
                self._take()
                operand = build.degrees(operand)
            else:
                return operand

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        """Bounds the recursion: every way down passes through a sign or an operand."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable("It is nested too deeply.")
        yield
        self._depth -= 1

    def _operand(self) -> Expression:
        with self._deeper():
            return self._read_operand()

    def _read_operand(self) -> Expression:
        if self.at_end:
            raise Unreadable("It ends where a number or a letter should follow.")
        token = self._take()
        if token.kind == "number":
            return build.number(token.text)
        if token.is_sign("(", "[", "{"):
            inner = self.sum()
            self._expect(CLOSING[token.text])
            return build.bracketed(inner)
        if token.is_sign("|"):
            self._bars += 1
            inner = self.sum()
            self._expect("|")
            self._bars -= 1
            return build.apply("Abs", inner)
        if token.kind == "name":
            return self._named(token)
        raise Unreadable(f"'{token.text}' does not fit where it stands.")

    def _named(self, token: Token) -> Expression:
        name = token.text
        if name in build.FUNCTIONS:
            return self._function(name)
        if name in build.CONSTANTS:
            return build.constant(name)
        if name in build.NAMED_FUNCTIONS and self._sees("(", "'"):
            raise Unreadable(f"The function {name} has not been given.")
        if name in build.SYMBOLS:
            return build.symbol(name)
        raise Unreadable(f"'{name}' is not a known function or letter.")

    def _function(self, name: str) -> Expression:
        base = None
        if name == "log" and self._sees("_"):
            self._take()
            base = self._operand()
        exponent = None
        if self._sees("^"):
            self._take()
            exponent = self._signed_operand()
            if exponent.code == "-1":
                if name not in build.INVERSES:
                    raise Unreadable(f"{name}^-1 can mean two things.")
                name, exponent = build.INVERSES[name], None
        argument = self._argument(name)
        if name == "factorial":
            result = build.factorial(argument)
        elif name == "log":
            result = build.logarithm(argument, base)
        else:
            result = build.apply(build.FUNCTIONS[name], argument)
            if name in build.ANGLED and not argument.symbols and "pi" not in argument.code:
                result = replace(result, notes=result.notes | {"Angles are in radians."})
        return result if exponent is None else build.power(result, exponent)

    def _signed_operand(self) -> Expression:
        if self._sees("-"):
            self._take()
            return build.negate(self._operand())
        return self._operand()

    def _argument(self, name: str) -> Expression:
        if self._sees("(", "[", "{", "|"):
            return self._operand()
        if self.at_end:
            raise Unreadable("A function has nothing to work on.")
        argument = self._signed()
        while self._starts_operand() and not self._sees_function():
            if name in ("sqrt", "cbrt"):
                raise Unreadable("It is not clear how far the root goes; add brackets.")
            argument = self._implied_product(argument)
        return argument

    def _starts_operand(self) -> bool:
        if self.at_end:
            return False
        token = self._tokens[self._at]
        if token.is_sign("|"):
            return self._bars == 0
        return token.kind in ("number", "name") or token.is_sign("(", "[", "{")

    def _sees_function(self) -> bool:
        return not self.at_end and self._tokens[self._at].text in build.FUNCTIONS

    def _sees(self, *signs: str) -> bool:
        return not self.at_end and self._tokens[self._at].is_sign(*signs)

    def _is_glued(self) -> bool:
        return not self.at_end and self._tokens[self._at].glued

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        if not self._sees(sign):
            raise Unreadable(f"A closing '{sign}' is missing.")
        self._take()
