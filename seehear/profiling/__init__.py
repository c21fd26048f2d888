"""What limits a training: the decoder, the loader and the model measured alone and together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seehear.commands import command
from seehear.options import Settings, Videos, Where, Workers
from seehear.profiling.text import as_text

if TYPE_CHECKING:
    from seehear.profiling.measuring import Profile


@command(
    "profile",
    group="know",
    example="seehear profile VIDEOS --recipe small",
    text=lambda profile, _: as_text(profile),
    as_json=lambda profile: profile.as_dict(),
)
def profile(
    videos: Videos,
    *,
    recipe: str = "small",
    method: str | None = None,
    settings: Settings = (),
    where: Where = (),
    seconds: float = 20.0,
    sample: int = 100,
    workers: Workers = None,
) -> Profile:
    """Measure how fast clips are decoded, made into batches and learnt from; say what limits, and what would help.

    Nothing is kept: labels are drawn at random, and the weights are thrown away. The parts take turns in short slices,
    and medians are told, so that what else runs on the machine disturbs all alike.

    Args:
        recipe: A named configuration; see `seehear recipes`.
        method: What is learnt; see `seehear methods` (default xdc).
        seconds: How long to measure, without the look at the videos before.
        sample: Look at so many videos, evenly spread.

    Raises:
        UsageError: a setting or method is wrong.
        DataError: no usable video.
    """
    from seehear.errors import UsageError
    from seehear.pretraining.plan import make_config
    from seehear.profiling.measuring import profile as measure
    from seehear.progress import Progress

    if not seconds > 0 or sample < 1:
        raise UsageError("measuring takes some seconds and one video at least", "e.g. --seconds 20 --sample 100")
    decoders = () if workers is None else (f"data.workers={workers}",)
    config = make_config(method=method, recipe=recipe, settings=[*settings, *decoders], where=list(where))
    with Progress(quiet=None) as progress:
        return measure(videos, config, seconds=seconds, sample=sample, progress=progress)
