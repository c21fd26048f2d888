"""The recorder of the demo: real streams, the right length, audible, and the same for the same seed."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import sys
from pathlib import Path

import av
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SECONDS = 2.0


@pytest.fixture(scope="module")
def recorder():
    sys.path.insert(0, str(EXAMPLES))  # the recording processes find the module there, too
    try:
        import record_gameplay

        yield record_gameplay
    finally:
        sys.path.remove(str(EXAMPLES))


def record(recorder, out, seed):
    """Record one clip of each of two classes, within this process."""
    two = {label: recorder.WEAPONS[label] for label in ("pistol", "chaingun")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "WEAPONS", two)
        for task in recorder.plan(1, SECONDS, seed):
            recorder._record_task(out, task)
    return {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*.mp4"))}


@pytest.fixture(scope="module")
def clips(recorder, tmp_path_factory):
    if importlib.util.find_spec("vizdoom") is None:
        pytest.skip("vizdoom is not installed (extra `demo`)")
    try:
        return record(recorder, tmp_path_factory.mktemp("first"), seed=3)
    except recorder.RecordError as error:
        if "OpenAL" in str(error):
            pytest.skip(f"no OpenAL library: {error}")
        raise


class TestRecording:
    def test_there_is_one_clip_a_class(self, clips):
        assert list(clips) == ["footage/map01/clip_0000.mp4", "footage/map01/clip_0001.mp4"]

    def test_streams_are_as_promised(self, clips):
        for path in clips.values():
            with av.open(str(path)) as container:
                video, audio = container.streams.video[0], container.streams.audio[0]
                assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
                assert (video.width, video.height, float(video.average_rate)) == (160, 120, 17.5)
                assert (audio.rate, audio.channels) == (22050, 1)
                frames = [f.time for f in container.decode(video)]
            assert len(frames) == 35
            assert frames[-1] == pytest.approx(SECONDS - 1 / 17.5, abs=0.01)

    def test_sound_is_audible_and_as_long_as_the_picture(self, clips):
        for path in clips.values():
            with av.open(str(path)) as container:
                sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
            assert np.sqrt(np.mean(sound**2)) > 0.01
            assert len(sound) / 22050 == pytest.approx(SECONDS, abs=0.1)

    def test_picture_moves(self, clips):
        for path in clips.values():
            with av.open(str(path)) as container:
                frames = np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)]).astype(float)
            assert np.abs(np.diff(frames, axis=0)).mean() > 0.5

    def test_the_same_seed_gives_the_same_files_and_another_one_others(self, clips, recorder, tmp_path):
        def digests(found):
            return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}

        again = record(recorder, tmp_path / "again", seed=3)
        other = record(recorder, tmp_path / "other", seed=4)
        assert digests(again) == digests(clips)
        assert not set(digests(other).values()) & set(digests(clips).values())


class TestPlan:
    def test_every_class_comes_equally_often_and_names_tell_nothing(self, recorder):
        clips = [clip for task in recorder.plan(5, 3.0, 0) for clip in task.clips]
        labels = [label for _, label in clips]
        assert {label: labels.count(label) for label in labels} == dict.fromkeys(recorder.WEAPONS, 5)
        assert len({path for path, _ in clips}) == len(clips)
        assert not any(label in path for path, _ in clips for label in recorder.WEAPONS)
        first_of_visit = [task.clips[0][1] for task in recorder.plan(20, 3.0, 0)]
        assert len(set(first_of_visit)) > 3, "the order of the classes must differ from visit to visit"

    def test_more_clips_only_add(self, recorder):
        assert recorder.plan(7, 3.0, 1)[:4] == recorder.plan(4, 3.0, 1)


class TestResuming:
    @pytest.fixture
    def quick(self, recorder, monkeypatch):
        """Recording without a game: each task writes empty files and is noted."""
        recorded = []

        def record_all(folder, tasks, workers, progress):
            for task in tasks:
                recorded.append(task)
                for path, _ in task.clips:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).touch()
                progress(len(recorded) * len(task.clips))

        monkeypatch.setattr(recorder, "_record_all", record_all)
        monkeypatch.setattr(recorder, "_check_game", lambda: None)
        return recorded

    def test_a_second_run_does_nothing_and_a_third_mends_what_is_missing(self, recorder, quick, tmp_path):
        seen = []
        footage = recorder.record(tmp_path, 3, progress=lambda done, total: seen.append((done, total)))
        assert footage == tmp_path.resolve() / "footage"
        assert len(quick) == 3 and seen[0] == (0, 27) and seen[-1] == (27, 27)
        rows = list(csv.DictReader((tmp_path / "truth.csv").open()))
        assert len(rows) == 27 and all((tmp_path / row["path"]).exists() for row in rows)
        recorder.record(tmp_path, 3)
        assert len(quick) == 3
        (tmp_path / quick[1].clips[4][0]).unlink()
        recorder.record(tmp_path, 3)
        assert quick[3:] == [quick[1]]

    def test_other_settings_need_another_folder(self, recorder, quick, tmp_path):
        recorder.record(tmp_path, 1)
        with pytest.raises(recorder.RecordError, match="other settings"):
            recorder.record(tmp_path, 2)

    def test_without_the_game_the_error_says_what_to_do(self, recorder, tmp_path, monkeypatch):
        monkeypatch.setattr(recorder.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(recorder.RecordError, match=r"\[demo\].*VIDEOS="):
            recorder.record(tmp_path, 1)
        assert not (tmp_path / "truth.csv").exists()


def test_a_clip_that_fails_leaves_nothing_behind(recorder, tmp_path):
    with pytest.raises((av.FFmpegError, ValueError)):
        recorder.write_clip(tmp_path / "a" / "clip.mp4", np.zeros((2, 120, 160, 7), np.uint8), np.zeros(9, np.int16))
    assert list((tmp_path / "a").iterdir()) == []
