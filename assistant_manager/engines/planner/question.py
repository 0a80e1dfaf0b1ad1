"""Separates the mathematics of a question from its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from assistant_manager.engines.planner.expressions import (
    CONSTANTS,
    FUNCTIONS,
    GREEK,
    NAMED_FUNCTIONS,
    SYMBOLS,
    Expression,
    Unreadable,
)
from assistant_manager.engines.planner.notation import normalise
from assistant_manager.engines.planner.reading import read_expression
from assistant_manager.engines.planner.tokens import RELATIONS, Token, tokenise
from assistant_manager.engines.planner.vocabulary import canonical

# The letter of each kind stands in the sentence where the mathematics stood: "ask <e0>".
Kind = Literal[
    "v",  # a symbol alone
    "n",  # a number
    "p",  # a percentage
    "e",  # any other expression
    "q",  # an equation
    "k",  # an inequality, or a chain of two
    "m",  # a matrix
    "l",  # a list in brackets
    "d",  # a definition, f(x) = ...
    "c",  # a call of a defined function, f(3)
]
_ALWAYS_MATH = frozenset(FUNCTIONS) | (frozenset(CONSTANTS) - {"e"}) | GREEK | {"mod"}
_INSIDE = frozenset("+-*/^!()[]{}|%°_") | RELATIONS
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_CANNOT_END = frozenset("+-*/^([{_,") | RELATIONS
_CANNOT_START = frozenset("*/^!)]}%°_,") | RELATIONS
_ARTICLES = frozenset({"a", "A", "i", "I"})
_SHORT_WORD_LIST = """
    am an and are as at ask be but by can did do dx dy for get had has he her him his how if in
    is it its let may me my no nor not now of off on or our out own say see set she so the to
    too two up us use was way we who why yes you all any day few one per put sum try via
