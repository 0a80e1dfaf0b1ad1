"""Plans, and the short programs in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from assistant_manager.engines.planner.expressions import Expression, Level, Unreadable
from assistant_manager.engines.planner.question import Slot

LARGEST_SOURCE = 20_000


@dataclass(frozen=True, slots=True)
class Plan:
    """A program for the sandbox and what its answer needs.

    `intent` names the answer's template; `words` are the pieces it quotes. Both are plain
    strings, so that a plan can wait in a row.
    """

    intent: str
    source: str
    words: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plain = {name: shown(text) for name, text in self.words.items()}
        object.__setattr__(self, "words", plain)


Maker = Callable[[re.Match[str], Mapping[str, Slot]], Plan]
Intent = tuple[re.Pattern[str], Maker]


def sentence(pattern: str) -> re.Pattern[str]:
    """A pattern of canonical words in which {e}, {q}, {v} ... stand for slots of that kind.

    {any} is whatever has a value, {f} whatever can be worked on: an expression, a symbol, a
    number or a definition. {list} is two numbers or more.
    """
    kinds = {kind: f"<{kind}\\d+>" for kind in "vnpeqkmldc"}
    kinds["any"] = r"<[vnep]\d+>"
    kinds["num"] = r"<[ne]\d+>"
    kinds["f"] = r"<[vnedq]\d+>"
    kinds["list"] = r"<[ne]\d+>(?:(?: ,| ,? ?and) <[ne]\d+>)+|<l\d+>"
    kinds["qs"] = r"<q\d+>(?:(?: ,| ,? ?and)? <q\d+>)*"
    kinds["vs"] = r"<v\d+>(?:(?: ,| ,? ?and)? <v\d+>)*"
    for kind, expression in kinds.items():
        pattern = pattern.replace("{" + kind + "}", f"(?:{expression})")
    return re.compile(pattern)


def tags(text: str | None) -> list[str]:
    return re.findall(r"<\w\d+>", text or "")


def body_of(slot: Slot) -> Expression:
    """What `f(x) = ...` or `y = ...` defines, or the expression itself."""
    if slot.kind == "q":
        name, body = slot.parts
        if not name.is_symbol or name.symbols & body.symbols:
            raise Unreadable("It gives an equation where an expression was expected.")
        return body
    return slot.expression


def the_variable(expressions: Iterable[Expression], slot: Slot | None = None) -> str:
    """The variable named in `slot`, or the only one there is. Raises Unreadable."""
    if slot is not None:
        return slot.expression.code
    found = symbols_of(expressions)
    if len(found) != 1:
        raise Unreadable(
            "It does not say which letter is the variable."
            if found
            else "It holds no letter to work on."
        )
    return found[0]


def symbols_of(expressions: Iterable[Expression]) -> list[str]:
    return sorted(frozenset().union(*(expression.symbols for expression in expressions)))


def as_numbers(found: Sequence[str], slots: Mapping[str, Slot]) -> list[Expression]:
    parts = [part for tag in found for part in slots[tag].parts]
    if any(part.symbols for part in parts):
        raise Unreadable("It holds letters where numbers were expected.")
    if len(parts) < 2 or len(parts) > 200:
        raise Unreadable("It needs between 2 and 200 numbers.")
    if any(part.operators > 2 or part.level is Level.SUM or "*" in part.code for part in parts):
        # "the sum of 3 and 4 times 5" may end with 4 or with 20.
        raise Unreadable("It is not clear where its last number ends; add brackets.")
    return parts


def program(
    lines: Sequence[str],
    expressions: Sequence[Expression],
    imports: Iterable[str] = (),
    *,
    variables: Iterable[str] = (),
    real: bool = False,
) -> str:
    """The lines with the imports and symbols they need. `real` keeps the symbols real numbers."""
    names = sorted({*symbols_of(expressions), *variables})
    imported = set(imports).union(*(expression.imports for expression in expressions))
    if names:
        imported.add("symbols")
    head = [f"from sympy import {', '.join(sorted(imported))}", ""] if imported else []
    if names:
        assumption = ", real=True" if real or "Abs" in imported else ""
        head.append(f"{', '.join(names)} = symbols('{' '.join(names)}'{assumption})")
    source = "\n".join([*head, *lines]) + "\n"
    if len(source) > LARGEST_SOURCE:
        raise Unreadable("It is too long to be worked out.")
    return source


def shown(source: str) -> str:
    """A piece of source as people write it: `Rational(1, 2)` is 1/2."""
    source = re.sub(r"(?<![*/])Rational\((\d+), (\d+)\)(?![*/]{2}|/)", r"\1/\2", source)
    source = re.sub(r"Rational\((\d+), (\d+)\)", r"(\1/\2)", source)
    source = re.sub(r"Rational\('([\d.]+)'\)", r"\1", source)
    return re.sub(r"\bS\(", "(", source)


def quoted(*expressions: Expression) -> str:
    return ", ".join(expression.code for expression in expressions)


def notes_of(*expressions: Expression) -> str:
    return " ".join(sorted(frozenset().union(*(expression.notes for expression in expressions))))
