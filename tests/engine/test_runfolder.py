"""The run folder: its lock, its refusals, its logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from seehear.config import Config
from seehear.engine.runfolder import RunFolder, beginning, environment
from seehear.engine.runlog import RunLog, read_metrics
from seehear.errors import RunError


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(Config())
    folder.manifest.write_text("a manifest")  # the last of what makes a folder a run
    return folder


def test_a_new_run_keeps_its_settings_and_environment(folder):
    assert folder.load_config() == Config()
    found = json.loads(folder.environment.read_text())
    assert found["seehear_version"]
    assert set(found) == set(environment())


def test_a_second_run_in_the_same_folder_is_refused(folder):
    with pytest.raises(RunError, match="--resume"):
        folder.create(Config())


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="not empty"):
        RunFolder(tmp_path).create(Config())


def begin(folders, config=None, manifests=None):
    """What a start writes: everything of every run first, then so many of the manifests."""
    with beginning(folders):
        for folder in folders:
            folder.create(config or Config())
            folder.statistics.write_text("{}")
        for folder in folders[:manifests]:
            folder.manifest.write_text("a manifest")


def test_what_a_killed_start_left_is_begun_again(tmp_path):
    """Whatever of a run is there without its manifest is no run: neither in the way nor mixed with the new one."""
    folder = RunFolder(tmp_path / "run")
    begin([folder], manifests=0)
    (folder.path / ".manifest.parquet.tmp").write_text("half a manif")
    (folder.path / "run.lock").write_text("")
    (folder.path / "start").mkdir()
    (folder.path / "start" / "model.safetensors").write_text("of another run")
    with pytest.raises(RunError, match="the command that began it again"):
        folder.check_begun()
    with beginning([folder]):
        assert {p.name for p in folder.path.iterdir()} == {"run.lock", ".manifest.parquet.tmp"}
    begin([folder], Config(seed=7))
    folder.check_begun()
    assert folder.load_config().seed == 7
    with pytest.raises(RunError, match="--resume"):
        begin([folder])


def test_runs_that_are_begun_together_are_begun_again_together(tmp_path):
    folders = [RunFolder(tmp_path / name) for name in ("one", "two")]
    begin(folders, manifests=1)
    folders[0].check_begun()
    with pytest.raises(RunError, match="stopped while it was begun"):
        folders[1].check_begun()
    begin(folders, Config(seed=7))
    assert [folder.load_config().seed for folder in folders] == [7, 7]
    folders[0].metrics.write_text("{}")
    folders[1].manifest.unlink()
    with pytest.raises(RunError, match="holds a run already"):  # the first one has gone on: nothing is removed
        begin(folders)
    assert folders[0].metrics.exists() and folders[1].config.exists()


def test_what_another_process_is_beginning_is_left_to_it(tmp_path):
    folder, others = RunFolder(tmp_path / "run"), []
    with beginning([folder]):
        folder.create(Config(seed=3))
        holder = json.loads((folder.path / "run.lock").read_text())
        (folder.path / "run.lock").write_text(json.dumps(holder | {"pid": os.getppid(), "started": None}))
        with pytest.raises(RunError, match="in use"):
            begin([folder])
        others.append(folder.load_config().seed)
    assert others == [3]


def test_files_of_others_are_not_taken_for_the_beginning_of_a_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    begin([folder], manifests=0)
    (folder.path / "notes.txt").write_text("dear")
    with pytest.raises(RunError, match="holds a run already"):
        begin([folder])
    assert (folder.path / "notes.txt").exists() and folder.config.exists()


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder(tmp_path).load_config()


def test_a_living_process_keeps_others_out(folder):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with folder.lock():
            holder = json.loads((folder.path / "run.lock").read_text())
        holder |= {"pid": child.pid, "started": None}
        (folder.path / "run.lock").write_text(json.dumps(holder))
        with pytest.raises(RunError, match=str(child.pid)), folder.lock():
            pass
    finally:
        child.kill()
        child.wait()
    with folder.lock():  # it is dead now
        assert json.loads((folder.path / "run.lock").read_text())["pid"] == os.getpid()
    assert not (folder.path / "run.lock").exists()


@pytest.mark.parametrize("change", [{"boot": "another"}, None])
def test_the_lock_of_a_dead_process_is_taken_over(folder, change):
    with folder.lock():
        holder = json.loads((folder.path / "run.lock").read_text())
    text = "" if change is None else json.dumps(holder | {"pid": 1} | change)
    (folder.path / "run.lock").write_text(text)
    with folder.lock():
        pass


def test_a_number_that_another_process_has_got_since_is_not_taken_for_the_holder(folder):
    with folder.lock():
        holder = json.loads((folder.path / "run.lock").read_text())
    (folder.path / "run.lock").write_text(json.dumps(holder | {"pid": os.getppid(), "started": 1}))
    with folder.lock():
        assert json.loads((folder.path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_requeued_job_takes_over_from_itself_on_another_host(folder, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    lock = folder.path / "run.lock"
    for earlier, restarts in ((["17", 0], "0"), (["16", 0], "1")):
        lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "boot": "x", "job": earlier}))
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        with pytest.raises(RunError, match="elsewhere"), folder.lock():
            pass
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "boot": "x", "job": ["17", 0]}))
    with folder.lock():
        assert json.loads(lock.read_text())["job"] == ["17", 1]


def test_another_hosts_lock_is_respected(folder):
    (folder.path / "run.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "boot": "x"}))
    with pytest.raises(RunError, match="elsewhere"), folder.lock():
        pass


def test_metrics_are_forgotten_after_a_rewind(folder):
    log = RunLog(folder)
    log.record("step", 1, loss=2.0)
    offset = log.offset()
    log.record("step", 2, loss=1.0)
    log.rewind(offset, 12.0)
    log.record("step", 2, loss=0.5)
    log.close()
    records = read_metrics(folder.metrics)
    assert [(r["step"], r["loss"]) for r in records] == [(1, 2.0), (2, 0.5)]
    assert records[-1]["seconds"] >= 12.0
    assert list((folder.path / "tensorboard").iterdir())


def test_a_line_cut_by_a_crash_is_left_out(folder):
    folder.metrics.write_text('{"kind": "step", "step": 1}\n{"kind": "st')
    assert read_metrics(folder.metrics) == [{"kind": "step", "step": 1}]


def test_processes_other_than_the_first_write_nothing(folder):
    log = RunLog(folder, write=False)
    log.record("step", 1, loss=2.0)
    log.failures([{"video_id": "a"}])
    log.close()
    assert not folder.metrics.exists()
    assert not folder.failures.exists()
