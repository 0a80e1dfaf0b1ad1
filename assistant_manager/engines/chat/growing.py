"""A text that grows piece by piece, at a cost that grows with its length only."""

from __future__ import annotations


class Growing:
    """Some servers cut characters beyond U+FFFF in two halves, which no UTF-8 can hold: they are
    put together again, and a half without its other becomes U+FFFD."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._half = ""

    @property
    def text(self) -> str:
        """What there is, but for half a character at its end."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def add(self, piece: str) -> None:
        piece = self._half + piece
        self._half = piece[-1:] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        if whole := piece.removesuffix(self._half):
            self._pieces.append(_mended(whole))

    def end(self) -> None:
        """Nothing more will come."""
        if self._half:
            self._pieces.append("\N{REPLACEMENT CHARACTER}")
            self._half = ""


def _mended(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
