"""Numbers to pictures: every value gets its place here, and `figures.html` draws it.

Curves, bars and heat maps become SVG, the shades of heat maps and filters PNG data URIs, maps points. Colours are CSS
classes or alpha alone, so that every figure follows the page's light or dark scheme.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

MAX_POINTS = 240
"""Points of one curve: more cannot be told apart at the size of a chart."""
MAX_DOTS = 24
"""Points of a curve that are marked with a dot each."""
MAX_NAMED = 40
"""Rows or columns of a heat map that are named; there is no room for more."""
MAX_NAME = 22
"""Characters of such a name."""
ALIKE = 1e-6
"""Features that differ by less than this share of the largest differ by the rounding of float32 alone. t-SNE divides by
their spread, and its tree of places that aren't numbers ends the process."""


@dataclass(frozen=True)
class Series:
    """One curve: `tone` names a CSS class (see style.css), `dashed` marks what was held out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    tone: str = "tone-0"
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A small line chart."""

    title: str
    series: Sequence[Series]
    x_label: str = "step"
    note: str = ""
    from_zero: bool = False
    top: float | None = None
    whole_x: bool = False
    marks: Sequence[tuple[float, str]] = field(default=())
    """Vertical lines, such as where a round starts."""


def thin(x: Sequence[float], y: Sequence[float], points: int = MAX_POINTS) -> tuple[list[float], list[float]]:
    """Means of neighbouring values, so that a long curve has at most `points` of them."""
    if len(x) <= points:
        return list(x), list(y)
    parts = np.array_split(np.arange(len(x)), points)
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return [float(xs[p].mean()) for p in parts], [float(ys[p].mean()) for p in parts]


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that span [low, high]."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def short(value: float) -> str:
    """A number in at most about five characters."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if size >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.4g}" if size < 100 else f"{value:.0f}"


@dataclass(frozen=True)
class Curve:
    """A series on the canvas of a plot; `points` is the attribute of a polyline, `dots` are the few to mark."""

    name: str
    tone: str
    dashed: bool
    points: str
    dots: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """A chart whose every value has its place, in units of its view box; `figures.html` draws it."""

    title: str
    note: str
    x_label: str
    y_ticks: Sequence[tuple[float, str]]
    x_ticks: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]]
    curves: Sequence[Curve]
    summary: str
    """The chart in words, for those who do not see it."""
    data: str
    """JSON for page.js: what the pointer reads."""
    width: int = 400
    height: int = 220
    left: int = 44
    right: int = 10
    top: int = 10
    bottom: int = 36


def plot(chart: Chart) -> Plot | None:
    """Place a chart's values on its canvas; None when there is nothing to draw."""
    series = [s for s in chart.series if len(s.x)]
    if not series:
        return None
    xs = [float(v) for s in series for v in s.x]
    ys = [float(v) for s in series for v in s.y]
    y_ticks = ticks(0.0 if chart.from_zero else min(ys), max([*ys, chart.top or -math.inf]))
    x_low, x_high = min(xs), max(xs)
    if x_high <= x_low:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    x_ticks = [v for v in ticks(x_low, x_high, 5) if x_low <= v <= x_high]
    y_low, y_high = y_ticks[0], y_ticks[-1]
    inner_width = Plot.width - Plot.left - Plot.right
    inner_height = Plot.height - Plot.top - Plot.bottom

    def px(value: float) -> float:
        return round(Plot.left + (value - x_low) / (x_high - x_low) * inner_width, 1)

    def py(value: float) -> float:
        return round(Plot.height - Plot.bottom - (value - y_low) / (y_high - y_low) * inner_height, 1)

    places = [[(px(float(x)), py(float(y))) for x, y in zip(s.x, s.y, strict=True)] for s in series]
    return Plot(
        chart.title,
        chart.note,
        chart.x_label,
        [(py(v), short(v)) for v in y_ticks],
        [(px(v), short(v)) for v in x_ticks if not chart.whole_x or v == int(v)],
        [(px(v), name) for v, name in chart.marks if x_low < v < x_high],
        [_curve(s, points) for s, points in zip(series, places, strict=True)],
        "; ".join(f"{s.name}: {_ends(s.y)}" for s in series),
        _chart_data(chart.x_label, series, places),
    )


def _ends(values: Sequence[float]) -> str:
    return f"{short(values[0])} to {short(values[-1])}" if len(values) > 1 else short(values[0])


def _curve(series: Series, points: Sequence[tuple[float, float]]) -> Curve:
    dots = points if len(points) <= MAX_DOTS else ()
    return Curve(series.name, series.tone, series.dashed, " ".join(f"{x},{y}" for x, y in points), dots)


def _chart_data(x_label: str, series: Sequence[Series], places: Sequence[Sequence[tuple[float, float]]]) -> str:
    """For each point its place and the words for its two values."""
    curves = [
        {
            "name": s.name,
            "tone": s.tone,
            "points": [
                [*place, short(float(x)), short(float(y))] for place, x, y in zip(points, s.x, s.y, strict=True)
            ],
        }
        for s, points in zip(series, places, strict=True)
    ]
    return _compact({"x_label": x_label, "series": curves})


def plots(charts: Iterable[Chart]) -> list[Plot]:
    """Those of the charts that have something to draw."""
    return [found for found in map(plot, charts) if found is not None]


@dataclass(frozen=True)
class Part:
    """A part of a bar that is 1000 wide."""

    text: str
    x: float
    width: float


@dataclass(frozen=True)
class Bar:
    """Shares of a whole, side by side."""

    title: str
    parts: Sequence[Part]
    summary: str


def stacked_bar(title: str, parts: Sequence[tuple[str, float]]) -> Bar | None:
    """One bar of times in seconds, by name; None when there are none."""
    parts = [(name, value) for name, value in parts if value > 0]
    total = sum(value for _, value in parts)
    if total <= 0:
        return None
    drawn, x = [], 0.0
    for name, value in parts:
        width = 1000 * value / total
        drawn.append(Part(f"{name}: {duration(value)} ({value / total:.0%})", x, max(width - 2, 0.5)))
        x += width
    return Bar(title, drawn, ", ".join(f"{name} {value / total:.0%}" for name, value in parts))


def duration(seconds: float) -> str:
    """Seconds in words that a person would use."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"


def png_uri(pixels: np.ndarray) -> str:
    """A data URI of a uint8 picture: (H, W), (H, W, 3) or (H, W, 4)."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True)
class HeatMap:
    """A table of counts as shades, each value in its place; `figures.html` draws it."""

    title: str
    rows: int
    columns: int
    row_word: str
    column_word: str
    cell: int
    left: float
    top: float
    row_names: Sequence[tuple[float, str]]
    """For each row that is named: the place of the name and the name."""
    column_names: Sequence[tuple[float, str]]
    shades: str
    """A data URI of a picture with one pixel a cell."""
    data: str
    """JSON for page.js: what the pointer reads."""

    @property
    def width(self) -> float:
        """Of the whole drawing."""
        return self.left + self.columns * self.cell + 8

    @property
    def height(self) -> float:
        """Of the whole drawing."""
        return self.top + self.rows * self.cell + 8


