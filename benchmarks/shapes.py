"""Collections of every shape, made of real clips, to judge what chooses the number of kinds and their sizes.

    python benchmarks/shapes.py --list
    python benchmarks/shapes.py FOLDER [--shapes tail-sounds none-games] [--seeds 0 1 2] [--held-out]

For each shape and seed FOLDER/SHAPE-SEED.csv names clips of the two sets in SEEHEAR_DATA (training splits alone,
without the clips that are silent) with their label, which is for scoring only. Clips that must be made (another sound,
no kind) lie in FOLDER/made, once for all shapes; everything else is a path. A kind's share goes to another class with
each seed.

| family | sizes of the kinds |
|---|---|
| equal | all clips of all classes |
| mild | half of the classes have half as many |
| tail | a geometric series from the largest to a ninth of it |
| giant | one class is half of the clips |
| three, nine | so many classes |
| mixed | the classes of both sets, 21; equal, or with a tail |
| none | a fifth of the clips are of no kind |
| swapped | a tenth of the clips have the sound of a clip of another class |
| small, medium, large | 60, 200 and 900 clips; for the last, clips are recorded as for the demo |

Of no kind are, in equal parts: a sight and a sound of unlike classes of the other set; a sight of the set with a sound
of the other one (a voice-over); a drawn picture with a drawn sound, of six sorts each; and among games stretches
of longer videos in which no weapon is used.

DEVELOPMENT and HELD_OUT were fixed before any experiment. Of each pair of one family, `_first_is_for_development`
decides by a hash of its name; the whole sets were known before and can only be development. Seeds 0 to 2 are for
development. Seeds 3 to 5 were held out until they were looked at once, and have been known since; so were 6 to 8 after
them. Seeds 9 to 11 are held out now. Nothing may be chosen by looking at what is held out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from seehear.files import write_result
from seehear.media.encoding import Mp4Writer, Picture, Sound

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

SETS = {"games": "vizdoom_actions", "sounds": "photosound"}
DEVELOPMENT_SEEDS, KNOWN_SEEDS, HELD_OUT_SEEDS = (0, 1, 2), (3, 4, 5, 6, 7, 8), (9, 10, 11)
PAIRS = {
    "mild": ("mild-games", "mild-sounds"),
    "tail": ("tail-games", "tail-sounds"),
    "giant": ("giant-games", "giant-sounds"),
    "three": ("three-games", "three-sounds"),
    "nine": ("nine-sounds", "nine-mixed"),
    "mixed": ("mixed-equal", "mixed-tail"),
    "none": ("none-games", "none-sounds"),
    "swapped": ("swapped-games", "swapped-sounds"),
    "small": ("small-games", "small-sounds"),
    "medium": ("medium-games", "medium-sounds"),
    "large": ("large-games", "large-mixed"),
}
NO_KIND = "none"
_NO_KIND_SHARE, _SWAPPED_SHARE, _TAIL_RATIO = 0.2, 0.1, 9
_SECONDS = 3.0


def _first_is_for_development(family: str) -> bool:
    return int(hashlib.sha256(family.encode()).hexdigest(), 16) % 2 == 0


DEVELOPMENT = ("equal-games", "equal-sounds", *(p[not _first_is_for_development(f)] for f, p in PAIRS.items()))
HELD_OUT = tuple(pair[_first_is_for_development(family)] for family, pair in PAIRS.items())


@dataclass(frozen=True)
class Clip:
    """A clip of a set, or one made of clips."""

    path: Path
    label: str
    of: str
    """Name of the set."""
    swapped: bool = False
    """Its sound is that of a clip of another class."""


def clips_of(name: str, data: Path) -> dict[str, list[Clip]]:
    """The clips of a set's training split that can be heard, by class."""
    folder, found = data / SETS[name], {}
    with (folder / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            if row["split"] == "train" and float(row.get("audio_std") or 1) > 0:
                clip = Clip(folder / row["path"], row["label"], name)
                found.setdefault(row["label"], []).append(clip)
    return found


def sizes_of(family: str, classes: int, most: int) -> list[int]:
    """How many clips each class has, the largest first, if the largest may have `most`."""
    if family == "mild":
        return [most] * ((classes + 1) // 2) + [most // 2] * (classes // 2)
    if family == "tail":
        return [max(2, round(most * _TAIL_RATIO ** (-i / (classes - 1)))) for i in range(classes)]
    if family == "giant":
        return [most] + [most // (classes - 1)] * (classes - 1)
    return [most] * classes


def make(shape: str, seed: int, data: Path, folder: Path) -> Path:
    """Write FOLDER/SHAPE-SEED.csv, and the clips that it needs."""
    random = np.random.default_rng([int(hashlib.sha256(shape.encode()).hexdigest()[:8], 16), seed])
    family, of = shape.split("-")
    both = {name: clips_of(name, data) for name in SETS}
    if family == "mixed":
        of, family = "mixed", {"equal": "equal", "tail": "tail"}[of]
    own = both[of] if of in both else both["games"] | both["sounds"]
    if family == "none":
        clips = _with_no_kind(own, both["sounds" if of == "games" else "games"], of, data, folder / "made", random)
    elif family == "large":
        clips = [clip for of_class in own.values() for clip in of_class]
        clips += _recorded(folder / "recorded", 900 - len(clips), random)
    else:
        clips = _of_sizes(family, own, random)
    if family == "swapped":
        clips = _swapped(clips, folder / "made", random)
    rows = ["path,label,set,swapped", *(f"{c.path},{c.label},{c.of},{int(c.swapped)}" for c in clips)]
    out = folder / f"{shape}-{seed}.csv"
    write_result(out, "\n".join(rows) + "\n")
    return out


def _of_sizes(family: str, own: dict[str, list[Clip]], random: np.random.Generator) -> list[Clip]:
    names = [str(name) for name in random.permutation(sorted(own))]
    names = names[: {"three": 3, "nine": 9}.get(family, len(names))]
    total = {"small": 60, "medium": 200}.get(family)
    if total is not None:
        sizes = [total // len(names) + (i < total % len(names)) for i in range(len(names))]
    else:
        sizes = sizes_of(family, len(names), max(len(own[name]) for name in names))
    # A class that has too few clips for its place changes places with one that has enough.
    names.sort(key=lambda name: len(own[name]) < max(sizes))
    return [clip for name, size in zip(names, sizes, strict=True) for clip in _drawn(own[name], size, random)]


def _drawn(clips: Sequence[Clip], size: int, random: np.random.Generator) -> list[Clip]:
    return [clips[i] for i in sorted(random.permutation(len(clips))[:size])]


def _swapped(clips: list[Clip], made: Path, random: np.random.Generator) -> list[Clip]:
    """A tenth of the clips get each other's sound, never that of their own class."""
    for _ in range(100):
        chosen = random.permutation(len(clips))[: round(_SWAPPED_SHARE * len(clips))]
        for _ in range(10000):
            others = random.permutation(chosen)
            pairs = list(zip(chosen, others, strict=True))
            if all(clips[a].label != clips[b].label for a, b in pairs):
                found = list(clips)
                for a, b in pairs:
                    found[a] = Clip(dubbed(clips[a].path, clips[b].path, made), clips[a].label, clips[a].of, True)
                return found
    raise ValueError("the sounds of these clips cannot be swapped between classes")


def _with_no_kind(
    own: dict[str, list[Clip]],
    other: dict[str, list[Clip]],
    of: str,
    data: Path,
    made: Path,
    random: np.random.Generator,
) -> list[Clip]:
    """Clips of all classes, as many of each, and a fifth of the whole that are of no kind."""
    most = round(0.86 * max(len(clips) for clips in own.values()))
    clips, spare = [], []
    for of_class in own.values():
        order = random.permutation(len(of_class))
        clips += [of_class[i] for i in sorted(order[:most])]
        spare += [of_class[i] for i in order[most:]]
    count = round(len(clips) * _NO_KIND_SHARE / (1 - _NO_KIND_SHARE))
    foreign = [clip for of_class in other.values() for clip in of_class]

    def unlike() -> Path:
        a, b = (foreign[i] for i in random.permutation(len(foreign))[:2])
        return dubbed(a.path, b.path, made) if a.label != b.label else unlike()

    spoken = iter(random.permutation(len(spare)))
    pauses = iter(_pauses(data / "vizdoom_untrimmed", random) if of == "games" else [])
    kinds: list[Callable[[], Path]] = [
        unlike,
        lambda: dubbed(spare[next(spoken)].path, foreign[int(random.integers(len(foreign)))].path, made),
        lambda: drawn(int(random.integers(10**6)), made),
    ]
    if of == "games":
        kinds.append(lambda: cut(*next(pauses), made))
    return clips + [Clip(kinds[i % len(kinds)](), NO_KIND, of) for i in range(count)]


def _pauses(folder: Path, random: np.random.Generator) -> list[tuple[Path, float]]:
    """Stretches of 3 s of the training videos in which no weapon is used, in random order."""
    found = []
    for name, video in json.loads((folder / "annotations.json").read_text())["database"].items():
        if video["subset"] != "validation":
            continue
        at = 0.0
        for start, end in [*sorted(a["segment"] for a in video["annotations"]), (video["duration"], 0.0)]:
            found += [(folder / "videos" / f"{name}.mp4", at + _SECONDS * i) for i in range(int((start - at) // 3))]
            at = max(at, end)
    return [found[i] for i in random.permutation(len(found))]


def _recorded(folder: Path, count: int, random: np.random.Generator) -> list[Clip]:
    """Clips of the nine weapons, as many of each, that are in no set; recorded as for the demo."""
    from record_gameplay import WEAPONS, record

    each = -(-count // len(WEAPONS))
    record(folder, each, _SECONDS, 20_000, workers=1)
    with (folder / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    called = {"fist": "punch"}
    clips = [Clip(folder / row["path"], called.get(row["label"], row["label"]), "games") for row in rows]
    return [clips[i] for i in sorted(random.permutation(len(clips))[:count])]


def dubbed(sight: Path, sound: Path, folder: Path) -> Path:
    """The picture of one file with the sound of another, both as they are; made once."""
    target = folder / f"{sight.stem}+{sound.stem}.mp4"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".part")
        with av.open(str(sight)) as a, av.open(str(sound)) as b, av.open(str(temporary), "w", format="mp4") as out:
            streams = [(a, a.streams.video[0]), (b, b.streams.audio[0])]
            copies = [out.add_stream_from_template(stream) for _, stream in streams]
            for (container, stream), copy in zip(streams, copies, strict=True):
                for packet in container.demux(stream):
                    if packet.dts is not None:
                        packet.stream = copy
                        out.mux(packet)
        os.replace(temporary, target)
    return target


def cut(video: Path, start: float, folder: Path) -> Path:
    """Three seconds of a video, encoded anew; made once."""
    target = folder / f"{video.stem}_at_{start:.2f}.mp4"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        frames, waves = [], []
        with av.open(str(video)) as container:
            stream, heard = container.streams.video[0], container.streams.audio[0]
            rate, hz = float(stream.average_rate or 15), heard.rate
            for frame in container.decode(stream, heard):
                if not start <= frame.time < start + _SECONDS:
                    continue
                if isinstance(frame, av.VideoFrame):
                    frames.append(frame.to_ndarray(format="rgb24"))
                else:
                    waves.append(frame.to_ndarray().mean(0))
        _write(target, np.stack(frames), rate, np.concatenate(waves), hz)
    return target


def drawn(seed: int, folder: Path) -> Path:
    """A picture and a sound that are drawn, each of its own sort, so that such clips make no kind; made once."""
    target = folder / f"drawn_v2_{seed:06d}.mp4"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(seed)
        hz, rate = 22050, 15
        wide = _PICTURES[int(random.integers(len(_PICTURES)))](random)
        step = random.integers(-2, 3, 2)
        places = [np.clip(64 + step * i, 0, 128) for i in range(round(rate * _SECONDS))]
        frames = np.stack([wide[y : y + 128, x : x + 128] for y, x in places])
        times = np.arange(round(hz * _SECONDS)) / hz
        wave = _SOUNDS[int(random.integers(len(_SOUNDS)))](random, times)
        wave = wave * (1.05 + np.sin(2 * np.pi * random.uniform(0.2, 4) * times + random.uniform(0, 6)))
        _write(target, frames, rate, (0.5 * wave / np.abs(wave).max()).astype(np.float32), hz)
    return target


def _blots(random: np.random.Generator) -> np.ndarray:
    from PIL import Image

    cells = int(random.integers(2, 40))
    small = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))


def _flat(random: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(random.integers(0, 256, 3, dtype=np.uint8), (256, 256, 3))


def _stripes(random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:256, :256]
    angle, width = random.uniform(0, np.pi), random.uniform(4, 60)
    dark = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / width) > random.uniform(-0.7, 0.7)
    return random.integers(0, 256, (2, 3), dtype=np.uint8)[dark.astype(int)]


def _shade(random: np.random.Generator) -> np.ndarray:
    ends = random.integers(0, 256, (2, 3))
    along = np.linspace(0, 1, 256)[:, None, None]
    shade = np.broadcast_to((ends[0] * (1 - along) + ends[1] * along).astype(np.uint8), (256, 256, 3))
    return shade if random.random() < 0.5 else shade.transpose(1, 0, 2)


def _page(random: np.random.Generator) -> np.ndarray:
    """Lines as of text on paper, or light on dark."""
    ink, paper = random.integers(0, 80, 3), random.integers(170, 256, 3)
    page = np.empty((256, 256, 3), np.uint8)
    page[:] = paper
    height = int(random.integers(4, 14))
    for top in range(4, 250, 2 * height):
        at = 6
        while at < 240:
            wide = int(random.integers(6, 40))
            page[top : top + height, at : min(at + wide, 250)] = ink
            at += wide + int(random.integers(3, 9))
    return page if random.random() < 0.5 else 255 - page


def _discs(random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:256, :256]
    picture = np.array(_flat(random))
    for _ in range(int(random.integers(3, 30))):
        at, radius = random.integers(0, 256, 2), random.integers(5, 50)
        picture[(y - at[0]) ** 2 + (x - at[1]) ** 2 < radius**2] = random.integers(0, 256, 3)
    return picture


_PICTURES: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (_blots, _flat, _stripes, _shade, _page, _discs)


def _tones(random: np.random.Generator, times: np.ndarray) -> np.ndarray:
    return np.sum([np.sin(2 * np.pi * f * times) for f in random.uniform(80, 6000, int(random.integers(1, 6)))], axis=0)


def _clicks(random: np.random.Generator, times: np.ndarray) -> np.ndarray:
    return (random.random(len(times)) < random.uniform(2, 60) * times[1]).astype(float)


def _glide(random: np.random.Generator, times: np.ndarray) -> np.ndarray:
    start, end = random.uniform(60, 3000, 2)
    return np.sin(2 * np.pi * (start * times + (end - start) * times**2 / (2 * _SECONDS)))


def _coloured(random: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Noise of which one octave or so is left."""
    spectrum = np.fft.rfft(random.standard_normal(len(times)))
    at = np.arange(len(spectrum)) / _SECONDS
    centre = random.uniform(100, 5000)
    return np.fft.irfft(spectrum * np.exp(-((np.log2(at + 1) - np.log2(centre)) ** 2)), len(times))


def _beeps(random: np.random.Generator, times: np.ndarray) -> np.ndarray:
    pitch, every = random.uniform(200, 3000), random.uniform(0.1, 0.8)
    return np.sin(2 * np.pi * pitch * times) * (times % every < every * random.uniform(0.2, 0.7))


_SOUNDS: tuple[Callable[[np.random.Generator, np.ndarray], np.ndarray], ...] = (
    lambda random, times: random.standard_normal(len(times)), _tones, _clicks, _glide, _coloured, _beeps,
)  # fmt: skip


def _write(target: Path, frames: np.ndarray, rate: float, wave: np.ndarray, hz: int) -> None:
    temporary = target.with_suffix(".part")
    picture = Picture(frames.shape[2], frames.shape[1], rate, crf=20)
    with Mp4Writer(temporary, picture, Sound(hz, 96_000)) as writer:
        writer.add_frames(frames)
        writer.end_frames()
        writer.add_sound(wave)
    os.replace(temporary, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--list", action="store_true", help="print what is for development and what is held out")
    parser.add_argument("--shapes", nargs="+", help="those for development, unless others are named")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--held-out", action="store_true", help="the shapes and seeds that nothing was chosen by")
    asked = parser.parse_args()
    if asked.list:
        print(f"development (seeds {DEVELOPMENT_SEEDS}): {' '.join(DEVELOPMENT)}")
        print(f"held out (seeds {HELD_OUT_SEEDS}; {KNOWN_SEEDS} are known): {' '.join(HELD_OUT)}")
        return
    if asked.folder is None:
        parser.error("name a folder")
    held = asked.held_out
    shapes = asked.shapes or (HELD_OUT if held else DEVELOPMENT)
    seeds = asked.seeds or (HELD_OUT_SEEDS if held else DEVELOPMENT_SEEDS)
    if not held and (set(shapes) - set(DEVELOPMENT) or set(seeds) - set(DEVELOPMENT_SEEDS)):
        parser.error("a shape or seed is held out; --held-out makes it, once nothing is left to choose")
    asked.folder.mkdir(parents=True, exist_ok=True)
    for shape in shapes:
        for seed in seeds:
            path = make(shape, seed, Path(os.environ["SEEHEAR_DATA"]).resolve(), asked.folder.resolve())
            print(path, len(path.read_text().splitlines()) - 1)


if __name__ == "__main__":
    main()
