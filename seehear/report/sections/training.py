"""Training: losses, accuracies and validation, learning rate, and where the time went."""

from __future__ import annotations

from typing import Any

from seehear.report.content import Content
from seehear.report.curves import Records, arrows, by_head, round_marks, series, tone
from seehear.report.figures import Chart, plots, stacked_bar
from seehear.report.gather import Run, heads, number
from seehear.report.section import Section

_CONTRASTS = (
    ("loss", "Loss by pair of modalities", "dashed: on videos not trained on; its batches may be smaller", False, None),
    ("accuracy", "Top-1 accuracy", "how often the nearest candidate in a batch is a correct one", True, 1.0),
    ("alignment", "Alignment", "mean squared distance of what should agree: 0 is the same point", True, None),
    ("uniformity", "Uniformity", "lower is more evenly spread; 0 is a collapse to one point", False, None),
)
"""A contrastive method's values: the name in the log, title, note, whether the axis begins at 0, and where it ends."""


def gather(content: Content) -> dict[str, Any] | None:
    """Curves over steps, of a contrastive method over epochs; None for a run that has not trained yet."""
    run = content.run
    contrastive = bool(heads(run.metrics.epochs, "alignment"))
    charts = contrast_charts(run.metrics.epochs) if contrastive else _loss_charts(run)
    drawn = plots([*charts, *_step_charts(run)])
    bar = stacked_bar("Where the time went", _times(run))
    return {"plots": drawn, "bar": bar} if drawn or bar else None


def _loss_charts(run: Run) -> list[Chart]:
    """Loss and accuracy over steps, with their values on what was held out."""
    steps, epochs, marks = run.metrics.steps, run.metrics.epochs, round_marks(run)
    loss = by_head(steps, "loss") or [series(steps, "loss", "loss", "tone-0")]
    accuracy = by_head(steps, "accuracy") + by_head(epochs, "validation_accuracy", True, ", held out")
    given = run.setting("method") in ("finetune", "supervised")
    held_out = by_head(epochs, "validation_loss") or [series(epochs, "validation_loss", "validation", "tone-0")]
    return [
        Chart("Loss", loss, marks=marks, note="lines mark where a round starts" if len(marks) > 1 else ""),
        Chart(
            f"Accuracy at the {'given classes' if given else 'pseudo-labels'}",
            accuracy,
            marks=marks,
            from_zero=True,
            top=1.0,
        ),
        Chart("Validation loss", held_out, marks=marks, note="on videos not trained on, after each epoch"),
    ]


def contrast_charts(epochs: Records) -> list[Chart]:
    """A contrastive method's curves over epochs, one for each pair of modalities, in training and held out."""
    records = [{**record, "nth": n} for n, record in enumerate(epochs, 1)]
    charts = []
    for prefix, title, note, from_zero, top in _CONTRASTS:
        names = heads(records, prefix)
        curves = [
            series(records, f"{part}{prefix}/{name}", arrows(name) + suffix, tone(name, names), dashed, "nth")
            for part, suffix, dashed in (("", "", False), ("validation_", ", held out", True))
            for name in names
        ]
        charts.append(Chart(title, curves, "epoch", note, from_zero, top, whole_x=True))
    return charts


def _step_charts(run: Run) -> list[Chart]:
    """What is logged of every step whatever the method."""
    marks = round_marks(run)
    return [
        Chart(title, [series(run.metrics.steps, key, name, "tone-0")], marks=marks, from_zero=True)
        for title, key, name in (
            ("Learning rate", "learning_rate", "learning rate"),
            ("Gradient norm", "gradient_norm", "norm"),
            ("Speed", "clips_per_second", "clips a second"),
        )
    ]


def _times(run: Run) -> list[tuple[str, float]]:
    parts = [
        ("waiting for data", _total(run.metrics.epochs, "seconds_data")),
        ("computing", _total(run.metrics.epochs, "seconds_compute")),
        ("extracting features", _total(run.metrics.rounds, "seconds_extract")),
        ("clustering", _total(run.metrics.rounds, "seconds_cluster")),
    ]
    known = sum(value for _, value in parts)
    whole = number((run.metrics.end or {}).get("seconds")) or 0.0
    if known and whole > known * 1.01:
        parts.append(("validation and the rest", whole - known))
    return parts


def _total(records: Records, key: str) -> float:
    return sum(number(r.get(key)) or 0.0 for r in records)


SECTION = Section("training", "Training", gather)
