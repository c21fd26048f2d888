"""What is said in a terminal of weights: those that were read, imported or exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def weights_text(told: Mapping[str, Any]) -> str:
    """What `show_weights` found, for people."""
    lines = [f"{s['encoder']}: {s['tensors']} tensors of {s['file']} ({s['layout']})" for s in told["sources"]]
    lines += [f"sha-256 {digest}" for digest in dict.fromkeys(s["sha256"] for s in told["sources"])]
    for name, e in told["encoders"].items():
        if "trained" in e:
            lines.append(
                f"{name}: {e['encoder']}, trained {e['trained']}, {e['features']} features,"
                f" {e['parameters']:,} parameters"
            )
            continue
        extra = (
            f", mid-planes per {e['mid_planes']}" if e["encoder"].startswith("r2plus1d") and "mid_planes" in e else ""
        )
        lines.append(
            f"{name}: {e['encoder']} of width {e['width']}{extra}, batch norm eps {e['bn_eps']:g},"
            f" {e['features']} features, {e['parameters']:,} parameters"
        )
    for stream, values in told["preprocessing"].items():
        lines.append(f"{stream} inputs")
        lines += [f"  {key}: {value}" for key, value in values.items()]
    if told["clusters"]:
        lines.append("clusters: " + ", ".join(f"{count} of {name}" for name, count in told["clusters"].items()))
    elif not told["classes"]:
        lines.append("no clusters: `seehear label` needs some; embed, evaluate and finetune do not")
    if told["heads"]:
        lines.append(told["heads"])
    if told["classes"]:
        lines.append(f"names {len(told['classes'])} classes: {', '.join(told['classes'])}")
    if told.get("statistics"):
        lines.append(f"statistics: {told['statistics']}")
    if told["unused"]:
        lines.append(f"not used ({len(told['unused'])}): {', '.join(told['unused'])}")
    lines += [f"exact: {text}" for text in told.get("exact", ())]
    lines += [f"not exact: {text}" for text in told.get("inexact", ())]
    return "\n".join([*lines, *(f"note: {note}" for note in told["notes"])])


def of_import(told: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What was imported, and where it is."""
    return f"{weights_text(told)}\nrun: {given['out']}"


def of_export(told: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What was written, and how far it is from its source."""
    lines = [f"{', '.join(told['encoders'])}: {given['out']}"]
    if "input" in told:
        lines.append(f"input {told['input']}, output {told['output']}")
    return "\n".join([*lines, f"largest difference from the source: {told['max_difference']:.3g}"])
