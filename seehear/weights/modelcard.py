"""The README.md of a model folder for a hub: what the model is, what it learnt from, and how it wants its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import seehear
from seehear.data.manifest import Manifest
from seehear.engine.runfolder import RunFolder

_METHODS = {
    "gdt": "GDT (Patrick et al., 2020), contrastive learning over data transformations",
    "avts": "AVTS (Korbar et al., 2018), audio-visual temporal synchronisation",
    "rotation": "3DRot (Jing and Tian, 2018), rotation prediction",
    "selavi": "SeLaVi (Asano et al., 2020), self-labelling by optimal transport",
    "supervised": "supervised training on class labels",
    "finetune": "finetuning on class labels",
}
_CLUSTERING = "deep clustering across modalities (XDC and its family, Alwassel et al., 2020)"


def model_card(name: str, facts: Mapping[str, Any], folder: RunFolder, provenance: Mapping[str, Any]) -> str:
    """The card of a model.

    `facts` are those of `seehear.weights.description.describe`, `provenance` is of imported weights.
    """
    method = facts["method"]
    parts = [
        "---\nlibrary_name: seehear\ntags:\n- video\n- audio\n- self-supervised\n---",
        f"# {name}",
        f"Encoders for video{' and sound' if 'audio' in facts['preprocessing'] else ''}, "
        f"`{method}`: {_METHODS.get(method, _CLUSTERING)}.",
        "## Encoders",
        _table(["encoder", "sees", "kind", "features", "parameters"], [
            [f"`{key}`", e["sees"], _kind(e), e["features"], f"{e['parameters']:,}"]
            for key, e in facts["encoders"].items()
        ]),
    ]  # fmt: skip
    held = [f"clusters of `{labelling}`: {count}" for labelling, count in facts["clusters"].items()]
    held += [facts["heads"]] if facts["heads"] else []
    held += [f"linear classifiers of {', '.join(facts['classes'])}"] if facts["classes"] else []
    if held:
        parts.append("Also in the file: " + "; ".join(held) + ".")
    parts += ["## Data", _data(folder, provenance), "## Preprocessing"]
    parts.append("Features of clips made otherwise are worse without any error. The same is in `preprocessing.json`.")
    for stream, values in facts["preprocessing"].items():
        rows = [
            [key, f"`{json.dumps(value)}`" if not isinstance(value, str) else value] for key, value in values.items()
        ]
        parts += [f"### {stream}", _table(["", ""], rows)]
    parts += [
        "## Use",
        "```python\nfrom seehear.features.model import Model\n\n"
        f'model = Model.from_pretrained("{name}")\ntable = model.embed("videos/")\n```',
        f"or `seehear weights import {name} --out runs/{name}`, after which every command takes `runs/{name}`.",
        "## Limits",
        "The features reflect the videos that they were learnt from, their gaps and biases included. Clusters are"
        " groups of what looks or sounds alike to the encoders, not verified classes. No licence is stated here: add"
        " that of the weights and, where they were imported, keep to that of their source.",
        f"Written by seehear {seehear.__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def _data(folder: RunFolder, provenance: Mapping[str, Any]) -> str:
    if provenance:
        files = {(s["file"], s["sha256"], s["layout"]): None for s in provenance["sources"]}
        rows = [[f"`{file}`", layout, f"`{digest}`"] for file, digest, layout in files]
        said = f" Statistics: {provenance['statistics']}." if provenance.get("statistics") else ""
        return (
            f"Imported weights; see their source for what they were trained on.{said}\n\n"
            + _table(["file", "layout", "SHA-256"], rows)
        )  # fmt: skip
    if not folder.manifest.exists():
        return "Not known: the folder of the run was not at hand."
    videos = Manifest.load(folder.manifest).usable_rows()
    seconds = sum(max(row["video_duration_seconds"] or 0, row["audio_duration_seconds"] or 0) for row in videos)
    return (
        f"Learnt from {len(videos)} videos, {seconds / 3600:.1f} hours. Neither they nor their names, labels or"
        " features are in this folder."
    )


def _kind(facts: Mapping[str, Any]) -> str:
    if "trained" in facts:
        return f"`{facts['encoder']}`, trained {facts['trained']}"
    return f"{facts['encoder']}, width {facts['width']}"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
