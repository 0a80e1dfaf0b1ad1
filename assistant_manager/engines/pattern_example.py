"""A short string that a regular expression matches, for the expressions schemas commonly hold."""

from __future__ import annotations

import string
from dataclasses import dataclass

LONGEST_PATTERN = 500
MOST_REPEATS = 200
MOST_OPEN_REPEATS = 3
_CLASSES = {"d": string.digits[1:] + "0", "w": string.ascii_letters + string.digits + "_", "s": " "}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}
_ANY = string.ascii_letters + string.digits + " -_.,:;!/@#"


class NoMatch(Exception):
    """The expression is beyond this generator, or slow to match. The text says which part."""


@dataclass(slots=True)
class _Piece:
    text: str
    repeats: bool = False
    """Holds a repeat or a choice; repeating it again could make matching exponential."""


def matching(pattern: str) -> str:
    """Raises NoMatch for look-arounds, back references and repeats inside repeats."""
    if len(pattern) > LONGEST_PATTERN:
        raise NoMatch(f"the pattern is longer than {LONGEST_PATTERN} characters")
    reader = _Pattern(pattern)
    piece = reader.choice()
    if not reader.at_end:
        raise NoMatch("its brackets do not close")
    return piece.text


class _Pattern:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._open_repeats = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._pattern)

    def choice(self) -> _Piece:
        """The first branch; the others are read too, so that what they hold is checked."""
        first = self._sequence()
        while self._skip("|"):
            self._sequence()
            first.repeats = True
        return first

    def _sequence(self) -> _Piece:
        whole = _Piece("")
        while not self.at_end and self._pattern[self._at] not in "|)":
            piece = self._repeated(self._atom())
            whole.text += piece.text
            whole.repeats = whole.repeats or piece.repeats
        return whole

    def _repeated(self, piece: _Piece) -> _Piece:
        least, most = self._quantifier()
        if (least, most) == (1, 1):
            return piece
        if piece.repeats and most != 1:
            raise NoMatch("it repeats a part that itself repeats")
        if most is None:
            self._open_repeats += 1
            if self._open_repeats > MOST_OPEN_REPEATS:
                raise NoMatch(f"it holds more than {MOST_OPEN_REPEATS} unlimited repeats")
        if least > MOST_REPEATS:
            raise NoMatch(f"it repeats a part more than {MOST_REPEATS} times")
        # One more than nothing where that is allowed: an empty text shows little.
        times = least or (1 if most != 0 else 0)
        return _Piece(piece.text * times, repeats=True)

    def _quantifier(self) -> tuple[int, int | None]:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._skip(sign):
                self._skip("?")
                return bounds
        if not self._skip("{"):
            return 1, 1
        end = self._pattern.find("}", self._at)
        low, comma, high = self._pattern[self._at : end].partition(",")
        if end < 0 or not low.isdigit() or (high and not high.isdigit()):
            raise NoMatch("it has a repeat that cannot be read")
        self._at = end + 1
        self._skip("?")
        return int(low), int(high) if high else None if comma else int(low)

    def _atom(self) -> _Piece:
        char = self._take()
        if char in "^$":
            return _Piece("")
        if char == "(":
            if self._skip("?") and not self._skip(":"):
                raise NoMatch("it holds a look-around or a named group")
            inner = self.choice()
            if not self._skip(")"):
                raise NoMatch("its brackets do not close")
            return inner
        if char == "[":
            return _Piece(self._set())
        if char == "\\":
            return _Piece(self._escaped()[0])
        if char in "*+?{":
            raise NoMatch("it repeats nothing")
        return _Piece("a" if char == "." else char)

    def _escaped(self) -> str:
        """The characters that the escape stands for."""
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isalnum():
            raise NoMatch(f"it holds \\{char}")
        return char

    def _set(self) -> str:
        negated = self._skip("^")
        members = ""
        while not self._skip("]"):
            start = self._take()
            chars = self._escaped() if start == "\\" else start
            if len(chars) == 1 and self._ahead(0) == "-" and self._ahead(1) not in ("]", ""):
                self._take()
                last = self._take()
                last = self._escaped() if last == "\\" else last
                chars = "".join(chr(code) for code in range(ord(chars), ord(last[0]) + 1))
            members += chars
        choices = [char for char in _ANY if char not in members] if negated else list(members)
        if not choices:
            raise NoMatch("it holds an empty set of characters")
        return choices[0]

    def _ahead(self, distance: int) -> str:
        at = self._at + distance
        return self._pattern[at] if at < len(self._pattern) else ""

    def _skip(self, sign: str) -> bool:
        if self._ahead(0) != sign:
            return False
        self._at += 1
        return True

    def _take(self) -> str:
        if self.at_end:
            raise NoMatch("it ends too early")
        self._at += 1
        return self._pattern[self._at - 1]
