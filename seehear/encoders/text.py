"""What is said in a terminal of encoders of others."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def listed(kinds: Sequence[Mapping[str, Any]]) -> str:
    """The kinds, what each needs, and the networks that are known."""
    lines = []
    for kind in kinds:
        lines.append(f"{kind['kind']}: {kind['what']} ({' and '.join(kind['modalities'])})")
        lines.append(f"    as in {kind['example']}")
        if kind["needs"]:
            needs = [f"{n} {version}" if version else f"{n}, which is missing" for n, version in kind["needs"].items()]
            lines.append(f"    needs {', '.join(needs)}")
        if kind["remedy"]:
            lines.append(f"    -> {kind['remedy']}")
        alike: dict[tuple[str, str], list[str]] = {}
        for network in kind["networks"]:
            alike.setdefault((network["modality"], network["feature"]), []).append(network["title"])
        for (modality, feature), titles in alike.items():
            lines += wrapped(f"{', '.join(titles)} ({modality}): {feature}")
    return "\n".join([*lines, "", "More of one: seehear encoders show KIND:PLACE"])


def wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 112, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False)


def shown(found: Sequence[Mapping[str, Any]]) -> str:
    """One or two encoders of a specification."""
    return "\n\n".join(_one(facts) for facts in found)


def _one(facts: Mapping[str, Any]) -> str:
    wanted = facts["wanted"]
    lines = [f"{facts['title']}, an encoder of {facts['modality']}"]
    lines.append(f"from:       {facts['spec']}")
    if facts["modality"] == "video":
        frames = f"{wanted.get('frames', 'any number of')} frames"
        if "frame_rate_hz" in wanted:
            frames += f" at {wanted['frame_rate_hz'] / wanted.get('stride', 1):g} a second"
        lines.append(f"sees:       {frames}, {wanted.get('crop_px', 'any')} px square")
    else:
        seconds = f"{wanted['audio_seconds']:g} s" if "audio_seconds" in wanted else "any length"
        lines.append(f"hears:      {seconds} at {wanted['sample_rate_hz']} samples a second")
    lines += textwrap.wrap(
        f"feature:    {facts['feature_dim']} numbers: {facts['feature']}", 112, subsequent_indent=" " * 12
    )
    parameters = f"{facts['parameters']:,} parameters, " if facts["parameters"] is not None else ""
    lines.append(f"size:       {parameters}{facts['weights_bytes'] / 2**20:.3g} MiB of weights")
    lines.append(f"licence:    {facts['licence'] or 'not said where it lies; ask where it is from'}")
    lines.append(f"tuning:     {'possible' if facts['trainable'] else 'not possible: no gradient passes through it'}")
    lines.append(f"here:       {facts['here']}")
    if facts["clips_per_second"] is not None:
        lines.append(
            f"measured:   {facts['clips_per_second']:.3g} clips a second with {facts['threads']} "
            f"thread{'s' if facts['threads'] > 1 else ''}, {facts['milliseconds_preparing']:.3g} ms of each for "
            f"its preprocessing; at most {facts['peak_bytes'] / 2**20:,.0f} MiB of memory in all"
        )
    settings = " ".join(f"clip.{name}={value:g}" for name, value in wanted.items())
    return "\n".join([*lines, f"settings:   {settings}"])


def fetched(found: Mapping[str, Any]) -> str:
    """What was fetched, and what to call it."""
    return f"{found['spec']}: {found['bytes'] / 2**20:,.0f} MiB in {found['folder']}"
