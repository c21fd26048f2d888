"""Numbers to pictures: curves and bars as SVG, heat maps and filters as PNG data URIs, maps as points.

Colours are CSS classes or alpha alone, so that every figure follows the page's light or dark scheme.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from PIL import Image

MAX_POINTS = 240
"""Points of one curve: more cannot be told apart at the size of a chart."""


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


def line_chart(chart: Chart) -> str:
    """A figure with an SVG of the chart; empty when there is nothing to draw."""
    series = [s for s in chart.series if len(s.x)]
    if not series:
        return ""
    width, height, left, right, top, bottom = 400, 220, 44, 10, 10, 36
    xs = [float(v) for s in series for v in s.x]
    ys = [float(v) for s in series for v in s.y]
    y_ticks = ticks(0.0 if chart.from_zero else min(ys), max([*ys, chart.top or -math.inf]))
    x_low, x_high = min(xs), max(xs)
    if x_high <= x_low:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def px(value: float) -> float:
        return round(left + (value - x_low) / (x_high - x_low) * (width - left - right), 1)

    def py(value: float) -> float:
        return round(height - bottom - (value - y_low) / (y_high - y_low) * (height - top - bottom), 1)

    parts = []
    for value in y_ticks:
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(value)}" y2="{py(value)}"/>'
            f'<text class="tick" x="{left - 6}" y="{py(value) + 3.5}" text-anchor="end">{short(value)}</text>'
        )
    x_ticks = [v for v in ticks(x_low, x_high, 5) if x_low <= v <= x_high]
    for value in x_ticks:
        if chart.whole_x and value != int(value):
            continue
        parts.append(
            f'<text class="tick" x="{px(value)}" y="{height - bottom + 15}" text-anchor="middle">{short(value)}</text>'
        )
    parts.append(
        f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text>"
    )
    for value, name in chart.marks:
        if x_low < value < x_high:
            parts.append(
                f'<line class="mark" x1="{px(value)}" x2="{px(value)}" y1="{top}" y2="{height - bottom}">'
                f"<title>{escape(name)}</title></line>"
            )
    for s in series:
        points = " ".join(f"{px(float(a))},{py(float(b))}" for a, b in zip(s.x, s.y, strict=True))
        dashed = " dashed" if s.dashed else ""
        parts.append(f'<polyline class="curve {s.tone}{dashed}" points="{points}"/>')
        if len(s.x) <= 24:
            parts.extend(
                f'<circle class="dot {s.tone}" cx="{px(float(a))}" cy="{py(float(b))}" r="2.4"/>'
                for a, b in zip(s.x, s.y, strict=True)
            )
    summary = "; ".join(
        f"{s.name}: {short(s.y[0])} to {short(s.y[-1])}" if len(s.y) > 1 else f"{s.name}: {short(s.y[0])}"
        for s in series
    )
    data = {
        "x_label": chart.x_label,
        "series": [
            {
                "name": s.name,
                "tone": s.tone,
                "points": [
                    [px(float(a)), py(float(b)), short(float(a)), short(float(b))]
                    for a, b in zip(s.x, s.y, strict=True)
                ],
            }
            for s in series
        ],
    }
    legend = "".join(
        f'<li><span class="key {s.tone}{" dashed" if s.dashed else ""}"></span>{escape(s.name)}</li>' for s in series
    )
    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    return (
        f'<figure class="chart"><figcaption><h3>{escape(chart.title)}</h3>{note}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" tabindex="0" '
        f'aria-label="{escape(chart.title)}. {escape(summary)}" '
        f'data-chart="{escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")))}">'
        f'{"".join(parts)}<line class="cursor" y1="{top}" y2="{height - bottom}"/></svg>'
        f'{f"""<ul class="legend">{legend}</ul>""" if len(series) > 1 else ""}</figure>'
    )


def stacked_bar(title: str, parts: Sequence[tuple[str, float]], unit: str = "s") -> str:
    """One bar whose parts are shares of a whole."""
    parts = [(name, value) for name, value in parts if value > 0]
    total = sum(value for _, value in parts)
    if total <= 0:
        return ""
    rects, legend, x = [], [], 0.0
    for index, (name, value) in enumerate(parts):
        width = 1000 * value / total
        text = f"{name}: {duration(value) if unit == 's' else short(value)} ({value / total:.0%})"
        rects.append(
            f'<rect class="tone-{index}" x="{x:.1f}" y="0" width="{max(width - 2, 0.5):.1f}" height="30">'
            f"<title>{escape(text)}</title></rect>"
        )
        legend.append(f'<li><span class="key block tone-{index}"></span>{escape(text)}</li>')
        x += width
    summary = ", ".join(f"{name} {value / total:.0%}" for name, value in parts)
    return (
        f'<figure class="bar"><figcaption><h3>{escape(title)}</h3></figcaption>'
        f'<svg viewBox="0 0 1000 30" preserveAspectRatio="none" role="img" aria-label="{escape(summary)}">'
        f'{"".join(rects)}</svg><ul class="legend">{"".join(legend)}</ul></figure>'
    )


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


def heat_map(
    title: str,
    counts: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    row_word: str,
    column_word: str,
) -> str:
    """A table of counts as shades: each row's darkness is shared out over its columns."""
    height, width = counts.shape
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = max(6, min(26, 640 // max(height, width)))
    labelled_rows, labelled_columns = height <= 40, width <= 40
    longest = max((len(name) for name in rows), default=0)
    left = 24 + (min(longest, 22) * 6.8 if labelled_rows else 0)
    longest = max((len(name) for name in columns), default=0)
    top = 22 + (min(longest, 22) * 6.4 if labelled_columns else 0)
    # Alpha alone carries the value, so that the page's ground shows through in either scheme.
    mask = np.zeros((height, width, 4), dtype=np.uint8)
    mask[..., :3] = (47, 93, 196)
    mask[..., 3] = np.round(255 * np.sqrt(share)).astype(np.uint8)
    w, h = left + width * cell + 8, top + height * cell + 8
    texts = [
        f'<text class="axis" x="{left}" y="13">{escape(column_word)} →</text>',
        f'<text class="axis" transform="translate(3 {top}) rotate(90)">{escape(row_word)} →</text>',
    ]
    step_row = max(1, math.ceil(13 / cell))
    if labelled_rows:
        texts += [
            f'<text class="tick" x="{left - 6:.1f}" y="{top + (i + 0.5) * cell + 3.5:.1f}" text-anchor="end">'
            f"{escape(_clip(name))}</text>"
            for i, name in enumerate(rows)
            if i % step_row == 0
        ]
    if labelled_columns:
        texts += [
            f'<text class="tick" transform="translate({left + (j + 0.5) * cell + 3.5:.1f} {top - 6:.1f}) '
            f'rotate(-90)">{escape(_clip(name))}</text>'
            for j, name in enumerate(columns)
            if j % step_row == 0
        ]
    data = {
        "left": round(left, 1),
        "top": round(top, 1),
        "cell": cell,
        "rows": [f"{row_word} {name}" for name in rows],
        "columns": [f"{column_word} {name}" for name in columns],
        "counts": counts.astype(int).tolist(),
    }
    return (
        f'<figure class="heat"><figcaption><h3>{escape(title)}</h3></figcaption>'
        f'<div class="scroll"><svg viewBox="0 0 {w:.0f} {h:.0f}" width="{w:.0f}" height="{h:.0f}" role="img" '
        f'tabindex="0" aria-label="{escape(title)}: {height} by {width}. Arrow keys read the cells." '
        f'data-heat="{escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")))}">'
        f'<rect class="frame" x="{left - 0.5:.1f}" y="{top - 0.5:.1f}" width="{width * cell + 1}" '
        f'height="{height * cell + 1}"/>'
        f'<image class="shade" x="{left:.1f}" y="{top:.1f}" width="{width * cell}" height="{height * cell}" '
        f'preserveAspectRatio="none" href="{png_uri(mask)}"/>'
        f'{"".join(texts)}<rect class="cursor" width="{cell}" height="{cell}"/></svg></div>'
        f'<p class="readout" aria-live="polite">Point at a cell, or use the arrow keys.</p></figure>'
    )


def _clip(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


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


def filter_figure(title: str, note: str, tiles: np.ndarray, columns: int, scale: int) -> str:
    """A figure with a sheet of filters."""
    columns = min(columns, len(tiles))
    width = (columns * (tiles.shape[2] + 1) - 1) * scale
    return (
        f'<figure class="filters"><figcaption><h3>{escape(title)}</h3><p class="note">{escape(note)}</p></figcaption>'
        f'<img width="{width}" alt="{escape(title)}: {len(tiles)} tiles" src="{filter_tiles(tiles, columns)}"></figure>'
    )


def flat_map(features: np.ndarray, limit: int = 5000, seed: int = 0) -> tuple[np.ndarray, str]:
    """Points (N, 2) in 0..1000 and the name of the method: t-SNE up to `limit` rows, PCA beyond."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    x = np.nan_to_num(features.astype(np.float32))
    x = x - x.mean(axis=0, keepdims=True)
    name = "PCA"
    if not x.any():
        return np.full((len(x), 2), 500), name
    # One thread: sums in parallel have no fixed order, and the same run should give the same page.
    with threadpool_limits(limits=1):
        parts = min(50, *x.shape)
        points = PCA(n_components=parts, svd_solver="full" if min(x.shape) < 400 else "randomized", random_state=seed)
        reduced = points.fit_transform(x)
        if 12 <= len(x) <= limit and parts >= 2:
            from sklearn.manifold import TSNE

            perplexity = min(30.0, (len(x) - 1) / 3)
            reduced = TSNE(init="pca", perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(reduced)
            name = "t-SNE"
    flat = np.zeros((len(x), 2))
    flat[:, : min(2, parts)] = reduced[:, :2]
    # The middle 99.8 % fill the square: one far point must not squeeze all others together.
    low, high = np.percentile(flat, 0.1, axis=0), np.percentile(flat, 99.9, axis=0)
    span = max(float((high - low).max()), 1e-9)
    placed = 500 + (flat - (low + high) / 2) / span * 940
    return np.clip(placed.round(), 0, 1000).astype(int), name