"""
_SHORT_WORDS = frozenset(_SHORT_WORD_LIST.split())


@dataclass(frozen=True, slots=True)
class Slot:
    """One piece of mathematics. `parts` are its sides, items or rows, as the kind has them."""

    kind: Kind
    parts: tuple[Expression, ...] = ()
    relations: tuple[str, ...] = ()
    rows: tuple[tuple[Expression, ...], ...] = ()
    function: str = ""

    @property
    def expression(self) -> Expression:
        return self.parts[0]


@dataclass(frozen=True, slots=True)
class Question:
    """`sentence` is the canonical wording with a tag such as `<q0>` for each slot."""

    sentence: str
    slots: dict[str, Slot] = field(default_factory=dict)


def read_question(text: str) -> Question:
    """Raises Unreadable when a piece of notation has no sure reading."""
    tokens = tokenise(normalise(text))
    words: list[str] = []
    slots: dict[str, Slot] = {}
    at = 0
    while at < len(tokens):
        end = _end_of_notation(tokens, at)
        notation, trailing = _trimmed(tokens[at:end])
        if not notation:
            end = max(end, at + 1)
            for token in tokens[at:end]:
                words.append(_word(token, words))
            at = end
            continue
        if trailing == 1 and tokens[end - 1].text == "=" and "=" not in _texts(notation):
            words.append("ask")  # "3 * 4 =" asks by its sign
            trailing = 0
        slot = _slot(notation, last=end >= len(tokens) - 1)
        tag = f"<{slot.kind}{len(slots)}>"
        slots[tag] = slot
        words.append(tag)
        at = end - trailing
    return Question(canonical(" ".join(words)), slots)


def _word(token: Token, before: Sequence[str]) -> str:
    """`Hi!` ends a sentence, while in `4 !` the sign may be a factorial and stays."""
    if token.text == "!" and before and before[-1].isalpha():
        return "."
    return token.text.lower()


def _texts(tokens: Sequence[Token]) -> list[str]:
    return [token.text for token in tokens]


def _end_of_notation(tokens: Sequence[Token], start: int) -> int:
    if (
        tokens[start].text == "latexmatrix"
        and start + 1 < len(tokens)
        and tokens[start + 1].text == "["
    ):
        for at in range(start + 1, len(tokens)):
            if tokens[at].text == "]":
                return at + 1
    if tokens[start].text in _CANNOT_START:
        return start
    depth = 0
    at = start
    while at < len(tokens) and _is_notation(tokens, at, inside=depth > 0, first=at == start):
        if tokens[at].text in _OPENING:
            depth += 1
        elif tokens[at].text in _CLOSING:
            depth -= 1
            if depth < 0:
                break
        at += 1
    return at


def _is_notation(tokens: Sequence[Token], at: int, *, inside: bool, first: bool) -> bool:
    token = tokens[at]
    if token.kind == "number":
        return True
    if token.kind == "sign":
        if token.text == "!":
            return token.glued and not first
        return token.text in _INSIDE or (token.text == "," and inside)
    if token.text in _ALWAYS_MATH:
        return True
    before = tokens[at - 1] if at else None
    after = tokens[at + 1] if at + 1 < len(tokens) else None
    if len(token.text) == 1:
        if token.text not in SYMBOLS and token.text != "e":
            return False
        return token.text not in _ARTICLES or _is_letter(token, before, after)
    return (
        len(token.text) <= 3
        and token.text not in _SHORT_WORDS
        and all(letter in SYMBOLS for letter in token.text)
        and (
            (token.glued and before is not None and before.kind == "number")
            or (after is not None and after.is_sign("^", "+", "-", "*", "/", "="))
            or (before is not None and before.is_sign("^", "+", "-", "*", "/", "="))
        )
    )


def _is_letter(token: Token, before: Token | None, after: Token | None) -> bool:
    """Whether `a` or `i` is a symbol here rather than the word."""
    joins = ("+", "-", "*", "/", "^", "=", "(", ")", "<", ">", "<=", ">=", "[", "|")
    if before is not None and (before.is_sign(*joins) or (token.glued and before.kind == "number")):
        return True
    if after is not None and after.is_sign(*joins):
        return True
    if token.text in "iI":
        return False
    after_is_word = after is not None and after.kind == "name" and after.text not in {"and", "if"}
    asked_for = before is not None and before.text in {"for", "wrt", "to", "and", "find"}
    return asked_for and not after_is_word and not (after is not None and after.kind == "number")


def _trimmed(tokens: Sequence[Token]) -> tuple[Sequence[Token], int]:
    """The tokens that can be notation, and how many at the end cannot."""
    end = len(tokens)
    while end and tokens[end - 1].text in _CANNOT_END:
        end -= 1
    kept = tokens[:end]
    if not any(token.kind != "sign" for token in kept):
        return (), 0
    return kept, len(tokens) - end


def _slot(tokens: Sequence[Token], *, last: bool) -> Slot:
    if tokens[0].text == "latexmatrix":
        return _latex_matrix(tokens[2:-1])
    if last and tokens[-1].text == "!" and len(tokens) > 2 and _texts(tokens).count("!") == 1:
        raise Unreadable("The '!' at the end may be a factorial or just emphasis.")
    sides, relations = _sides(tokens)
    if not relations:
        return _unrelated(tokens)
    if defined := _definition(sides, relations):
        return defined
    parts = tuple(read_expression(side) for side in sides)
    if relations == ["="]:
        return Slot("q", parts, ("=",))
    rising, falling = {"<", "<="}, {">", ">="}
    if len(relations) <= 2 and (set(relations) <= rising or set(relations) <= falling):
        return Slot("k", parts, tuple(relations))
    raise Unreadable("It holds a chain of relations that has no single meaning.")


def _sides(tokens: Sequence[Token]) -> tuple[list[list[Token]], list[str]]:
    sides: list[list[Token]] = [[]]
    relations: list[str] = []
    for token in tokens:
        if token.kind == "sign" and token.text in RELATIONS:
            relations.append(token.text)
            sides.append([])
        else:
            sides[-1].append(token)
    return sides, relations


def _unrelated(tokens: Sequence[Token]) -> Slot:
    if tokens[0].text in NAMED_FUNCTIONS and len(tokens) > 3 and tokens[1].is_sign("("):
        argument = read_expression(tokens[2:-1])
        if tokens[-1].is_sign(")"):
            return Slot("c", (argument,), function=tokens[0].text)
    if tokens[0].is_sign("[", "(", "{") and "," in _texts(tokens):
        return _bracketed(tokens)
    expression = read_expression(tokens)
    if expression.is_symbol:
        return Slot("v", (expression,))
    if expression.percent and expression.operators == 1:
        return Slot("p", (expression,))
    return Slot("n" if expression.literal else "e", (expression,))


def _definition(sides: list[list[Token]], relations: list[str]) -> Slot | None:
    """`f(x) = ...`, or None for an ordinary equation."""
    left = _texts(sides[0])
    if relations != ["="] or len(left) != 4 or left[0] not in NAMED_FUNCTIONS:
        return None
    if left[1] != "(" or left[3] != ")" or left[2] not in SYMBOLS:
        return None
    body = read_expression(sides[1])
    if body.symbols - {left[2]}:
        raise Unreadable(f"The function {left[0]} holds a letter that is not its variable.")
    return Slot("d", (body, read_expression(sides[0][2:3])), function=left[0])


def _split(tokens: Sequence[Token], *signs: str) -> list[list[Token]]:
    """The tokens between the given signs, those inside brackets left whole."""
    pieces: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth == 0 and token.is_sign(*signs):
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces


def _bracketed(tokens: Sequence[Token]) -> Slot:
    if tokens[-1].text not in _CLOSING:
        raise Unreadable("A list does not end where its bracket closes.")
    pieces = _split(tokens[1:-1], ",")
    if all(piece and piece[0].is_sign("[", "(") and "," in _texts(piece) for piece in pieces):
        return _matrix([_split(piece[1:-1], ",") for piece in pieces])
    return Slot("l", tuple(read_expression(piece) for piece in pieces))


def _latex_matrix(tokens: Sequence[Token]) -> Slot:
    rows: list[list[list[Token]]] = [[[]]]
    at = 0
    while at < len(tokens):
        if tokens[at].text == "\\" and at + 1 < len(tokens) and tokens[at + 1].text == "\\":
            rows.append([[]])
            at += 1
        elif tokens[at].text == "&":
            rows[-1].append([])
        else:
            rows[-1][-1].append(tokens[at])
        at += 1
    return _matrix([row for row in rows if row != [[]]])


def _matrix(rows: list[list[list[Token]]]) -> Slot:
    if len({len(row) for row in rows}) != 1:
        raise Unreadable("The rows of the matrix are not equally long.")
    if len(rows) > 10 or len(rows[0]) > 10:
        raise Unreadable("Matrices are read up to 10 by 10.")
    return Slot("m", rows=tuple(tuple(read_expression(cell) for cell in row) for row in rows))
