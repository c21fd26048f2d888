"""Record real videos with sound: a computer plays Freedoom levels, and each clip shows one of nine weapons in use.

    python examples/record_gameplay.py footage --clips 40

The game engine (the `vizdoom` package, which brings the free Freedoom levels) renders picture and sound
together, so what is heard is what is seen. No screen and no sound device is needed. Below the given folder
this writes

    footage/map03/clip_0042.mp4     160x120, 17.5 frames a second, 22.05 kHz mono; the name tells no class
    truth.csv                       path,label: for scoring only

The same seed gives the same clips, whatever the number of processes. A recording that was interrupted goes
on where it stopped, and a finished one is left alone.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TICS_PER_SECOND = 35  # the game's own clock
TICS_PER_FRAME = 2
SAMPLE_RATE_HZ = 22050
WIDTH_PX, HEIGHT_PX = 160, 120
MAPS = [f"map{number:02d}" for number in range(1, 17)]


@dataclass(frozen=True)
class Weapon:
    """How a class comes about: the game's name of the weapon, its slot, and how often the trigger is pulled."""

    item: str
    slot: int
    period_tics: int


WEAPONS = {
    "fist": Weapon("Fist", 1, 20),
    "chainsaw": Weapon("Chainsaw", 1, 60),
    "pistol": Weapon("Pistol", 2, 24),
    "shotgun": Weapon("Shotgun", 3, 44),
    "super_shotgun": Weapon("SuperShotgun", 3, 66),
    "chaingun": Weapon("Chaingun", 4, 30),
    "rocket_launcher": Weapon("RocketLauncher", 5, 32),
    "plasma_rifle": Weapon("PlasmaRifle", 6, 36),
    "energy_cannon": Weapon("BFG9000", 7, 70),
}
RELEASE_TICS = 4  # the trigger is let go for so long in every period
DRAW_TICS = 45  # until the weapon asked for is in the hand
ATTEMPTS = 20
SILENCE = 100  # a fist that hits nothing makes no sound; such a clip is taken again

OWN_VIDEOS = "The demo also runs on videos of your own: make demo VIDEOS=folder"


class RecordError(Exception):
    """The game cannot be recorded here; the message says what to do."""


@dataclass(frozen=True)
class Task:
    """One visit to a level that yields one clip of every class."""

    level: str
    seed: tuple[int, int]
    tics: int
    clips: tuple[tuple[str, str], ...]
    """Path of the clip below the folder, and its class."""


def plan(clips_per_class: int, seconds: float, seed: int) -> list[Task]:
    """Every visit to a level; more clips a class only add visits at the end."""
    frames = int(np.ceil(seconds * TICS_PER_SECOND / TICS_PER_FRAME))
    tasks = []
    for visit in range(clips_per_class):
        level = MAPS[visit % len(MAPS)]
        order = np.random.default_rng((seed, visit)).permutation(len(WEAPONS))
        numbers = range(visit * len(WEAPONS), (visit + 1) * len(WEAPONS))
        labels = [list(WEAPONS)[i] for i in order]
        clips = tuple((f"footage/{level}/clip_{n:04d}.mp4", label) for n, label in zip(numbers, labels, strict=True))
        tasks.append(Task(level, (seed, visit), frames * TICS_PER_FRAME, clips))
    return tasks


