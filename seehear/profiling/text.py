"""A profile in words: the rates, what limits, what to change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seehear.profiling.measuring import Profile

SMALLER = 1.2
"""Videos whose short side is larger than the recipe's by this factor gain by smaller copies."""


def advice(profile: Profile) -> list[str]:
    """What to change, the likeliest first; each line says what it would bring."""
    if profile.limit == "model":
        return [
            "data keeps up: a faster device helps, or smaller clips (clip.crop_px, clip.frames); more decoding does not"
        ]
    found = []
    if not profile.from_cache:
        if profile.cached is not None and profile.cached > 1.15 * profile.loader:
            found.append(
                f"data.cache_gib={math.ceil(profile.cache_gib * 1.1)} (or a little more) keeps all videos decoded on "
                f"disk: batches then come at {profile.cached:.0f} clips/s"
            )
        elif profile.allowed_cache_gib <= 0:
            found.append(
                f"data.cache_gib={math.ceil(profile.cache_gib * 1.1)} would keep all videos decoded on disk, and every "
                "epoch but the first reads them there"
            )
        if not profile.prepared:
            found.append(f"{prepare_command(profile)} makes copies that decode faster{_larger(profile)}")
        if profile.workers < profile.cores:
            found.append(f"data.workers={profile.cores}: {profile.workers} processes decode, and there are more cores")
        else:
            found.append(
                f"more cores: {profile.cores_needed:.1f} decode as fast as the model learns, and there are "
                f"{profile.cores}"
            )
    if profile.limit == "making batches":
        found.append("augmentation and spectrograms take the time: a GPU makes them beside the step, if there is one")
    return found


def prepare_command(profile: Profile) -> str:
    """The command that makes copies of the recipe's size."""
    side = profile.wanted_side_px + profile.wanted_side_px % 2
    return f"seehear prepare VIDEOS --out prepared/ --short-side {side} --audio-rate {profile.sample_rate_hz}"


def _larger(profile: Profile) -> str:
    if profile.short_side_px < SMALLER * profile.wanted_side_px:
        return " (little: they are no larger than what the recipe takes)"
    return f": the videos' short side has {profile.short_side_px} pixels, the recipe takes {profile.wanted_side_px}"


_LIMITS = {
    "model": "the model limits",
    "decoding": "decoding limits",
    "making batches": "making batches of what was decoded limits",
    "nothing alone": "data and model are about as fast as each other",
}


def as_text(profile: Profile) -> str:
    """The rates in a table, what limits, what to change."""
    rows = [
        (f"decoder, on one core of {profile.cores}", profile.decoder_a_core),
        (f"loader from files, {profile.workers} decoding processes", profile.loader),
    ]
    if profile.cached is not None:
        rows.append(("loader from the cache", profile.cached))
    rows.append((f"model on {profile.device}", profile.model))
    rows.append((f"together, from {'the cache' if profile.from_cache else 'files'}", profile.together))
    sample = f"{profile.sample} of {profile.videos} videos"
    head = f"{profile.recipe}, {profile.method}: {sample}, medians of slices taken in turn"
    lines = [head, *(f"  {name:<44}{rate:9.1f} clips/s" for name, rate in rows)]
    words = f"{_LIMITS[profile.limit]}; training waited for data {profile.waiting:.0%} of the time"
    if profile.device == "cpu":
        words += " (decoding and model share the cores)"
    return "\n".join([*lines, words, *(f"  -> {line}" for line in advice(profile))])
