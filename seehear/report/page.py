"""A gathered run to one HTML page.

Each section is a function that returns "" when the run has nothing for it.
"""
# ruff: noqa: E501 (HTML in strings is easier to read on one line; the signs are meant)

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import PurePath
from string import Template
from typing import Any

import numpy as np

from seehear.errors import UsageError
from seehear.hypotheses.factors import FACTORS
from seehear.hypotheses.language import NAMED, parse
from seehear.hypotheses.pictures import as_svg
from seehear.report import figures
from seehear.report.figures import Chart, Series, duration
from seehear.report.gather import Clip, Labelling, Run, heads, number
from seehear.report.thumbnails import Thumbnails
from seehear.report.transfer import transfer
from seehear.report.truth import Scores, Truth, agreement

NAMES = {"video": "Video", "audio": "Audio", "both": "Both together"}
MEANS = {
    "video": "what the picture encoder groups: clips that look alike to it",
    "audio": "what the sound encoder groups: clips that sound alike to it",
    "both": "clustered on picture and sound features joined",
}
ASKS = {
    "distinct": "is told apart",
    "invariant": "makes no difference",
    "ignore": "is left open: what differs in it is not compared",
}
"""What each hypothesis about a factor asks of a representation."""
MEANS_OF_HEADS = {
    "video": "the labels as read off the picture alone",
    "audio": "the same clusters as read off the sound alone",
    "both": "the same clusters as read off picture and sound together",
}
"""For a method whose labels are its heads'."""
LISTED_FILES = 300
"""Rejected files that are listed by name; the counts are always whole."""


@dataclass(frozen=True)
class Map:
    """Points of one encoder's features, in a square of 0..1000."""

    name: str
    method: str
    clips: Sequence[Clip]
    points: np.ndarray
    total: int


@dataclass
class Content:
    """Everything that a page is made of."""

    run: Run
    labels: list[str | None] = field(default_factory=list)
    truth: Truth | None = None
    scores: dict[str, Scores] = field(default_factory=dict)
    maps: list[Map] = field(default_factory=list)
    exemplars: int = 10
    thumbnails: Thumbnails = field(default_factory=Thumbnails)
    size_budget_bytes: int = 0
    list_limit: int | None = None
    """Clips of each cluster that are listed by name; None for all."""

    def best(self, labelling: Labelling, cluster: int) -> list[int]:
        """The clips of a cluster that stand for it: each video once, the closest first."""
        seen: dict[str, int] = {}
        for index in labelling.members(cluster):
            seen.setdefault(self.run.clips[index].video_id, int(index))
            if len(seen) == self.exemplars:
                break
        return list(seen.values())


def render(content: Content) -> str:
    """The whole page."""
    parts = {
        "clusters": ("Clusters", clusters(content)),
        "relations": ("How they relate", relations(content)),
        "map": ("Map", feature_maps(content)),
        "hypotheses": ("Hypotheses", hypotheses(content.run)),
        "heads": ("Heads", labelling_heads(content.run)),
        "retrieval": ("Across modalities", retrieval(content.run)),
        "transfer": ("Transfer", transfer(content.run.evaluations)),
        "training": ("Training", training(content.run)),
        "health": ("Health", health(content.run)),
        "filters": ("First layers", filters(content.run)),
        "files": ("Files", files(content.run)),
        "settings": ("Settings", settings(content.run)),
    }
    shown = {key: (name, body) for key, (name, body) in parts.items() if body}
    files_ = {name: _resource(name) for name in ("template.html", "style.css", "page.js")}
    script = "\n" + files_["page.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Only this very script may run, and nothing may be fetched: blob: is for thumbnails made on the page.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return Template(files_["template.html"]).substitute(
        policy=escape(policy),
        title=escape(f"{content.run.folder.resolve().name} · seehear report"),
        style=files_["style.css"],
        header=header(content),
        nav="".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, (name, _) in shown.items()),
        sections="\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{escape(name)}</h2>{body}</section>'
            for key, (name, body) in shown.items()
        ),
        footer=_footer(content),
        data=_json(page_data(content)),
        thumbs=_json({str(k): t.base64 for k, t in content.thumbnails.items.items() if t.base64}),
        script=files_["page.js"],
    )


# ---------------------------------------------------------------------------------------------- header


def header(content: Content) -> str:
    """What the run is, whether it is well, and a summary in plain words."""
    run = content.run
    level, word, detail = verdict(run)
    warnings = run.metrics.warnings
    more = ""
    if warnings:
        items = "".join(
            f"<li>{escape(_when(w))}{escape(str(w.get('message', 'warning without a message')))}</li>"
            for w in warnings[:50]
        )
        count = f"{len(warnings)} warning{'s' if len(warnings) != 1 else ''}"
        more = f'<details class="warnings"><summary>{count}</summary><ul>{items}</ul></details>'
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in _facts(run) if v)
    return (
        '<p class="brand">seehear report</p>'
        f"<h1>{escape(run.folder.resolve().name)}</h1>"
        f'<p class="verdict {level}"><strong>{escape(word)}</strong>'
        f"{': ' + escape(detail) if detail else ''}</p>{more}"
        f'<p class="lead">{summary(content)}</p>'
        f'<dl class="facts">{facts}</dl>'
    )


def verdict(run: Run) -> tuple[str, str, str]:
    """(CSS class, word, detail) from the run's own warnings."""
    messages = [str(w.get("message", "")) for w in run.metrics.warnings]
    fallen = next((m for m in messages if "collapse" in m.lower()), None)
    if fallen is not None:
        head, _, rest = fallen.partition(":")
        return (
            "bad",
            "collapse",
            rest.strip() if head.strip().lower() == "collapse" and rest.strip() else fallen,
        )
    if messages:
        return "doubt", "look closer", messages[-1]
    if run.metrics.end is None:
        return "doubt", "not finished", "the run has not written its end; what follows is how far it came"
    return "good", "healthy", ""


def summary(content: Content) -> str:
    """A few sentences (HTML) for a reader who knows nothing of clustering."""
    run = content.run
    method = str(run.setting("method", default="This run"))
    method = escape({"selavi": "SeLaVi"}.get(method, method.upper()))
    used = [video for video in run.videos if video.usable]
    count = len(used) or len({clip.video_id for clip in run.clips})
    seconds = sum(video.duration_seconds for video in used)
    length = f" ({escape(duration(seconds))} in all)" if seconds else ""
    rounds = len(run.metrics.rounds)
    unit = "clustering" if any("clustering" in record for record in run.metrics.rounds) else "round"
    in_rounds = f" in {rounds} {unit}{_s(rounds)}" if rounds else ""
    of = {"FINETUNE": "the training split of ", "SUPERVISED": "the given classes of "}.get(method, "")
    how = "" if of else f" without labels{in_rounds}"
    text = [f"<b>{method}</b> learnt from {of}<b>{count:,} videos</b>{length}{how}."]
    kinds = {name: len(labelling.clusters()) for name, labelling in run.labellings.items()}
    if "video" in kinds and "audio" in kinds:
        text.append(f"It sorted them by sight into {kinds['video']} clusters and by sound into {kinds['audio']}.")
        shared = agreement(run.labellings["video"], run.labellings["audio"])
        if shared is not None:
            text.append(f"The two sortings agree to {shared:.2f} (NMI: 0 is chance, 1 the same).")
    elif kinds:
        text.append("It sorted them into " + ", ".join(f"{k} {n} clusters" for n, k in kinds.items()) + ".")
    if content.truth is not None and content.scores:
        scores = ", ".join(
            f"{'joint' if n == 'both' else escape(n)} clusters reach NMI {s.nmi:.2f} and purity {s.purity:.2f}"
            for n, s in content.scores.items()
        )
        text.append(f"Against {len(content.truth.classes)} classes from {escape(content.truth.source)}: {scores}.")
    unusable = len(run.videos) - len(used)
    if unusable:
        text.append(f'<a href="#files">{unusable:,} file{"s" if unusable != 1 else ""} could not be used.</a>')
    return " ".join(text)


def _facts(run: Run) -> list[tuple[str, str]]:
    env, end = run.env, run.metrics.end or {}
    seconds = number(end.get("seconds")) or max(
        (number(s.get("seconds")) or 0.0 for s in run.metrics.steps), default=0.0
    )
    machine = [str(env[key]) for key in ("gpu", "cpu", "platform") if env.get(key)]
    threads = f"{env['threads']} threads" if env.get("threads") else ""
    steps = number(end.get("steps")) or max((number(s.get("step")) or 0 for s in run.metrics.steps), default=0)
    seen, memory = number(end.get("clips_seen")), number(end.get("peak_memory_bytes"))
    commit = str(env.get("commit") or "")
    return [
        ("Method", str(run.setting("method", default=""))),
        ("Recipe", str(run.setting("recipe", default="") or "")),
        ("Seed", str(run.setting("seed", default=""))),
        (
            "Started",
            str(env.get("started_utc", "")).replace("T", " ")[:16] + (" UTC" if env.get("started_utc") else ""),
        ),
        ("Took", duration(seconds) if seconds else ""),
        ("Steps", f"{steps:,.0f}" if steps else ""),
        ("Clips seen", f"{seen:,.0f}" if seen else ""),
        ("Peak memory", f"{memory / 2**30:.1f} GiB" if memory else ""),
        ("seehear", " ".join(x for x in (str(env.get("seehear_version", "")), commit[:10]) if x)),
        ("PyTorch", str(env.get("torch", ""))),
        ("Machine", ", ".join(x for x in (*machine[:2], threads) if x)),
    ]


def _when(record: Mapping[str, Any]) -> str:
    where = [f"{key} {record[key]}" for key in ("round", "step") if record.get(key) is not None]
    return f"{', '.join(where)}: " if where else ""


# -------------------------------------------------------------------------------------------- clusters


def clusters(content: Content) -> str:
    """Tabs of cards, one tab for each labelling."""
    labellings = content.run.labellings
    if not labellings:
        return ""
    names = list(labellings)
    buttons = "".join(
        f'<button type="button" role="tab" id="tab-{escape(n)}" aria-controls="panel-{escape(n)}" '
        f'aria-selected="{"true" if i == 0 else "false"}" tabindex="{0 if i == 0 else -1}" class="tone-{escape(n)}">'
        f'<span class="key tone-{escape(n)}"></span>{escape(NAMES.get(n, n))} '
        f'<span class="count">{len(labellings[n].clusters())}</span></button>'
        for i, n in enumerate(names)
    )
    sorts = [("purity", "purity")] if content.scores else []
    sorts += [("size", "size"), ("tight", "tightness"), ("confidence", "confidence"), ("id", "number")]
    shows = [("all", "all clusters"), ("sure", "confidence ≥ 0.5"), ("unsure", "confidence < 0.5")]
    if content.scores:
        shows += [("pure", "purity ≥ 0.5"), ("mixed", "purity < 0.5")]
    tools = (
        '<form class="tools" id="tools" role="search" aria-label="Sort and filter clusters">'
        f'<label class="field">Sort by <select id="sort">{_options(sorts)}</select></label>'
        f'<label class="field">Show only <select id="show">{_options(shows)}</select></label>'
        '<label class="field grow">Find <input type="search" id="find" autocomplete="off" '
        f'placeholder="{"concept, " if content.scores else ""}file name or number"></label>'
        '<button type="button" id="still" aria-pressed="false">Pause motion</button>'
        '<output id="found" aria-live="polite"></output></form>'
    )
    panels = "".join(
        f'<div role="tabpanel" id="panel-{escape(n)}" aria-labelledby="tab-{escape(n)}" class="panel tone-{escape(n)}">'
        f"{_panel(content, labellings[n])}</div>"
        for n in names
    )
    closest = "that are surest of it" if _labelled_by_heads(content.run) else "closest to its centre"
    return (
        f'<p class="intro">Each card is a cluster, shown by the videos {closest}. '
        f"Click a picture (or press Enter on it) to hear it; open a card for all of its videos. "
        f'{_thumbnail_note(content)}</p><div role="tablist" aria-label="Labelling">{buttons}</div>{tools}{panels}'
    )


def _thumbnail_note(content: Content) -> str:
    made = content.thumbnails
    if not made.items and not made.dropped:
        return ""
    quality = made.quality
    note = f"Pictures are {quality.side_px} px at {quality.frame_rate_hz:g} frames a second"
    limit = f"to keep the page under {content.size_budget_bytes / 1e6:.3g} MB"
    if made.dropped:
        note += f"; {made.dropped:,} of {made.dropped + len(made.items):,} were left out {limit}"
    elif quality.side_px < 112:
        note += f", {limit}"
    return f'<span class="quiet">{note}.</span>'


def _options(options: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)


def _panel(content: Content, labelling: Labelling) -> str:
    scores = content.scores.get(labelling.name)
    numbers = labelling.clusters()
    rows = {c: labelling.members(c) for c in numbers}
    if scores is not None:
        numbers.sort(key=lambda c: (-(scores.rows[c].purity if c in scores.rows else -1), c))
    else:
        numbers.sort(key=lambda c: (-len(rows[c]), c))
    largest = max(len(r) for r in rows.values())
    cards = "".join(_card(content, labelling, c, rows[c], largest) for c in numbers)
    table = ""
    if scores is not None:
        ranked = [scores.rows[c] for c in numbers if c in scores.rows]
        body = "".join(
            f"<tr><td>{i}</td><td>{row.cluster}</td><td>{row.size}</td><td>{row.purity:.2f}</td><td>"
            + escape(", ".join(f"{name} ({share:.2f})" for name, share in row.concepts))
            + "</td></tr>"
            for i, row in enumerate(ranked, 1)
        )
        table = (
            f'<details class="table"><summary>As a table, ranked by purity</summary><div class="scroll"><table>'
            "<thead><tr><th>#</th><th>cluster</th><th>clips</th><th>purity</th><th>concepts (share)</th></tr></thead>"
            f"<tbody>{body}</tbody></table></div></details>"
        )
    means = (MEANS_OF_HEADS if _labelled_by_heads(content.run) else MEANS).get(labelling.name, "")
    head = f'<p class="note">{escape(means[:1].upper() + means[1:])}.</p>' if means else ""
    return f'{head}<div class="cards">{cards}</div><p class="none" hidden>No cluster fits.</p>{table}'


def _card(content: Content, labelling: Labelling, cluster: int, rows: np.ndarray, largest: int) -> str:
    scores = content.scores.get(labelling.name)
    row = scores.rows.get(cluster) if scores else None
    confidence, distance = _mean(labelling.confidence[rows]), _mean(labelling.distance[rows])
    concepts, purity = "", ""
    if row is not None:
        purity = f'<span class="pill" title="share of the commonest class">purity {row.purity:.2f}</span>'
        concepts = '<ul class="concepts" aria-label="Commonest concepts">' + "".join(
            f'<li style="--share:{share:.3f}"><span>{escape(str(name))}</span><b>{share:.2f}</b></li>'
            for name, share in row.concepts[:3]
        )
        concepts += "</ul>"
    best = content.best(labelling, cluster)
    thumbs = "".join(_thumb(content, labelling, i) for i in best if i in content.thumbnails.items)
    left_out = sum(1 for i in best if i not in content.thumbnails.items)
    if not thumbs:
        thumbs = '<p class="note left-out">No room for pictures: open the card for its files.</p>' if left_out else ""
    numbers = " · ".join(
        text
        for text in (
            f"confidence {confidence:.2f}" if confidence is not None else "",
            f"mean distance {figures.short(distance)}" if distance is not None else "",
        )
        if text
    )
    data = {
        "cluster": cluster,
        "size": len(rows),
        "purity": f"{row.purity:.4f}" if row is not None else "",
        "tight": f"{distance:.6g}" if distance is not None else "",
        "confidence": f"{confidence:.4f}" if confidence is not None else "",
        "labelling": labelling.name,
        "concepts": " ".join(str(name) for name, _ in row.concepts).lower() if row is not None else "",
    }
    attributes = " ".join(f'data-{k}="{escape(str(v))}"' for k, v in data.items())
    what = f"{labelling.name} cluster {cluster}"
    return (
        f'<article class="card" {attributes} aria-label="{escape(what)}, {len(rows)} clips">'
        f'<header><h3><button type="button" class="open" aria-haspopup="dialog">'
        f'<span class="hash">#</span>{cluster}</button></h3>'
        f'<span class="size" style="--share:{len(rows) / largest:.3f}">{len(rows):,} clip{_s(len(rows))}</span>'
        f"{purity}</header>{concepts}"
        f'<div class="thumbs">{thumbs}</div>'
        f'<footer><span class="now">{escape(numbers)}</span><span class="all" aria-hidden="true">all files ›</span>'
        "</footer></article>"
    )


def _thumb(content: Content, labelling: Labelling, index: int) -> str:
    run, item = content.run, content.thumbnails.items[index]
    clip = run.clips[index]
    name = display_name(run, clip.video_id)
    sure = labelling.confidence[index]
    text = f"{name}, {_span(clip)}" + (f", confidence {sure:.2f}" if math.isfinite(sure) else "")
    if not item.base64:
        return (
            f'<span class="thumb gone" role="img" title="{escape(text)}" aria-label="{escape(text)}: '
            f'{escape(item.problem)}"><span>{escape(item.problem)}</span></span>'
        )
    sound = "press for sound" if item.has_sound else "no sound"
    side = content.thumbnails.quality.side_px
    return (
        f'<button type="button" class="thumb" data-clip="{index}" title="{escape(text)}" aria-pressed="false" '
        f'aria-label="{escape(text)}; {sound}"><video muted loop playsinline disablepictureinpicture preload="none" '
        f'width="{side}" height="{side}" aria-hidden="true" tabindex="-1"></video></button>'
    )


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _span(clip: Clip) -> str:
    return f"{clip.start_seconds:.1f}–{clip.end_seconds:.1f} s"


def display_name(run: Run, video_id: str) -> str:
    """The file name that a person knows a video by."""
    path = run.paths.get(video_id)
    return PurePath(path).name if path else video_id


# ------------------------------------------------------------------------------------------- relations


def relations(content: Content) -> str:
    """Heat maps: video x audio clusters, and each labelling x the given classes."""
    labellings = content.run.labellings
    parts = []
    if "video" in labellings and "audio" in labellings:
        first, second = labellings["video"], labellings["audio"]
        both = (first.cluster >= 0) & (second.cluster >= 0)
        shared = agreement(first, second)
        if both.any() and shared is not None:
            a, b, counts = figures.contingency(first.cluster[both], second.cluster[both])
            rows = np.argsort(-counts.sum(axis=1), kind="stable")
            columns = figures.match_columns(counts[rows])
            parts.append(
                _heat(f"Video × audio clusters, NMI {shared:.2f}", a, b, counts, rows, columns, "video", "audio")
            )
    if content.truth is not None:
        labels = np.array([label or "" for label in content.labels], dtype=object)
        for name, scores in content.scores.items():
            labelling = labellings[name]
            both = (labelling.cluster >= 0) & (labels != "")
            a, b, counts = figures.contingency(labels[both].astype(str), labelling.cluster[both])
            columns = figures.match_columns(counts)
            title = f"Classes × {'joint' if name == 'both' else name} clusters, NMI {scores.nmi:.2f}"
            parts.append(_heat(title, a, b, counts, np.arange(len(a)), columns, "class", name))
    if not parts:
        return ""
    return (
        '<p class="intro">A strong colour marks where most of a row went. Rows and columns are ordered so that agreement '
        "lies on the diagonal: the cleaner it is, the more the two agree.</p>"
        f'<div class="heats">{"".join(parts)}</div>'
    )


def _heat(
    title: str,
    a: np.ndarray,
    b: np.ndarray,
    counts: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    row_word: str,
    column_word: str,
) -> str:
    names = [str(a[i]) for i in rows], [str(b[j]) for j in columns]
    return figures.heat_map(title, counts[rows][:, columns], *names, row_word, column_word)


# ------------------------------------------------------------------------------------------ hypotheses


def hypotheses(run: Run) -> str:
    """A GDT run's specification in words: a row for each factor."""
    text = run.setting("gdt", "hypotheses")
    if run.setting("method") != "gdt" or not isinstance(text, str):
        return ""
    try:
        spec = parse(text)
    except UsageError:  # of another version of seehear
        return f'<p class="intro">Learnt by the specification <code>{escape(text)}</code>.</p>'
    rows = "".join(
        f"<tr><th>{escape(f.name.replace('_', ' '))}</th><td>{escape(FACTORS[f.name].meaning)}</td>"
        f"<td><b>{escape(f.hypothesis)}</b>: {escape(ASKS[f.hypothesis])}</td></tr>"
        for f in spec.factors
    )
    names, count = " and ".join(spec.modalities), spec.transformations_per_sample
    compared = {"cross": "of different modalities", "within": "of one modality", "all": "of any modality"}[spec.pairs]
    if len(spec.modalities) == 1:
        compared = f"of {names}"
    named = f"Specification <b>{escape(text)}</b>: " if "=" not in text else ""
    picture = ""
    # More transformations than can be drawn leave the picture out.
    with contextlib.suppress(UsageError):
        svg = as_svg(spec, NAMED.get(text), int(number(run.setting("optim", "batch_size")) or 32))
        # As an image: the picture's styles are its own and must not reach the page's figures.
        uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        picture = (
            f'<figure class="specification scroll"><img src="{uri}" alt="Which pairs of transformations of two clips '
            'attract (1), repel (0) or are not compared, with the tree that they are sampled from"></figure>'
        )
    return (
        f'<p class="intro">{named}<code>{escape(str(spec))}</code>. Each clip was seen as {count} '
        f"transformation{_s(count)} ({escape(names)}), and pairs {escape(compared)} were compared.</p>"
        f'<div class="scroll"><table><thead><tr><th>factor</th><th>what differs</th><th>hypothesis</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{picture}"
    )


def labelling_heads(run: Run) -> str:
    """What clustering heads made of the marginals, how far they agree and how sure their labels are."""
    rounds = [record for record in run.metrics.rounds if "nmi_between_heads" in record]
    if not _labelled_by_heads(run) or not rounds:
        return ""
    last = rounds[-1].get("clusters/head0") or {}
    asked, given = (np.asarray(last.get(name) or [], dtype=float) for name in ("marginals", "masses"))
    charts = [
        Chart(
            "Agreement between heads",
            [_series(rounds, "nmi_between_heads", "mean NMI", "tone-0", x="clustering")],
            "clustering",
            "mean over pairs: at 1 they all say the same",
            True,
            1.0,
            True,
        ),
        Chart(
            "Evenness before the marginals",
            [_series([_mass(r) for r in rounds], "evenness", "head 0", "tone-0", x="clustering")],
            "clustering",
            "entropy of the masses ÷ ln k: far below 1 the marginals hold up what would collapse",
            True,
            1.0,
            True,
        ),
    ]
    if len(asked) and len(asked) == len(given):
        order, places = np.argsort(-asked), np.arange(1, len(asked) + 1).tolist()
        charts.append(
            Chart(
                "Marginals and what was assigned",
                [
                    Series("asked for", places, (100 * asked[order]).tolist(), "tone-0"),
                    Series("assigned", places, (100 * given[order]).tolist(), "tone-1", True),
                ],
                "cluster, the largest first",
                "share of the clips in percent, head 0, last clustering",
                True,
                None,
                True,
            )
        )
    for title, key, note in (
        ("Confidence", "confidence", "1 − entropy ÷ ln k of the labels"),
        ("Heads that agree", "agreement", "share of the other heads that give the same cluster"),
    ):
        series = [_survival(labelling, key, _tone(n, list(run.labellings))) for n, labelling in run.labellings.items()]
        charts.append(Chart(title, series, f"{key} of at least", f"share of clips; {note}", True, 1.0))
    drawn = "".join(figures.line_chart(chart) for chart in charts)
    facts = _heads_table(rounds[0].get("clusters/head0") or {}, last)
    return f'<div class="charts">{drawn}</div>{facts}'


def _mass(record: Mapping[str, Any]) -> dict[str, Any]:
    """A clustering's number with the evenness of head 0's masses before the marginals."""
    entry = record.get("clusters/head0") or {}
    entropy, k = number(entry.get("mass_entropy")), number(entry.get("k")) or 0
    even = entropy / math.log(k) if entropy is not None and k > 1 else None
    return {"clustering": record.get("clustering"), "evenness": even}


def _survival(labelling: Labelling, key: str, tone: str) -> Series:
    """The share of clips whose value is at least x."""
    values = np.asarray(getattr(labelling, key), dtype=float)
    values = values[np.isfinite(values)]
    grid = np.linspace(0, 1, 51)
    shares = [float((values >= x - 1e-9).mean()) for x in grid] if len(values) else []
    return Series(NAMES.get(labelling.name, labelling.name), grid.tolist() if shares else [], shares, tone)


def _heads_table(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """A row for each head: the cost that alignment saved, and how the last transport ended."""
    before, after = first.get("alignment_cost_before") or [], first.get("alignment_cost_after") or []
    iterations, converged = last.get("sinkhorn_iterations") or [], last.get("sinkhorn_converged") or []
    body = ""
    for head, count in enumerate(iterations):
        aligned = f"{before[head]:.4g} → {after[head]:.4g}" if head < len(before) and head < len(after) else ""
        ended = "" if head >= len(converged) else "converged" if converged[head] else "stopped at its limit"
        body += f"<tr><th>{head}</th><td>{aligned}</td><td>{count:,}</td><td>{ended}</td></tr>"
    columns = ("head", "cost of alignment, before → after", "iterations of the last transport", "it")
    return _table("Heads as a table", columns, body) if body else ""


def retrieval(run: Run) -> str:
    """How often a held-out clip's sound finds its frames and the other way, at the last validation."""
    last = run.metrics.epochs[-1] if run.metrics.epochs else {}
    pairs = [pair for pair in heads([last], "validation_accuracy") if "->" in pair]
    if not pairs or not heads([last], "alignment"):
        return ""
    rows = "".join(
        f"<tr><th>{escape(_head(pair))}</th><td>{_percent(number(last.get(f'validation_accuracy/{pair}')))}</td></tr>"
        for pair in pairs
    )
    return (
        '<p class="intro">How often a held-out clip finds its counterpart first, within a batch, after the last epoch. '
        "Batches differ in size between runs, and with them what chance gives.</p>"
        f"<table><thead><tr><th>query → answer</th><th>found first</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


# -------------------------------------------------------------------------------------------- training


def training(run: Run) -> str:
    """Curves: losses, accuracies and validation, learning rate. A contrastive method's are over epochs."""
    steps, epochs = run.metrics.steps, run.metrics.epochs
    marks = _round_marks(run)
    many = len(marks) > 1
    charts = []

    def curves(records: list[dict[str, Any]], prefix: str, dashed: bool = False, suffix: str = "") -> list[Series]:
        names = heads(records, prefix)
        return [_series(records, f"{prefix}/{h}", _head(h) + suffix, _tone(h, names), dashed) for h in names]

    if heads(epochs, "alignment"):
        charts += contrast_charts(epochs)
    else:
        loss = curves(steps, "loss") or [_series(steps, "loss", "loss", "tone-0")]
        marked = "lines mark where a round starts" if many else ""
        charts.append(Chart("Loss", loss, marks=marks, note=marked))
        accuracy = curves(steps, "accuracy") + curves(epochs, "validation_accuracy", True, ", held out")
        given = run.setting("method") in ("finetune", "supervised")
        title = f"Accuracy at the {'given classes' if given else 'pseudo-labels'}"
        charts.append(Chart(title, accuracy, marks=marks, from_zero=True, top=1.0))
        held_out = curves(epochs, "validation_loss") or [_series(epochs, "validation_loss", "validation", "tone-0")]
        note = "on videos not trained on, after each epoch"
        charts.append(Chart("Validation loss", held_out, marks=marks, note=note))
    charts.append(
        Chart(
            "Learning rate",
            [_series(steps, "learning_rate", "learning rate", "tone-0")],
            marks=marks,
            from_zero=True,
        )
    )
    charts.append(
        Chart("Gradient norm", [_series(steps, "gradient_norm", "norm", "tone-0")], marks=marks, from_zero=True)
    )
    charts.append(
        Chart(
            "Speed",
            [_series(steps, "clips_per_second", "clips a second", "tone-0")],
            marks=marks,
            from_zero=True,
        )
    )
    drawn = "".join(figures.line_chart(chart) for chart in charts)
    bar = figures.stacked_bar("Where the time went", _times(run))
    return f'<div class="charts">{drawn}</div>{bar}' if drawn or bar else ""


def contrast_charts(epochs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A contrastive method's curves over epochs, one for each pair of modalities, in training and held out."""
    records = [{**record, "nth": n} for n, record in enumerate(epochs, 1)]
    wanted = (
        (
            "loss",
            "Loss by pair of modalities",
            "dashed: on videos not trained on; its batches may be smaller",
            False,
            None,
        ),
        ("accuracy", "Found first", "how often the closest answer of a batch is a right one", True, 1.0),
        ("alignment", "Alignment", "mean squared distance of what should agree: 0 is the same point", True, None),
        ("uniformity", "Uniformity", "lower is more evenly spread; 0 is a collapse to one point", False, None),
    )
    charts = []
    for prefix, title, note, from_zero, top in wanted:
        names = heads(records, prefix)
        series = [
            _series(records, f"{part}{prefix}/{name}", _head(name) + suffix, _tone(name, names), dashed, "nth")
            for part, suffix, dashed in (("", "", False), ("validation_", ", held out", True))
            for name in names
        ]
        charts.append(Chart(title, series, "epoch", note, from_zero, top, True))
    return charts


def health(run: Run) -> str:
    """What would show a collapse, for each round, or each clustering of a method with many a round."""
    rounds = run.metrics.rounds
    times = "clustering" if any("clustering" in record for record in rounds) else "round"
    names = heads(rounds, "clusters")

    def series(key: str) -> list[Series]:
        found = []
        for name in names:
            pairs = []
            for index, record in enumerate(rounds):
                entry = record.get(f"clusters/{name}")
                if not isinstance(entry, Mapping):
                    continue
                value = number(entry.get(key))
                k = number(entry.get("k")) or 0
                if key == "entropy" and value is not None:
                    value = value / math.log(k) if k > 1 else None
                if value is not None:
                    pairs.append(
                        (
                            number(record.get(times)) if number(record.get(times)) is not None else index,
                            value,
                        )
                    )
            found.append(Series(name, [p[0] for p in pairs], [p[1] for p in pairs], _tone(name, names)))  # type: ignore[misc]
        return found

    ranks = heads(rounds, "effective_rank")
    charts = [
        Chart(
            "Evenness of cluster sizes",
            series("entropy"),
            times,
            "entropy ÷ ln k: 1 is all alike, 0 is one cluster",
            True,
            1.0,
            True,
        ),
        Chart(
            f"Agreement with the {times} before",
            series("churn_nmi"),
            times,
            "NMI: rises as the clusters settle",
            True,
            1.0,
            True,
        ),
        Chart("Empty clusters", series("empty"), times, "", True, None, True),
        Chart(
            "Effective rank of the features",
            [_series(rounds, f"effective_rank/{n}", n, _tone(n, ranks), x=times) for n in ranks],
            times,
            "how many directions are in use: near 1 is a collapse",
            True,
            None,
            True,
        ),
        Chart(
            "k-means objective" if times == "round" else "Energy of the labels",
            series("objective"),
            times,
            "mean squared distance, within a round's features"
            if times == "round"
            else "mean −log p of the labels, in nats",
            True,
            None,
            True,
        ),
    ]
    drawn = "".join(figures.line_chart(chart) for chart in charts)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _series(
    records: Sequence[Mapping[str, Any]],
    key: str,
    name: str,
    tone: str,
    dashed: bool = False,
    x: str = "step",
) -> Series:
    pairs = []
    for index, record in enumerate(records):
        value, place = number(record.get(key)), number(record.get(x))
        if value is not None:
            pairs.append((float(index) if place is None else place, value))
    xs, ys = figures.thin([p[0] for p in pairs], [p[1] for p in pairs])
    return Series(name, xs, ys, tone, dashed)


def _labelled_by_heads(run: Run) -> bool:
    return run.setting("method") == "selavi"


def _head(name: str) -> str:
    return name.replace("<-", " ← ").replace("->", " → ")


def _tone(name: str, names: Sequence[str]) -> str:
    """Colour by the encoder that learns or asks, as everywhere on the page; by position when that is not unique."""

    def first(pair: str) -> str:
        return pair.split("<-")[0].split("->")[0]

    learner = first(name)
    rivals = [n for n in names if first(n) == learner]
    if learner in NAMES and len(rivals) == 1:
        return f"tone-{learner}"
    return f"tone-{list(names).index(name) % 6}"


def _round_marks(run: Run) -> list[tuple[float, str]]:
    first: dict[float, float] = {}
    for record in [*run.metrics.steps, *run.metrics.rounds]:
        which, step = number(record.get("round")), number(record.get("step"))
        if which is not None and step is not None:
            first[which] = min(step, first.get(which, math.inf))
    return [(step, f"round {which:g}") for which, step in sorted(first.items())]


def _times(run: Run) -> list[tuple[str, float]]:
    def total(records: Sequence[Mapping[str, Any]], key: str) -> float:
        return sum(number(r.get(key)) or 0.0 for r in records)

    parts = [
        ("waiting for data", total(run.metrics.epochs, "seconds_data")),
        ("computing", total(run.metrics.epochs, "seconds_compute")),
        ("extracting features", total(run.metrics.rounds, "seconds_extract")),
        ("clustering", total(run.metrics.rounds, "seconds_cluster")),
    ]
    known = sum(value for _, value in parts)
    whole = number((run.metrics.end or {}).get("seconds")) or 0.0
    if known and whole > known * 1.01:
        parts.append(("validation and the rest", whole - known))
    return parts


# ------------------------------------------------------------------------------------- maps and filters


def feature_maps(content: Content) -> str:
    """Canvases that page.js draws."""
    if not content.maps:
        return ""
    colours = [(f"cluster:{n}", f"{NAMES.get(n, n).lower()} cluster") for n in content.run.labellings]
    if content.truth is not None:
        colours.insert(0, ("class", "class"))
    tools = ""
    if colours:
        tools = (
            '<form class="tools" aria-label="Colour of the maps">'
            f'<label class="field">Colour by <select id="colour">{_options(colours)}</select></label>'
            '<label class="field">Highlight <select id="highlight"><option value="">all</option></select></label></form>'
        )
    figures_ = "".join(
        f'<figure class="map"><figcaption><h3>{escape(NAMES.get(m.name, m.name))} features</h3>'
        f'<p class="note">{m.method}, {len(m.clips):,} of {m.total:,} clips</p></figcaption>'
        f'<canvas data-map="{escape(m.name)}" role="img" '
        f'aria-label="{m.method} map of {len(m.clips)} clips by their {escape(m.name)} features"></canvas></figure>'
        for m in content.maps
    )
    return (
        '<p class="intro">Each point is a clip; clips that an encoder finds alike lie close. Only closeness has a '
        f'meaning, not the axes.</p>{tools}<div class="maps">{figures_}</div><ul class="legend" id="map-legend"></ul>'
    )


def filters(run: Run) -> str:
    """The first layers' weights as pictures (XDC, figure 3)."""
    parts = []
    for key, weight in run.weights.items():
        if key.endswith("video.stem.0.weight") and weight.ndim == 5 and weight.shape[1] == 3:
            frames = weight.transpose(0, 2, 3, 4, 1)  # (out, time, height, width, RGB)
            if frames.shape[1] == 1:
                parts.append(
                    figures.filter_figure(
                        "Video: spatial filters",
                        f"{len(weight)} filters of {weight.shape[3]}×{weight.shape[4]}: edges, colours, textures",
                        frames[:, 0],
                        9,
                        4,
                    )
                )
            else:
                side_by_side = np.concatenate(list(frames.transpose(1, 0, 2, 3, 4)), axis=2)
                note = f"{len(weight)} filters, their {frames.shape[1]} frames side by side: a change is motion"
                parts.append(figures.filter_figure("Video: filters in space and time", note, side_by_side, 4, 4))
        elif key.endswith("video.stem.3.weight") and weight.ndim == 5 and weight.shape[3:] == (1, 1):
            if weight.shape[2] > 1:
                note = f"{len(weight)} filters; each column a moment (t−1, t, t+1), each row a spatial filter"
                parts.append(figures.filter_figure("Video: temporal filters", note, weight[..., 0, 0], 16, 5))
        elif key.endswith(("audio.conv1.weight", "audio.stem.0.weight")) and weight.ndim == 4:
            tiles = weight[:, 0][:, ::-1]  # low frequencies at the bottom, as in a spectrogram
            note = f"{len(weight)} filters over the spectrogram: time runs right, pitch up"
            parts.append(figures.filter_figure("Audio: first filters", note, tiles, 8, 4))
    if not parts:
        return ""
    return (
        '<p class="intro">What each network looks for first. Each tile is stretched to its own full range; noise '
        f'means that it has hardly been trained.</p><div class="filter-row">{"".join(parts)}</div>'
    )


# ---------------------------------------------------------------------------------- files and settings


def files(run: Run) -> str:
    """Which files were not used, and why."""
    rejected = [video for video in run.videos if not video.usable]
    if not run.videos and not run.failures:
        return ""
    parts = []
    if not rejected and not run.failures:
        return f'<p class="intro">All {len(run.videos):,} files could be used, and none failed during the run.</p>'
    if rejected:
        counts = Counter(video.reason or "unknown" for video in rejected)
        rows = "".join(
            f'<li style="--share:{n / len(rejected):.3f}"><span>{escape(reason)}</span><b>{n:,}</b></li>'
            for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        )
        listed = "".join(
            f"<tr><td>{escape(v.path)}</td><td>{escape(v.reason)}</td><td>{escape(v.detail)}</td></tr>"
            for v in rejected[:LISTED_FILES]
        )
        parts.append(
            f"<h3>Not used: {len(rejected):,} of {len(run.videos):,}</h3>"
            f'<ul class="concepts reasons">{rows}</ul>'
            + _table(f"Which ({_listed(len(rejected))})", ("file", "reason", "detail"), listed)
        )
    if run.failures:
        listed = "".join(
            f"<tr><td>{escape(f.path or f.video_id)}</td><td>{escape(f.reason)}</td><td>{escape(f.detail)}</td>"
            f"<td>{escape(f.when)}</td></tr>"
            for f in run.failures[:LISTED_FILES]
        )
        parts.append(
            f"<h3>Failed during the run: {len(run.failures):,}</h3>"
            + _table(f"Which ({_listed(len(run.failures))})", ("file", "reason", "detail", "first at"), listed)
        )
    return "".join(parts)


def _listed(count: int) -> str:
    return f"the first {LISTED_FILES:,} of {count:,}" if count > LISTED_FILES else f"{count:,}"


def _table(title: str, columns: Sequence[str], body: str) -> str:
    head = "".join(f"<th>{name}</th>" for name in columns)
    return (
        f'<details class="table"><summary>{title}</summary><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def settings(run: Run) -> str:
    """The settings and the commands that make this run and this page again."""
    env = run.env
    command = env.get("command")
    if isinstance(command, list):
        command = shlex.join(str(part) for part in command)
    lines = []
    if env.get("commit"):
        lines.append(f"git checkout {env['commit']}")
    elif env.get("seehear_version"):
        lines.append(f"pip install seehear=={env['seehear_version']}")
    if command:
        lines.append(str(command))
    lines.append(f"seehear report {shlex.quote(str(run.folder))}")
    versions = "\n".join(f"{key}: {value}" for key, value in sorted(env.items()) if key != "command")
    parts = [
        f'<h3>Make it again</h3><pre class="commands" tabindex="0"><code>{escape(chr(10).join(lines))}</code></pre>'
    ]
    if run.config_text:
        parts.append(
            f'<details><summary>config.yaml</summary><pre tabindex="0"><code>{escape(run.config_text)}</code></pre></details>'
        )
    if versions:
        parts.append(
            f'<details><summary>env.json</summary><pre tabindex="0"><code>{escape(versions)}</code></pre></details>'
        )
    return "".join(parts)


def _footer(content: Content) -> str:
    version = str(content.run.env.get("seehear_version", ""))
    listed = (
        f" Of each cluster the {content.list_limit} closest clips are listed by name."
        if content.list_limit is not None
        else ""
    )
    return f"<p>Run by seehear {escape(version)}. This page is one file: it asks the network for nothing.{listed}</p>"


# ------------------------------------------------------------------------------------ data for page.js


def page_data(content: Content) -> dict[str, Any]:
    """What page.js needs, as columns: names once, numbers small."""
    run = content.run
    keep = set(range(len(run.clips)))
    if content.list_limit is not None:
        keep = {
            int(i)
            for labelling in run.labellings.values()
            for cluster in labelling.clusters()
            for i in labelling.members(cluster)[: content.list_limit]
        }
    order = sorted(keep)
    place = {(run.clips[i].video_id, round(run.clips[i].start_seconds, 3)): i for i in order}
    videos: dict[str, int] = {}
    clips: dict[str, list[float]] = {}
    extra: list[Clip] = []

    def add(key: int, clip: Clip) -> None:
        video = videos.setdefault(clip.video_id, len(videos))
        clips[str(key)] = [video, round(clip.start_seconds, 2), round(clip.end_seconds, 2)]

    for index in order:
        add(index, run.clips[index])
    maps: dict[str, Any] = {}
    whole = {(clip.video_id, round(clip.start_seconds, 3)): i for i, clip in enumerate(run.clips)}
    for m in content.maps:
        keys = []
        for clip in m.clips:
            at = (clip.video_id, round(clip.start_seconds, 3))
            key = place.get(at)
            if key is None:
                key = whole.get(at)
                if key is None:
                    key = len(run.clips) + len(extra)
                    extra.append(clip)
                    whole[at] = key
                add(key, clip)
                place[at] = key
            keys.append(key)
        maps[m.name] = {"clips": keys, "x": m.points[:, 0].tolist(), "y": m.points[:, 1].tolist()}
    shown = sorted(int(key) for key in clips)
    classes = content.truth.classes if content.truth is not None else []
    numbers = {name: i for i, name in enumerate(classes)}
    by_video = content.truth.by_video if content.truth is not None else {}
    names = run.paths
    return {
        "files": [PurePath(names[v]).name if v in names else v for v in videos],
        "clips": [clips[str(i)] for i in shown],
        "keys": shown,
        "classes": classes,
        "truth": [numbers.get(by_video.get(v, ""), -1) for v in videos],
        "labellings": {
            name: {
                "cluster": [int(la.cluster[i]) if i < len(run.clips) else -1 for i in shown],
                "rank": [_finite(la.rank[i]) if i < len(run.clips) else -1 for i in shown],
                "confidence": [
                    round(float(la.confidence[i]), 2)
                    if i < len(run.clips) and math.isfinite(la.confidence[i])
                    else None
                    for i in shown
                ],
            }
            for name, la in run.labellings.items()
        },
        "maps": maps,
    }


def _finite(value: float) -> float | int:
    if not math.isfinite(value):
        return -1
    return int(value) if value == int(value) else round(float(value), 4)


def _json(value: Any) -> str:
    """JSON that can stand in a script element: no `<` can end it, no `&` can be read as an entity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _resource(name: str) -> str:
    return resources.files("seehear.report").joinpath(name).read_text(encoding="utf-8")
