"""Results of transfer in words, for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seehear.metrics.text import clustering_table, failure_lines, purity_tables

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = "kept"
"""Entry of a result with the file that it was kept in."""


def without_place(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result for JSON."""
    return {name: value for name, value in result.items() if name != KEPT}


def of_transfer(result: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The scores of a protocol on frozen features, and where they were kept."""
    return transfer_table(result) + _place(result)


def of_clustering(result: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The scores of clusters, with the clusters by purity if asked for."""
    return clustering_table(result) + (purity_tables(result) if given["purity"] else "") + _place(result)


def of_finetuning(result: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The scores of a finetuning."""
    return finetuning_table(result)


def of_predictions(table: pa.Table, given: Mapping[str, Any]) -> str:
    """How many segments were written, and where."""
    return f"{table.num_rows} segments: {given['out']}"


def of_table(table: str, given: Mapping[str, Any]) -> str:
    """The table itself, or where it was written."""
    return table if given["out"] is None else f"table: {given['out']}"


def _place(result: Mapping[str, Any]) -> str:
    return f"\nkept: {result[KEPT]}" if result.get(KEPT) else ""


def transfer_table(result: Mapping[str, Any]) -> str:
    """What was done with which videos, then a table: a row a modality and setting, a column what was scored."""
    lines = [f"{result['protocol']}: {result['description']}", _features(result)]
    if "note" in result:
        lines.append(result["note"])
    groups = result.get("baselines", {})
    if "splits" in result:
        for name, of_split in result["splits"].items():
            lines += _videos(of_split, f"{name}: ")
        lines.append(f"{'':<20}{'mean':>8}{'sd':>8}" + "".join(f"{name:>11}" for name in (*result["splits"], *groups)))
        for modality, scores in result["scores"].items():
            for setting, score in scores.items():
                found = [s["scores"] for s in result["splits"].values()] + list(groups.values())
                values = [scores[modality].get(setting) for scores in found]
                cells = "".join(f"{'':>11}" if of is None else f"{of['value']:>11.3f}" for of in values)
                lines.append(f"{modality + ' ' + setting:<20}{score['value']:>8.3f}{score['sd']:>8.3f}{cells}")
        return "\n".join(lines + failure_lines(result.get("failures", [])))
    lines += _videos(result)
    deviates = any("sd" in score for scores in result["scores"].values() for score in scores.values())
    head = f"{'':<20}{'score':>8}" + (f"{'sd':>8}" if deviates else "") + f"{'95 % interval':>16}"
    lines.append(head + "".join(f"{group:>11}" for group in groups))
    for modality, scores in result["scores"].items():
        for setting, score in scores.items():
            cells = f"{score['value']:>8.3f}"
            if deviates:
                cells += f"{score['sd']:>8.3f}" if "sd" in score else f"{'':>8}"
            cells += f"{score['low']:>10.3f}-{score['high']:.3f}"
            others = [group[modality].get(setting) for group in groups.values()]
            cells += "".join(f"{'':>11}" if of is None else f"{of['value']:>11.3f}" for of in others)
            lines.append(f"{modality + ' ' + setting:<20}{cells}")
    chosen = (f"{modality} " + " ".join(f"{k}={v}" for k, v in c.items()) for modality, c in result["chosen"].items())
    if result["chosen"]:
        lines.append("within the training split: " + "; ".join(chosen))
    if "cross_modal" in result:
        lines.append(f"{'across modalities':<36}{'own clip':>8}{'chance':>8}{'its class':>12}{'chance':>8}")
        for direction, found in result["cross_modal"].items():
            for setting, own in found["recall"].items():
                cells = f"{direction + ' ' + setting:<36}{own['value']:>8.3f}{own['chance']:>8.3f}"
                if of_class := result["cross_modal_classes"][direction].get(setting):
                    cells += f"{of_class['value']:>12.3f}{of_class['chance']:>8.3f}"
                lines.append(cells)
    if "captions" in result:
        told = result["captions"]
        note = f" ({told['note']})" if "note" in told else ""
        lines.append(f"texts: of {told['videos']} test videos, none of {told['without']} others{note}")
    return "\n".join(lines + failure_lines(result.get("failures", [])))


def _features(result: Mapping[str, Any]) -> str:
    if "features" in result:
        return f"features of {result['features']}"
    clips = f"{result['clips']}" + (f" x {result['averaged_clips']}" if result["averaged_clips"] > 1 else "")
    return f"frozen features: {clips} clips a video, {result['pooling']} pooling"


def _videos(result: Mapping[str, Any], begin: str = "") -> list[str]:
    """How many videos a split has, and how many it lacks."""
    lines = [f"{begin}{result['train_videos']} training videos, {result['test_videos']} test videos"]
    for part, counts in result["missing"].items():
        if any(counts.values()):
            left_out = (f"{n} {why.replace('_', ' ')}" for why, n in counts.items() if n)
            lines.append(f"{begin}left out of {part}: " + ", ".join(left_out))
    if result["videos_of_other_splits"]:
        lines.append(f"{begin}of other splits: {result['videos_of_other_splits']}")
    return lines


def finetuning_table(result: Mapping[str, Any]) -> str:
    """A result for a person."""
    lines = [f"finetune: {result['description']}"]
    if "splits" in result:
        lines.append(f"mean over {len(result['splits'])} splits of {result['data']}, {result['clips']} clips a video")
        names = list(result["splits"])
        lines.append(f"{'':<20}{'mean':>8}{'sd':>8}" + "".join(f"{name:>10}" for name in names))
        for modality, scores in result["scores"].items():
            for setting, of in scores.items():
                each = (result["splits"][name]["scores"][modality][setting]["value"] for name in names)
                cells = f"{of['value']:>8.3f}{of['sd']:>8.3f}" + "".join(f"{value:>10.3f}" for value in each)
                lines.append(f"{modality + ' ' + setting:<20}{cells}")
        lines += [f"{name}: {line}" for name in names for line in _left_out(result["splits"][name])]
        return "\n".join(lines)
    lines.append(
        f"{result['data']}, {result['split']}: {result['clips']} clips a video; "
        f"{result['train_videos']} training videos, {result['test_videos']} test videos, {result['classes']} classes"
    )
    chance = result["baselines"]["chance"]
    lines.append(f"{'':<20}{'score':>8}{'95 % interval':>16}{'chance':>9}")
    for modality, scores in result["scores"].items():
        for setting, of in scores.items():
            interval = f"{of['low']:>10.3f}-{of['high']:.3f}"
            by_chance = f"{chance[modality][setting]['value']:>9.3f}"
            lines.append(f"{modality + ' ' + setting:<20}{of['value']:>8.3f}{interval}{by_chance}")
    rates = ", ".join(f"{name} {of['base_lr']:g}" for name, of in result["chosen"].items())
    search = result["search"]
    how = f" (best on {search['held_out_videos']} held-out training videos)" if search else ""
    lines.append(f"learning rate: {rates}{how}")
    return "\n".join(lines + _left_out(result))


def _left_out(result: Mapping[str, Any]) -> list[str]:
    lines = []
    for part, counts in result["missing"].items():
        if any(counts.values()):
            lines.append(f"left out of {part}: " + ", ".join(f"{n} {why}" for why, n in counts.items() if n))
    if result["test_classes_not_trained"]:
        lines.append(f"test classes without a training video: {', '.join(result['test_classes_not_trained'])}")
    if "note" in result:
        lines.append(result["note"])
    return lines + failure_lines(result["failures"])
