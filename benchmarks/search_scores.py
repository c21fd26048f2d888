"""What was chosen in search, on clips that runs were trained on: centring, the cut-off, the way across, copies.

    python benchmarks/search_scores.py runs/a runs/b --copies FOLDER

Runs must have been trained with a column `label` in their manifest; it judges and is not learnt from. `centred`: mean
precision at 10 among the other clips, of unit features as they are and less their mean. `nothing_like_it`: the classes
are taken out of the index one by one; of how many queries of that class, and of the others, it is said that there is
nothing like them. `across`: the own moment's place and precision at 10, of a fitted map on videos that it was not
fitted on. `--copies`: clips of a folder are encoded anew in three ways (three quarters the size, H.264 and AAC in MP4,
half the volume; half as large again, VP9 and Opus in WebM; MPEG-4 and MP3 in AVI), and all pairs are compared.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
from support import machine

from seehear.data.clips import held_out
from seehear.data.manifest import Manifest
from seehear.features.model import Model, table_bank
from seehear.media.fingerprints import Looks, looks_of
from seehear.media.identity import ANY_CONTENT
from seehear.search.across import Across, JointSpace, choose_correlations, choose_posteriors, own_moment_ranks, unit
from seehear.search.calibration import fit_scale
from seehear.search.duplicates import alike

RESULTS = Path(__file__).parent / "results" / "search_scores.json"
WAYS = {
    "smaller.mp4": (0.75, 0.5, "libx264", "aac", "fltp", 44100),
    "larger.webm": (1.5, 0.7, "libvpx-vp9", "libopus", "s16", 48000),
    "coarse.avi": (1.0, 0.3, "mpeg4", "libmp3lame", "s16p", 44100),
}


def precision(similarity: np.ndarray, classes: np.ndarray) -> float:
    best = np.argsort(-similarity, axis=1)[:, :10]
    return round(float((classes[best] == classes[:, None]).mean()), 4)


def of_run(run: Path) -> dict[str, Any]:
    bank = table_bank(pq.read_table(run / "features.parquet"))
    label = Manifest.load(run / "manifest.parquet").by_id("label")
    classes = np.array([label[ref.video_id] for ref in bank.refs])
    sight, sound = bank.features["video"], bank.features["audio"]
    found: dict[str, Any] = {"clips": len(classes)}
    for name, make in {"plain": unit, "centred": lambda x: unit(unit(x) - unit(x).mean(0))}.items():
        v, a = make(sight), make(sound)
        spaces = {"sight": v @ v.T, "sound": a @ a.T, "both": (v @ v.T + a @ a.T) / 2}
        for similarity in spaces.values():
            np.fill_diagonal(similarity, -9)
        found[name] = {by: precision(similarity, classes) for by, similarity in spaces.items()}
    found["nothing_like_it"] = {by: cut_off(similarity, classes) for by, similarity in spaces.items()}
    found["across"] = across(run, bank, classes)
    return found


def cut_off(similarity: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    told, alarms, rng = [], [], np.random.default_rng(0)
    for one in np.unique(classes):
        there, gone = np.flatnonzero(classes != one), np.flatnonzero(classes == one)
        among = similarity[np.ix_(there, there)]
        pairs = rng.choice(len(there), (2000, 2))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        scale = fit_scale(among.max(1), among[pairs[:, 0], pairs[:, 1]])
        told.append(float((scale.score(similarity[np.ix_(gone, there)].max(1)) < 0.5).mean()))
        alarms.append(float((scale.score(among.max(1)) < 0.5).mean()))
    return {"of_a_class_that_is_gone": round(float(np.mean(told)), 3), "of_others": round(float(np.mean(alarms)), 3)}


def across(run: Path, bank: Any, classes: np.ndarray) -> dict[str, Any]:
    model, ids = Model.load(run), [ref.video_id for ref in bank.refs]
    sight, sound = bank.features["video"], bank.features["audio"]
    out = np.array([held_out(video_id, 0.25) for video_id in ids])
    fitted = choose_correlations(sight[~out], sound[~out], [i for i, o in zip(ids, out, strict=True) if not o])
    ways: dict[str, Across] = {"map": fitted}
    if model.projections:
        ways["joint"] = JointSpace(model, {"video": "video", "audio": "audio"})
    if model.heads is not None:
        ways["posteriors"] = choose_posteriors(model, sight[~out], sound[~out])
    told = {}
    for name, way in ways.items():
        v, a = way.rows("video", sight), way.rows("audio", sound)
        similarity, rows = v @ a.T, np.flatnonzero(out)
        ranks = own_moment_ranks(v[rows], a[rows]), own_moment_ranks(a[rows], v[rows])
        told[name] = {
            "clips": len(rows),
            "kind": getattr(way, "kind", None),
            "own_moment_first": [round(float((r == 1).mean()), 3) for r in ranks],
            "own_moment_in_10": [round(float((r <= 10).mean()), 3) for r in ranks],
            "precision_at_10": [
                round(float(np.mean([(classes[np.argsort(-s)[:10]] == classes[r]).mean() for r, s in of])), 3)
                for of in (zip(rows, similarity[rows], strict=True), zip(rows, similarity.T[rows], strict=True))
            ],
        }
    return told


def encode(
    source: Path, target: Path, scale: float, volume: float, video: str, audio: str, form: str, rate: int
) -> None:
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        v, a = read.streams.video[0], read.streams.audio[0]
        picture, sound = write.add_stream(video, rate=v.average_rate), write.add_stream(audio, rate=rate)
        picture.width, picture.height = (int(side * scale) // 2 * 2 for side in (v.width, v.height))
        picture.pix_fmt, picture.bit_rate, sound.bit_rate = "yuv420p", 60_000 if scale < 1 else 150_000, 48_000
        to = av.AudioResampler(format=form, layout="mono", rate=rate)
        for packet in read.demux(v, a):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    made = frame.reformat(picture.width, picture.height, "yuv420p")
                    made.pts, made.time_base = frame.pts, frame.time_base
                    write.mux(picture.encode(made))
                    continue
                for part in to.resample(frame):
                    array = part.to_ndarray()
                    loud = av.AudioFrame.from_ndarray((array * volume).astype(array.dtype), form, "mono")
                    loud.sample_rate, loud.pts, loud.time_base = part.sample_rate, part.pts, part.time_base
                    write.mux(sound.encode(loud))
        write.mux(picture.encode(None))
        write.mux(sound.encode(None))


def look(path: Path) -> Looks:
    with av.open(str(path)) as file:
        seconds = (file.duration or 0) / 1e6
    return looks_of(str(path), ANY_CONTENT, 0.0, seconds, ("video", "audio"), False, 0)


def copies(folder: Path, clips: int = 120, encoded: int = 30) -> dict[str, Any]:
    files = sorted(p for p in folder.rglob("*.mp4"))
    random.Random(0).shuffle(files)
    looks = [look(path) for path in files[:clips]]
    found: dict[str, Any] = {"clips": len(looks), "pairs_of_different_clips": len(looks) * (len(looks) - 1) // 2}
    found["taken_for_copies"] = sum(alike(a, b) for i, a in enumerate(looks) for b in looks[:i])
    with tempfile.TemporaryDirectory() as place:
        for name, way in WAYS.items():
            hits = 0
            for number, path in enumerate(files[:encoded]):
                target = Path(place) / f"{number}_{name}"
                encode(path, target, *way)
                hits += alike(looks[number], look(target))
            found[name] = {"copies": encoded, "found": hits}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--copies", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    results["machine"] = machine()
    for run in given.runs:
        results.setdefault("runs", {})[run.name] = of_run(run)
    for folder in given.copies:
        results.setdefault("copies", {})[folder.name] = copies(folder)
    print(json.dumps(results, indent=1))
    given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
