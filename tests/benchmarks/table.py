"""Figures as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        filled = [*row, *[""] * (len(columns) - len(row))]
        print("| " + " | ".join(filled) + " |", flush=True)
    print()


def reached(holds: bool, goal: str) -> str:
    """`goal` with the verdict."""
    return f"{goal}: {'reached' if holds else '**not reached**'}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of `values` lie; not a number where there is none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