def heat_map(
    title: str,
    counts: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    row_word: str,
    column_word: str,
    unit: str,
) -> HeatMap:
    """A table of counts (rows, columns) of a unit, such as clips, as shades: each row's add up to one darkness."""
    height, width = counts.shape
    cell = max(6, min(26, 640 // max(height, width)))
    shown_rows = _named(rows, cell) if height <= MAX_NAMED else []
    shown_columns = _named(columns, cell) if width <= MAX_NAMED else []
    left = 24 + (min(_longest(rows), MAX_NAME) * 6.8 if shown_rows else 0)
    top = 22 + (min(_longest(columns), MAX_NAME) * 6.4 if shown_columns else 0)
    data = {
        "left": round(left, 1),
        "top": round(top, 1),
        "cell": cell,
        "rows": [f"{row_word} {name}" for name in rows],
        "columns": [f"{column_word} {name}" for name in columns],
        "counts": counts.astype(int).tolist(),
        "unit": unit,
    }
    return HeatMap(
        title, height, width, row_word, column_word, cell, left, top,
        [(top + (i + 0.5) * cell + 3.5, name) for i, name in shown_rows],
        [(left + (j + 0.5) * cell + 3.5, name) for j, name in shown_columns],
        _shades(counts), _compact(data),
    )  # fmt: skip


def _named(names: Sequence[str], cell: int) -> list[tuple[int, str]]:
    """The names that have room beside cells of this size, cut to what can be read, with their numbers."""
    step = max(1, math.ceil(13 / cell))
    return [(i, _clip(name)) for i, name in enumerate(names) if i % step == 0]


def _longest(names: Sequence[str]) -> int:
    return max((len(name) for name in names), default=0)


def _shades(counts: np.ndarray) -> str:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Alpha alone carries the value, so that the page's ground shows through in either scheme.
    mask = np.zeros((*counts.shape, 4), dtype=np.uint8)
    mask[..., :3] = (47, 93, 196)
    mask[..., 3] = np.round(255 * np.sqrt(share)).astype(np.uint8)
    return png_uri(mask)


def _clip(name: str, length: int = MAX_NAME) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def match_columns(counts: np.ndarray) -> np.ndarray:
    """An order of the columns that brings the big cells onto the diagonal, so that agreement can be seen."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-counts)
    place = np.full(counts.shape[1], np.inf)
    place[columns] = rows
    free = np.isinf(place)
    place[free] = counts[:, free].argmax(axis=0) + 0.5  # a column without a partner goes beside its best row
    return np.argsort(place, kind="stable")


def contingency(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values of first, values of second, counts)."""
    a, first_codes = np.unique(first, return_inverse=True)
    b, second_codes = np.unique(second, return_inverse=True)
    counts = np.zeros((len(a), len(b)), dtype=np.int64)
    np.add.at(counts, (first_codes, second_codes), 1)
    return a, b, counts


def filter_tiles(tiles: np.ndarray, columns: int, gap: int = 1) -> str:
    """A PNG of (N, H, W) or (N, H, W, 3) tiles, each stretched to its own full range as figure 3 of XDC does."""
    count, height, width = tiles.shape[:3]
    flat = tiles.reshape(count, -1).astype(np.float64)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    scaled = (255 * (flat - low) / np.maximum(high - low, 1e-12)).round().astype(np.uint8).reshape(tiles.shape)
    if scaled.ndim == 3:
        scaled = np.repeat(scaled[..., None], 3, axis=3)
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8)
    for index in range(count):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        sheet[y : y + height, x : x + width, :3] = scaled[index]
        sheet[y : y + height, x : x + width, 3] = 255
    return png_uri(sheet)


@dataclass(frozen=True)
class Tiles:
    """A sheet of pictures of equal size."""

    title: str
    note: str
    count: int
    width: int
    picture: str
    """A data URI."""


def filter_sheet(title: str, note: str, tiles: np.ndarray, columns: int, scale: int) -> Tiles:
    """Filters (N, H, W) or (N, H, W, 3) side by side, each pixel drawn `scale` wide."""
    columns = min(columns, len(tiles))
    width = (columns * (tiles.shape[2] + 1) - 1) * scale
    return Tiles(title, note, len(tiles), width, filter_tiles(tiles, columns))


def flat_map(features: np.ndarray, limit: int = 5000, seed: int = 0) -> tuple[np.ndarray, str]:
    """Points (N, 2) in 0..1000 and the name of the method: t-SNE up to `limit` rows, PCA beyond.

    Features that differ by no more than rounding all lie in the middle; values that aren't finite count as 0.
    """
    from threadpoolctl import threadpool_limits

    x = np.nan_to_num(features.astype(np.float32), posinf=0.0, neginf=0.0)
    size = float(np.abs(x).max(initial=0.0))
    if size and not 1e-6 < size < 1e6:
        x, size = x / np.float32(size), 1.0  # or their squares could vanish or overflow
    x = x - x.mean(axis=0, keepdims=True)
    if float(np.abs(x).max(initial=0.0)) <= ALIKE * size:
        return np.full((len(x), 2), 500), "PCA"
    # One thread: sums in parallel have no fixed order, and the same run should give the same page.
    with threadpool_limits(limits=1):
        reduced, name = _reduced(x, limit, seed)
    flat = np.zeros((len(x), 2))
    flat[:, : min(2, reduced.shape[1])] = reduced[:, :2]
    # The middle 99.8 % fill the square: one far point must not squeeze all others together.
    low, high = np.percentile(flat, 0.1, axis=0), np.percentile(flat, 99.9, axis=0)
    span = max(float((high - low).max()), 1e-9)
    placed = 500 + (flat - (low + high) / 2) / span * 940
    return np.clip(placed.round(), 0, 1000).astype(int), name


def _reduced(x: np.ndarray, limit: int, seed: int) -> tuple[np.ndarray, str]:
    """Centred rows that are not all alike in fewer dimensions, the first two of which are drawn, and how."""
    from sklearn.decomposition import PCA

    parts = min(50, *x.shape)
    pca = PCA(n_components=parts, svd_solver="full" if min(x.shape) < 400 else "randomized", random_state=seed)
    reduced = pca.fit_transform(x)
    if not 12 <= len(x) <= limit or parts < 2:
        return reduced, "PCA"
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(reduced), "t-SNE"
