"""Detections beside the truth on lines of time, in SVG that follows its reader's light or dark scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from seehear.localization.annotations import Segment
from seehear.localization.metrics import Detection

_COLOURS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#b8860b",
    "#3aa7c4",
    "#aa3377",
    "#8a6d3b",
    "#6655bb",
    "#777777",
    "#cc5500",
)
_STYLE = """
 .ground{fill:#fff} text{font:12px system-ui,sans-serif;fill:#1c1d21} .title{font-size:15px;font-weight:600}
 .soft{fill:#5f636d} .end{text-anchor:end} .middle{text-anchor:middle} .lane{fill:#efeee9}
 @media (prefers-color-scheme: dark){
 .ground{fill:#16171b} text{fill:#ececee} .soft{fill:#a7abb5} .lane{fill:#24262c}}
"""
_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _LANE = 860, 150, 24, 84, 58, 18
MOST_VIDEOS = 12
_MOST_DETECTIONS = 12
_SHARED = 0.2


def best_apart(detections: Sequence[Detection], most: int = _MOST_DETECTIONS) -> list[Detection]:
    """The best detections of which no two share more than a fifth of the shorter one, at most so many."""
    kept: list[Detection] = []
    for one in sorted(detections, key=lambda d: -d.score):
        if len(kept) < most and all(_shared(one, other) <= _SHARED for other in kept):
            kept.append(one)
    return kept


def _shared(a: Detection, b: Detection) -> float:
    """Of the shorter of two detections, the share that lies in the other."""
    both = min(a.end_seconds, b.end_seconds) - max(a.start_seconds, b.start_seconds)
    shorter = min(a.end_seconds - a.start_seconds, b.end_seconds - b.start_seconds)
    return max(both, 0.0) / shorter if shorter > 0 else 0.0


def timelines_svg(
    videos: Mapping[str, tuple[Sequence[Segment], Sequence[Detection]]], seconds: Mapping[str, float]
) -> str:
    """For each of the first 12 videos its segments and, below them, its best detections; fainter ones are less sure.

    `seconds` is the length of each video; the width of the picture is that of the longest.
    """
    names = sorted(videos)[:MOST_VIDEOS]
    longest = max(seconds[n] for n in names)
    shown = {n: (videos[n][0], best_apart(videos[n][1])) for n in names}
    labels = sorted({x.label for pair in shown.values() for part in pair for x in part})
    colour = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    width = _WIDTH - _LEFT - _RIGHT

    def bar(one: Segment | Detection, y: int, opacity: float, said: str) -> str:
        start, end = (min(max(t, 0.0), longest) / longest * width for t in (one.start_seconds, one.end_seconds))
        title = f"{one.label}: {one.start_seconds:.1f}-{one.end_seconds:.1f} s{said}"
        return (
            f'<rect x="{_LEFT + start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{_LANE - 2}" rx="2" '
            f'fill="{colour[one.label]}" opacity="{opacity:.2f}"><title>{escape(title)}</title></rect>'
        )

    parts = ['<text class="title" x="24" y="28">Where something happens: the truth, and below it what was found</text>']
    columns = 5
    for i, label in enumerate(labels):
        x, y = 24 + (i % columns) * 165, 50 + 18 * (i // columns)
        parts.append(f'<rect x="{x}" y="{y - 10}" width="11" height="11" rx="2" fill="{colour[label]}"/>')
        parts.append(f'<text class="soft" x="{x + 17}" y="{y}">{escape(label)}</text>')
    top = _TOP + 18 * ((len(labels) - 1) // columns) if labels else _TOP
    for row, name in enumerate(names):
        truth, found = shown[name]
        y, length = top + row * _ROW, min(seconds[name], longest) / longest * width
        parts.append(f'<text class="end" x="{_LEFT - 10}" y="{y + 13}">{escape(name[-22:])}</text>')
        parts.append(f'<text class="soft end" x="{_LEFT - 10}" y="{y + 13 + _LANE}">found</text>')
        for lane in (0, 1):
            parts.append(
                f'<rect class="lane" x="{_LEFT}" y="{y + lane * _LANE}" width="{length:.1f}" height="{_LANE - 2}"/>'
            )
        parts += [bar(s, y, 1.0, "") for s in truth]
        best = max((d.score for d in found), default=1.0) or 1.0
        # The less sure ones first, so that the surer lie over them.
        parts += [bar(d, y + _LANE, 0.08 + 0.92 * d.score / best, f", score {d.score:.3f}") for d in reversed(found)]
    bottom = top + len(names) * _ROW
    for tick in range(6):
        time = longest * tick / 5
        parts.append(f'<text class="soft middle" x="{_LEFT + width * tick / 5:.1f}" y="{bottom}">{time:.0f} s</text>')
    height = bottom + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="Segments of videos and what was detected"><style>{_STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )
