"""The head of the page: what the run is, whether it is well, and a summary in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seehear.cluster.kinds import range_text
from seehear.report.content import Content
from seehear.report.figures import duration
from seehear.report.gather import Run, number
from seehear.report.truth import agreement
from seehear.report.verdict import verdict

LISTED_WARNINGS = 50


def header(content: Content) -> dict[str, Any]:
    """The values of `header.html`."""
    run = content.run
    method = str(run.setting("method", default="This run"))
    method = {"selavi": "SeLaVi"}.get(method, method.upper())
    used = [video for video in run.videos if video.usable]
    seconds = sum(video.duration_seconds for video in used)
    learnt_from = {"FINETUNE": "the training split of ", "SUPERVISED": "the given classes of "}.get(method, "")
    return {
        "name": run.folder.resolve().name,
        "verdict": verdict(run),
        "warnings": [
            f"{_when(w)}{w.get('message', 'warning without a message')}" for w in run.metrics.warnings[:LISTED_WARNINGS]
        ],
        "warning_count": len(run.metrics.warnings),
        "method": method,
        "learnt_from": learnt_from,
        "videos": len(used) or len({clip.video_id for clip in run.clips}),
        "length": duration(seconds) if seconds else "",
        "how": "" if learnt_from else f" without labels{_in_rounds(run)}",
        "sentences": _sentences(content),
        "unusable": len(run.videos) - len(used),
        "facts": [(name, value) for name, value in _facts(run) if value],
    }


def _in_rounds(run: Run) -> str:
    rounds = len(run.metrics.rounds)
    unit = "clustering" if any("clustering" in record for record in run.metrics.rounds) else "round"
    return f" in {rounds} {unit}{'s' if rounds != 1 else ''}" if rounds else ""


def _sentences(content: Content) -> list[str]:
    """What was found, for a reader who knows nothing of clustering."""
    labellings = content.run.labellings
    kinds = {name: len(labelling.clusters()) for name, labelling in labellings.items()}
    told = _kinds(content.run)
    if "video" in kinds and "audio" in kinds:
        told.append(f"It grouped them into {kinds['video']} clusters by picture and {kinds['audio']} by sound.")
        shared = agreement(labellings["video"], labellings["audio"])
        if shared is not None:
            told.append(f"The two clusterings agree to {shared:.2f} (NMI: 0 is chance, 1 the same).")
    elif kinds:
        told.append("It grouped them into " + ", ".join(f"{k} {n} clusters" for n, k in kinds.items()) + ".")
    if content.truth is not None and content.scores:
        scores = ", ".join(
            f"{'joint' if n == 'both' else n} clusters reach NMI {s.nmi:.2f} and mean purity {s.purity:.2f}"
            for n, s in content.scores.items()
        )
        told.append(f"Against {len(content.truth.classes)} classes from {content.truth.source}: {scores}.")
    return told


def _kinds(run: Run) -> list[str]:
    """How many kinds were counted, and how many clips may belong to none of them."""
    if not run.kinds:
        return []
    k, low, high = (run.kinds.get(name) for name in ("k", "low", "high"))
    could = range_text(low, high, bool(run.kinds.get("more")))
    number = f"{k} kinds ({could})" if could else f"{k} kinds"
    told = ["It could not tell how many kinds there are." if k is None else f"It counted {number}."]
    doubtful = int(run.doubtful.sum())
    if doubtful:
        told.append(f"{doubtful:,} clip{'' if doubtful == 1 else 's'} may belong to no kind.")
    return told


def _facts(run: Run) -> list[tuple[str, str]]:
    env, end = run.env, run.metrics.end or {}
    seconds = number(end.get("seconds")) or max(
        (number(s.get("seconds")) or 0.0 for s in run.metrics.steps), default=0.0
    )
    machine = [str(env[key]) for key in ("gpu", "cpu", "platform") if env.get(key)]
    threads = f"{env['threads']} threads" if env.get("threads") else ""
    seen, memory = number(end.get("clips_seen")), number(end.get("peak_memory_bytes"))
    steps = run.metrics.step_count
    started = str(env.get("started_utc", ""))
    return [
        ("Method", str(run.setting("method", default=""))),
        ("Recipe", str(run.setting("recipe", default="") or "")),
        ("Sample", "{drawn:,} of {of:,} usable videos".format(**run.sample) if run.sample else ""),
        ("Seed", str(run.setting("seed", default=""))),
        ("Started", f"{started.replace('T', ' ')[:16]} UTC" if started else ""),
        ("Took", duration(seconds) if seconds else ""),
        ("Steps", f"{steps:,.0f}" if steps else ""),
        ("Clips seen", f"{seen:,.0f}" if seen else ""),
        ("Peak memory", f"{memory / 2**30:.1f} GiB" if memory else ""),
        ("seehear", " ".join(x for x in (str(env.get("seehear_version", "")), str(env.get("commit") or "")[:10]) if x)),
        ("PyTorch", str(env.get("torch", ""))),
        ("Machine", ", ".join(x for x in (*machine[:2], threads) if x)),
    ]


def _when(record: Mapping[str, Any]) -> str:
    where = [f"{key} {record[key]}" for key in ("round", "step") if record.get(key) is not None]
    return f"{', '.join(where)}: " if where else ""
