"""Runs pieces of code in one namespace and says what each came to."""

from __future__ import annotations

import ast
import contextlib
import linecache
import os
import sys
import traceback
import types
from typing import Any

FIGURES = ".figures"


class Cells:
    """The state that lives between the cells of a session."""

    def __init__(self, *, keep: int) -> None:
        """`keep`: how many characters of a value's repr are kept."""
        self.keep = keep
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module

    def run(self, number: int, code: str) -> dict[str, Any]:
        """Run `code`; return outcome, value, the error's traceback, and if it was lack of memory."""
        reply: dict[str, Any] = {"outcome": "ok", "value": None, "error": "", "memory": False}
        try:
            reply["value"] = self._shown(self._execute(f"<cell {number}>", code))
        except BaseException as error:
            if not (isinstance(error, SystemExit) and error.code in (None, 0)):
                reply |= {"outcome": "error", "memory": isinstance(error, MemoryError)}
                reply["error"] = self._told(error)
        save_figures(number)
        return reply

    def _execute(self, name: str, code: str) -> object:
        """Execute the code; return the value of the last statement if it is an expression."""
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        tree = ast.parse(code, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        exec(compile(tree, name, "exec"), self.module.__dict__)  # noqa: S102 - the point of it
        if last is None:
            return None
        return eval(compile(last, name, "eval"), self.module.__dict__)  # noqa: S307

    def _shown(self, value: object) -> str | None:
        return None if value is None else repr(value)[: self.keep + 1]

    def _told(self, error: BaseException) -> str:
        """The traceback from the cell on, without our own frames. Ends with a line break."""
        own = error.__traceback__
        while own is not None and not own.tb_frame.f_code.co_filename.startswith("<cell "):
            own = own.tb_next
        try:
            return "".join(traceback.format_exception(type(error), error, own))[-self.keep :]
        except BaseException:  # the exception's own class is model-written too
            return f"{type(error).__name__}\n"
        finally:
            with contextlib.suppress(BaseException):
                traceback.clear_frames(error.__traceback__)


def save_figures(number: int) -> None:
    """Save and close all open matplotlib figures; complaints go to stderr as any output does."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    try:
        figures = pyplot.get_fignums()
        if figures:
            os.makedirs(FIGURES, exist_ok=True)  # noqa: PTH103
        for figure in figures:
            pyplot.figure(figure).savefig(f"{FIGURES}/{number:06d}-{figure:06d}.png")
        pyplot.close("all")
    except BaseException:
        traceback.print_exc(limit=-3)
