"""Lines over time as SVG, one panel a series, readable on light and on dark ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, PANEL, GAP = 720, 120, 44
LEFT, RIGHT, TOP = 70, 16, 30
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.rule { stroke: #d0d7de; stroke-width: 1 }
.line { stroke: #0969da; stroke-width: 2; fill: none; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .rule { stroke: #3d444d } .line { stroke: #4493f8 }
}
"""


@dataclass(frozen=True)
class Series:
    title: str
    values: Sequence[float]


def write_graph(file: Path, unit: str, times: Sequence[float], series: Sequence[Series]) -> None:
    """All panels share the time axis, which is in `unit`; each has its own height, from zero."""
    height = TOP + len(series) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(', '.join(one.title for one in series))}</title>",
        f"<style>{STYLE}</style>",
    ]
    end = max(times, default=1.0)
    for place, one in enumerate(series):
        top = TOP + place * (PANEL + GAP)
        parts += _panel(one, top, times, end)
    bottom = height - GAP + 32
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{bottom}" text-anchor="end">{escape(unit)}</text>')
    file.write_text("\n".join([*parts, "</svg>", ""]))


def _panel(series: Series, top: int, times: Sequence[float], end: float) -> list[str]:
    highest = _round_up(max(series.values, default=1.0))
    parts = [f'<text class="title" x="{LEFT}" y="{top - 8}">{escape(series.title)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = top + PANEL * (1 - share)
        parts.append(f'<path class="rule" d="M{LEFT} {y:g}H{WIDTH - RIGHT}"/>')
        label = f"{highest * share:,.6g}" if highest < 1000 else f"{highest * share:,.0f}"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:g}" text-anchor="end">{label}</text>')
    step = max(1e-9, _round_up(end / 5, nice=(1, 2, 5, 10)))
    for number in range(int(end / step) + 1):
        x = _x(number * step, end)
        parts.append(
            f'<text x="{x:.1f}" y="{top + PANEL + 16}" text-anchor="middle">{number * step:g}</text>'
        )
    points = " ".join(
        f"{_x(when, end):.1f},{top + PANEL * (1 - value / highest):.1f}"
        for when, value in zip(times, series.values, strict=True)
    )
    return [*parts, f'<polyline class="line" points="{points}"/>']


def _x(when: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * when / end


def _round_up(value: float, nice: Sequence[float] = (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10)) -> float:
    """The next round number."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in nice if step * size >= value * (1 - 1e-9))