def record(
    out: str | os.PathLike[str],
    clips_per_class: int = 40,
    seconds: float = 3.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    *,
    workers: int | None = None,
    with_broken: bool = False,
) -> Path:
    """Record clips of nine classes below `out` and return the folder of the videos.

    `progress` is called with the clips that are there and the clips there will be. `with_broken` adds a
    few files that cannot be used, as any collection has them.
    """
    if clips_per_class < 1 or seconds <= 0:
        raise ValueError("clips_per_class and seconds must be positive")
    folder = Path(out).resolve()
    wanted = {"clips_per_class": clips_per_class, "seconds": seconds, "seed": seed}
    tasks = plan(clips_per_class, seconds, seed)
    total = sum(len(task.clips) for task in tasks)
    about = folder / "recording.json"
    known = json.loads(about.read_text()) if about.exists() else None
    if known is not None and known["settings"] != wanted:
        raise RecordError(
            f"{folder} holds a recording with other settings: {known['settings']}. Choose another folder."
        )
    todo = [task for task in tasks if not all((folder / path).exists() for path, _ in task.clips)]
    done = total - sum(len(task.clips) for task in todo)
    if todo:
        _check_game()
        folder.mkdir(parents=True, exist_ok=True)
        _write_text(about, json.dumps({"settings": wanted}, indent=1))
        if progress:
            progress(done, total)
        _record_all(folder, todo, workers, lambda clips: progress(done + clips, total) if progress else None)
    if todo or not (folder / "truth.csv").exists():
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["path", "label"])
        rows.writerows(sorted(clip for task in tasks for clip in task.clips))
        _write_text(folder / "truth.csv", table.getvalue())
    elif progress:
        progress(total, total)
    if with_broken:
        _add_broken(folder / "footage", folder / tasks[0].clips[0][0])
    return folder / "footage"


def _record_all(folder: Path, tasks: list[Task], workers: int | None, progress: Callable[[int], None]) -> None:
    count = min(len(tasks), workers or os.cpu_count() or 1)
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        clips = 0
        for future in as_completed([pool.submit(_record_task, folder, task) for task in tasks]):
            clips += future.result()
            progress(clips)
    except BrokenProcessPool as error:
        raise RecordError(f"A recording process died ({error}). Run this again to go on. {OWN_VIDEOS}") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check_game() -> None:
    if importlib.util.find_spec("vizdoom") is None:
        raise RecordError(
            "The package vizdoom, which renders the game, is not installed. "
            "Install it with: pip install -c constraints.txt -e '.[demo]' "
            f"(it has wheels for Linux and for macOS on Apple silicon). {OWN_VIDEOS}"
        )


def _find_sound_library() -> None:
    """Let the engine find OpenAL, with which it mixes its sound: the one that the package `cyal` carries comes first.

    The engine is a process of its own that looks for `libopenal.so.1` as it starts; without it the game is mute.
    """
    spec = importlib.util.find_spec("cyal")
    if spec is None or not spec.submodule_search_locations or not sys.platform.startswith("linux"):
        return
    places = [spec.submodule_search_locations[0], os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, places))


def _record_task(folder: Path, task: Task) -> int:
    """Play one level and write its clips; runs in a process of its own."""
    import vizdoom

    _find_sound_library()
    with tempfile.TemporaryDirectory(prefix="gameplay-") as scratch:
        here = Path.cwd()
        os.chdir(scratch)  # where the engine leaves its settings
        try:
            player = _Player(task.level, task.seed)
            try:
                for path, label in task.clips:
                    write_clip(folder / path, *player.play(label, task.tics))
            finally:
                player.game.close()
        except (vizdoom.ViZDoomErrorException, vizdoom.ViZDoomUnexpectedExitException) as error:
            raise RecordError(f"The game engine failed on {task.level}: {error}. {OWN_VIDEOS}") from error
        finally:
            os.chdir(here)
    return len(task.clips)


