"""The stability of each number of clusters as a picture, in SVG that follows its reader's light or dark scheme."""

from __future__ import annotations

import textwrap
from html import escape

from seehear.cluster.stability import Estimate

STYLE = """
 .ground{fill:#fff} text{font:13px system-ui,sans-serif;fill:#1c1d21} .title{font-size:15px;font-weight:600}
 .soft{fill:#5f636d} .middle{text-anchor:middle} .end{text-anchor:end} .grid{stroke:#e4e2da}
 .mark{stroke:#2456b8;stroke-dasharray:3 3} .curve{stroke-width:2} .band{opacity:.18}
 .found{stroke:#2456b8;fill:#2456b8} .none{stroke:#b4581a;fill:#b4581a}
 path.curve{fill:none}
 @media (prefers-color-scheme: dark){
 .ground{fill:#16171b} text{fill:#ececee} .soft{fill:#a7abb5} .grid{stroke:#33363e} .mark{stroke:#84aef8}
 .found{stroke:#84aef8;fill:#84aef8} .none{stroke:#e29a62;fill:#e29a62}}
"""
_WIDTH, _LEFT, _RIGHT, _PLOT = 640, 56, 24, 260


def stability_svg(estimate: Estimate) -> str:
    """Stability by k, with that of data without clusters (± 2 standard deviations) and the verdict in words."""
    words = textwrap.wrap(estimate.as_text(), 88)
    table = estimate.table
    top = 78 + 18 * len(words)
    height = top + _PLOT + 46
    values = [0.0, *(s.stability for s in table), *(s.reference - 2 * s.reference_sd for s in table)]
    low, high = max(-1.0, min(values)), 1.0
    first, last = table[0].k, table[-1].k

    def x(k: float) -> float:
        share = (k - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(top + (high - min(max(value, low), high)) / (high - low) * _PLOT, 1)

    parts = [f'<text class="title" x="24" y="32">How many clusters? An estimate from {estimate.rows} rows</text>']
    parts += [f'<text class="soft" x="24" y="{54 + 18 * i}">{escape(line)}</text>' for i, line in enumerate(words)]
    legend = (("found", "these features"), ("none", "data without clusters, ± 2 standard deviations"))
    for i, (kind, said) in enumerate(legend):
        left, line = 24 + 140 * i, 58 + 18 * len(words)
        parts.append(
            f'<path class="curve {kind}" d="M{left} {line - 4}h22"/><text x="{left + 28}" y="{line}">{said}</text>'
        )
    for tenth in range(round(low * 10), 11, 2):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(tenth / 10)}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="soft end" x="{_LEFT - 8}" y="{y(tenth / 10) + 4}">{tenth / 10:g}</text>')
    step = max(1, len(table) // 20 + 1)
    for s in table[::step]:
        parts.append(f'<text class="soft middle" x="{x(s.k)}" y="{top + _PLOT + 20}">{s.k}</text>')
    parts.append(f'<text class="middle" x="{_WIDTH / 2}" y="{height - 6}">clusters</text>')
    upper = [f"{x(s.k)} {y(s.reference + 2 * s.reference_sd)}" for s in table]
    lower = [f"{x(s.k)} {y(s.reference - 2 * s.reference_sd)}" for s in reversed(table)]
    parts.append(f'<path class="band none" d="M{"L".join(upper + lower)}Z"/>')
    for kind, points in (("none", [s.reference for s in table]), ("found", [s.stability for s in table])):
        places = [f"{x(s.k)} {y(value)}" for s, value in zip(table, points, strict=True)]
        parts.append(f'<path class="curve {kind}" d="M{"L".join(places)}"/>')
    for s in table:
        said = f"{s.k} clusters: {s.stability:.2f}, without clusters {s.reference:.2f}, p = {s.p_value:.2f}"
        parts.append(f'<circle class="found" cx="{x(s.k)}" cy="{y(s.stability)}" r="3"><title>{said}</title></circle>')
    if estimate.k is not None:
        parts.append(f'<path class="mark" d="M{x(estimate.k)} {top}V{top + _PLOT}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(estimate.as_text())}"><style>{STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )
