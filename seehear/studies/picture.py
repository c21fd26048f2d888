"""The curves of a study as a picture, in SVG that follows its reader's light or dark scheme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from seehear.studies.base import Picture

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#b8860b", "#3aa7c4", "#aa3377", "#8a6d3b", "#6655bb", "#777777")
_STYLE = """
 .ground{fill:#fff} text{font:13px system-ui,sans-serif;fill:#1c1d21} .title{font-size:15px;font-weight:600}
 .soft{fill:#5f636d} .middle{text-anchor:middle} .end{text-anchor:end} .grid{stroke:#e4e2da}
 .curve{fill:none;stroke-width:2} .spread{stroke-width:1}
 @media (prefers-color-scheme: dark){
 .ground{fill:#16171b} text{fill:#ececee} .soft{fill:#a7abb5} .grid{stroke:#33363e}}
"""
_WIDTH, _LEFT, _RIGHT, _PLOT = 720, 56, 24, 280


def curves_svg(picture: Picture) -> str:
    """Means over seeds with bars of one sample deviation to either side, where there are several seeds."""
    places = sorted({x for curve in picture.curves for x, _ in curve.points})
    names = [curve.name for curve in picture.curves]
    columns = 3 if max(map(len, names)) < 28 else 2
    top = 62 + 20 * math.ceil(len(names) / columns)
    height = top + _PLOT + 52
    ends = [float(np.mean(v)) + s * _deviation(v) for c in picture.curves for _, v in c.points for s in (-1, 1)]
    low, high = min(0.0, *ends), max(1.0, *ends)
    scale: Callable[[float], float] = math.log if picture.logarithmic else float
    first, last = scale(places[0]), scale(places[-1])

    def x(value: float) -> float:
        share = (scale(value) - first) / (last - first) if last > first else 0.5
        return round(_LEFT + 12 + share * (_WIDTH - _LEFT - _RIGHT - 24), 1)

    def y(value: float) -> float:
        return round(top + (high - value) / (high - low) * _PLOT, 1)

    parts = [f'<text class="title" x="24" y="34">{escape(picture.title)}</text>']
    for value in np.linspace(0, 1, 6):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(value)}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="soft end" x="{_LEFT - 8}" y="{y(value) + 4}">{value:.1f}</text>')
    for place, said in zip(places, picture.ticks or [f"{p:g}" for p in places], strict=True):
        parts.append(f'<text class="soft middle" x="{x(place)}" y="{top + _PLOT + 20}">{escape(said)}</text>')
    parts.append(f'<text class="soft middle" x="{_WIDTH / 2}" y="{height - 10}">{escape(picture.x)}</text>')
    parts.append(f'<text class="soft" x="{_LEFT - 40}" y="{top - 10}">{escape(picture.y)}</text>')
    for i, curve in enumerate(picture.curves):
        colour, left, line = _COLOURS[i % len(_COLOURS)], 24 + (_WIDTH - 48) // columns * (i % columns), i // columns
        parts.append(f'<path d="M{left} {50 + 20 * line}h18" stroke="{colour}" class="curve"/>')
        parts.append(f'<text x="{left + 24}" y="{54 + 20 * line}">{escape(curve.name)}</text>')
        parts += _drawn(curve.name, [(x(p), p, v) for p, v in curve.points], y, colour)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(picture.title)}"><style>{_STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _deviation(values: tuple[float, ...]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _drawn(
    name: str, points: Sequence[tuple[float, float, tuple[float, ...]]], y: Callable[[float], float], colour: str
) -> list[str]:
    """A curve's line, points and bars; `points` are places in the picture, values of x, and one number a seed."""
    parts = []
    if len(points) > 1:
        path = "L".join(f"{at} {y(float(np.mean(values)))}" for at, _, values in points)
        parts.append(f'<path class="curve" stroke="{colour}" d="M{path}"/>')
    for at, value, values in points:
        mean, spread = float(np.mean(values)), _deviation(values)
        if spread:
            parts.append(f'<path class="spread" stroke="{colour}" d="M{at} {y(mean - spread)}V{y(mean + spread)}"/>')
        said = f"{name}, {value:g}: {mean:.3f}" + (f" ± {spread:.3f}" if spread else "")
        parts.append(f'<circle cx="{at}" cy="{y(mean)}" r="3" fill="{colour}"><title>{escape(said)}</title></circle>')
    return parts