class _Player:
    """A game in which somebody unhurt and well armed strolls about and shoots."""

    def __init__(self, level: str, seed: tuple[int, int]) -> None:
        import vizdoom as vzd

        self.rng = np.random.default_rng((*seed, 1))
        self.steps_left = 0
        self.stroll = [0] * 5
        self.game = game = vzd.DoomGame()
        game.set_doom_game_path(str(Path(vzd.__file__).parent / "freedoom2.wad"))
        game.set_doom_config_path(str(Path.cwd() / "engine.ini"))
        game.set_doom_map(level)
        game.set_seed(int(self.rng.integers(1, 2**31)))
        game.set_mode(vzd.Mode.PLAYER)
        game.set_window_visible(False)
        game.set_screen_resolution(vzd.ScreenResolution.RES_160X120)
        game.set_screen_format(vzd.ScreenFormat.RGB24)
        game.set_render_hud(False)
        game.set_render_crosshair(False)
        game.set_render_messages(False)
        game.set_render_weapon(True)
        game.set_sound_enabled(True)
        game.set_audio_buffer_enabled(True)
        game.set_audio_sampling_rate(vzd.SamplingRate.SR_22050)
        game.set_audio_buffer_size(1)  # each state holds the sound of the tic that led to it
        game.set_available_buttons(
            [
                vzd.Button.ATTACK,
                vzd.Button.MOVE_FORWARD,
                vzd.Button.MOVE_BACKWARD,
                vzd.Button.TURN_LEFT,
                vzd.Button.TURN_RIGHT,
                vzd.Button.USE,
            ]
        )
        game.set_available_game_variables([vzd.GameVariable.SELECTED_WEAPON])
        game.set_episode_timeout(0)
        # Cheats for the arms; no music and no reverberation, so that the sound is that of what happens.
        game.add_game_args("+sv_cheats 1 +sv_infiniteammo 1 +snd_musicvolume 0 +snd_efx 0")
        game.init()
        self._arrive()

    def _arrive(self) -> None:
        self.game.new_episode()
        for command in ("god", "give backpack", "give weapons", "give ammo"):
            self.game.send_game_command(command)
        self._wait(int(self.rng.integers(50, 400)))

    def _wait(self, tics: int) -> None:
        for _ in range(tics):
            if self.game.is_episode_finished():
                return
            self.game.make_action(self._action(trigger=False))

    def _action(self, *, trigger: bool) -> list[int]:
        if self.steps_left == 0:
            self.steps_left = int(self.rng.integers(6, 24))
            go, turn = self.rng.random(2)
            self.stroll = [
                int(go < 0.55),
                int(0.55 <= go < 0.65),
                int(turn < 0.3),
                int(0.3 <= turn < 0.6),
                int(self.rng.random() < 0.1),  # opens doors
            ]
        self.steps_left -= 1
        return [int(trigger), *self.stroll]

    def play(self, label: str, tics: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames (N, H, W, 3) uint8 and sound (M,) int16 of one clip."""
        weapon = WEAPONS[label]
        silent = 0
        for _ in range(ATTEMPTS):
            if self.game.is_episode_finished():  # walked through the exit
                self._arrive()
            self.game.send_game_command(f"use {weapon.item}")
            self._wait(DRAW_TICS)
            taken = self._take(weapon, tics)
            if taken is None:
                continue
            if taken[1].std() > SILENCE:
                return taken
            silent += 1
        if silent == ATTEMPTS:
            raise RecordError(
                "The game runs but is mute: its engine found no OpenAL library. "
                f"Install one (Debian and Ubuntu: apt-get install libopenal1). {OWN_VIDEOS}"
            )
        raise RecordError(f"The player could not use the {label} in {ATTEMPTS} attempts. {OWN_VIDEOS}")

    def _take(self, weapon: Weapon, tics: int) -> tuple[np.ndarray, np.ndarray] | None:
        frames, sound = [], []
        phase = int(self.rng.integers(weapon.period_tics))
        for tic in range(tics):
            trigger = (tic + phase) % weapon.period_tics < weapon.period_tics - RELEASE_TICS
            if self.game.is_episode_finished():
                return None
            self.game.make_action(self._action(trigger=trigger))
            state = self.game.get_state()
            if state is None or state.game_variables is None or int(state.game_variables[0]) != weapon.slot:
                return None
            if state.screen_buffer is None or state.audio_buffer is None:
                raise RecordError(f"The game engine gave no picture or no sound. {OWN_VIDEOS}")
            if tic % TICS_PER_FRAME == 0:
                frames.append(state.screen_buffer.copy())
            sound.append(state.audio_buffer.astype(np.int32).mean(axis=1).astype(np.int16))
        return np.stack(frames), np.concatenate(sound)


def write_clip(path: Path, frames: np.ndarray, sound: np.ndarray) -> None:
    """Write H.264 and AAC into an MP4 that appears under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    rate = Fraction(TICS_PER_SECOND, TICS_PER_FRAME)
    try:
        with av.open(
            str(unfinished), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}
        ) as container:
            video = container.add_stream("libx264", rate=rate)
            video.width, video.height, video.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
            # With macroblock trees x264 writes other bytes from run to run; without, equal frames give equal files.
            video.options = {"preset": "veryfast", "crf": "28", "g": "18", "x264-params": "threads=1:mbtree=0"}
            video.codec_context.thread_count = 1
            audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
            audio.bit_rate = 48_000
            for number, pixels in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                picture.pts, picture.time_base = number, 1 / rate
                container.mux(video.encode(picture))
            wave = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            wave.sample_rate, wave.pts, wave.time_base = SAMPLE_RATE_HZ, 0, Fraction(1, SAMPLE_RATE_HZ)
            container.mux(audio.encode(wave))
            container.mux(video.encode(None))
            container.mux(audio.encode(None))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _add_broken(footage: Path, whole: Path) -> None:
    """Files as every collection has them: cut off, empty, no video at all, and one without its sound."""
    folder = footage / "broken"
    folder.mkdir(exist_ok=True)
    data = whole.read_bytes()
    (folder / "cut_off.mp4").write_bytes(data[: len(data) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "a_note.mp4").write_text("This is text with the ending of a video.\n")
    with av.open(str(whole)) as source, av.open(str(folder / "without_sound.mp4"), "w") as target:
        kept = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = kept
                target.mux(packet)


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def cache_folder(clips_per_class: int, seconds: float, seed: int, *, with_broken: bool = False) -> Path:
    """Where a recording with these settings is kept between runs."""
    root = os.environ.get("SEEHEAR_CACHE") or Path.home() / ".cache" / "seehear"
    name = f"gameplay-{clips_per_class}x{seconds:g}s-seed{seed}" + ("-broken" if with_broken else "")
    return Path(root).expanduser() / "demo" / name


class Ticker:
    """Prints how far a recording is, its rate and the time left; a line every few seconds off a terminal."""

    def __init__(self, stream: Any = None, every_seconds: float = 5.0) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.every_seconds = 0.1 if self.live else every_seconds
        self.began = time.monotonic()
        self.first: int | None = None
        self.shown = -float("inf")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done
        if done < total and now - self.shown < self.every_seconds:
            return
        self.shown = now
        made = done - self.first
        text = f"recording: {done}/{total} clips"
        if made:
            rate = made / max(now - self.began, 1e-9)
            text += f", {rate:.1f} a second"
            text += f", {(total - done) / rate:.0f} s left" if done < total else f", {now - self.began:.0f} s"
        end = "\n" if not self.live or done == total else ""
        print(("\r\x1b[K" if self.live else "") + text, end=end, file=self.stream, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line of the recorder."""
    parser = argparse.ArgumentParser(description="Record gameplay with its sound: nine weapons, nine classes.")
    parser.add_argument("out", nargs="?", type=Path, help="folder of the recording (default: the demo's cache)")
    parser.add_argument("--clips", type=int, default=40, metavar="N", help="clips of each class (40)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a clip (3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="games at a time (one a core)")
    parser.add_argument("--with-broken", action="store_true", help="add files that cannot be used")
    given = parser.parse_args(arguments)
    if given.clips < 1 or given.seconds <= 0:
        parser.error("--clips and --seconds must be positive")
    out = given.out or cache_folder(given.clips, given.seconds, given.seed, with_broken=given.with_broken)
    try:
        footage = record(
            out,
            given.clips,
            given.seconds,
            given.seed,
            Ticker(),
            workers=given.workers,
            with_broken=given.with_broken,
        )
    except RecordError as error:
        print(f"record_gameplay: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrecord_gameplay: stopped; run it again to go on", file=sys.stderr)
        return 130
    print(footage)
    return 0


if __name__ == "__main__":
    sys.exit(main())
