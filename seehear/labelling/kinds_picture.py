"""The score of each number of kinds as a picture, in SVG that follows its reader's light or dark scheme."""

from __future__ import annotations

import math
import textwrap
from html import escape

from seehear.cluster.kinds import Kinds
from seehear.labelling.stability_picture import STYLE

_WIDTH, _LEFT, _RIGHT, _PLOT = 640, 56, 24, 260


def kinds_svg(kinds: Kinds) -> str:
    """Score by number of clusters, with what it may be by chance, the numbers that it may be, and the verdict."""
    words = textwrap.wrap(kinds.as_text(), 88)
    table = kinds.table
    top = 78 + 18 * len(words)
    height = top + _PLOT + 46
    best = max(s.score for s in table)
    # What lies far below the best, at hundreds of clusters, says no more than that it does.
    low, high = max(min(s.score - s.behind_by_chance for s in table), -abs(best)), best + 0.1 * abs(best)
    high = max(high, low + 1e-3)  # of rows that are all alike every score is 0
    first, last = math.log(table[0].k), math.log(table[-1].k)

    def x(k: float) -> float:
        share = (math.log(k) - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(top + (high - min(max(value, low), high)) / (high - low) * _PLOT, 1)

    parts = [
        f'<text class="title" x="24" y="32">How many kinds? What sight and sound share of {kinds.rows} clips</text>'
    ]
    parts += [f'<text class="soft" x="24" y="{54 + 18 * i}">{escape(line)}</text>' for i, line in enumerate(words)]
    if kinds.low is not None and kinds.high is not None:
        # Where it may be more than any number that was compared, the band leaves the picture.
        left, right = x(kinds.low) - 4, _WIDTH if kinds.more else x(kinds.high) + 4
        parts.append(
            f'<rect class="band found" x="{left}" y="{top}" width="{round(right - left, 1)}" height="{_PLOT}"/>'
        )
        if kinds.more:
            parts.append(f'<text class="soft end" x="{_WIDTH - 6}" y="{top + _PLOT - 8}">or more</text>')
    for value in (0.0, best):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(value)}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="soft end" x="{_LEFT - 8}" y="{y(value) + 4}">{value:.2g}</text>')
    upper = [f"{x(s.k)} {y(s.score + s.behind_by_chance)}" for s in table]
    lower = [f"{x(s.k)} {y(s.score - s.behind_by_chance)}" for s in reversed(table)]
    parts.append(f'<path class="band none" d="M{"L".join(upper + lower)}Z"/>')
    parts.append(f'<path class="curve found" d="M{"L".join(f"{x(s.k)} {y(s.score)}" for s in table)}"/>')
    said_until = 0.0
    for s in table:
        said = f"{s.k} clusters: agreement {s.agreement:.2f}, score {s.score:.2f} nats"
        parts.append(f'<circle class="found" cx="{x(s.k)}" cy="{y(s.score)}" r="3"><title>{said}</title></circle>')
        if x(s.k) >= said_until:
            parts.append(f'<text class="soft middle" x="{x(s.k)}" y="{top + _PLOT + 20}">{s.k}</text>')
            said_until = x(s.k) + 26
    if kinds.k is not None:
        parts.append(f'<path class="mark" d="M{x(kinds.k)} {top}V{top + _PLOT}"/>')
    parts.append(f'<text class="middle" x="{_WIDTH / 2}" y="{height - 6}">clusters by each of sight and sound</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(kinds.as_text())}"><style>{STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )
