"""Cuts normalised text into numbers, names and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"(?P<number>\d+\.\d+|\.\d+(?!\w)|\d+)|(?P<name>[A-Za-z]+)|(?P<sign><=|>=|!=|->|\S)|(?P<space>\s+)"
)
Kind = Literal["number", "name", "sign"]
RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!="})


@dataclass(frozen=True, slots=True)
class Token:
    """`glued` says that no space stands before it."""

    kind: Kind
    text: str
    glued: bool

    def is_sign(self, *texts: str) -> bool:
        return self.kind == "sign" and self.text in texts


def tokenise(text: str) -> list[Token]:
    tokens: list[Token] = []
    glued = False
    for match in _TOKEN.finditer(text):
        if match["space"]:
            glued = False
            continue
        kind: Kind = "number" if match["number"] else "name" if match["name"] else "sign"
        tokens.append(Token(kind, match.group(), glued))
        glued = True
    return tokens
