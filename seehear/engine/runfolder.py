"""The run folder: where everything that a run is lies, and the lock that keeps it to one process."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seehear.config import Config
from seehear.errors import RunError
from seehear.files import (
    check_destination,
    is_temporary,
    process_lives,
    remove_leftovers,
    write_atomic,
    writing,
)
from seehear.hashes import HASHES, sha256_of
from seehear.settings import differences, load_config, save_config

_LOCK = "run.lock"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class RunFolder:
    """Paths within a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.parquet"

    @property
    def environment(self) -> Path:
        return self.path / "env.json"

    @property
    def statistics(self) -> Path:
        return self.path / "statistics.json"

    @property
    def vocabulary(self) -> Path:
        """The words that a text encoder knows (`seehear.words.vocabulary`)."""
        return self.path / "vocabulary.json"

    @property
    def encoders(self) -> Path:
        """Encoders of others that the run builds on, until they are in its model."""
        return self.path / "encoders"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def failures(self) -> Path:
        return self.path / "failures.jsonl"

    @property
    def assignments(self) -> Path:
        return self.path / "assignments"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def features(self) -> Path:
        return self.path / "features.parquet"

    @property
    def kinds(self) -> Path:
        """How many kinds were found, where they were counted (`cluster.auto`)."""
        return self.path / "kinds.json"

    @property
    def labels(self) -> Path:
        return self.path / "labels.parquet"

    @property
    def result(self) -> Path:
        """Of a finetuning: its scores, written last."""
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def finished(self) -> bool:
        """Whether training came to its end: the labels are written last, or the scores of a finetuning."""
        return self.labels.exists() or self.result.exists()

    @property
    def start(self) -> Path:
        """Of a finetuning: the pretrained encoders, so that the run they come from is not needed again."""
        return self.path / "start"

    @property
    def begun(self) -> bool:
        """Whether all is there that a run begins with; its manifest comes last (`beginning`)."""
        return self.manifest.exists()

    @property
    def only_begun(self) -> bool:
        """Whether nothing is there but what a run begins with, or part of it."""
        made = (
            self.environment,
            self.config,
            self.statistics,
            self.vocabulary,
            self.start,
            self.encoders,
            self.manifest,
        )
        known = {path.name for path in made} | {_LOCK}
        there = self.path.iterdir() if self.path.exists() else ()
        return all(path.name in known or is_temporary(path) for path in there)

    @property
    def resume_command(self) -> str:
        """What a person is told to go on with."""
        command = "finetune" if self.config.is_file() and self.load_config().method == "finetune" else "pretrain"
        return f"seehear {command} --resume {self.path}"

    @property
    def provenance(self) -> Path:
        """Where imported weights are from; see `seehear.weights`."""
        return self.path / "imported.json"

    @property
    def imported(self) -> bool:
        """Whether this is no run but a model of imported weights, which has no videos, labels or log."""
        return self.provenance.exists()

    def check_trained(self, remedy: str) -> None:
        """Raise `RunError` if the folder holds imported weights: what only a training leaves is not there."""
        if self.imported:
            raise RunError(f"{self.path} holds imported weights, without videos, labels or a log of their own", remedy)

    def check_clustered(self, remedy: str) -> None:
        """Raise `RunError` for a finetuned run: what only a pretraining leaves, features and clusters, is not there."""
        if self.result.exists():
            raise RunError(f"{self.path} is a finetuned run, without features or clusters of its videos", remedy)

    def check_new(self) -> None:
        """Raise `RunError` if a run, or something else, is there already, `DestinationError` if none can be made.

        What a start that was killed left is neither: the next one removes it (`beginning`).
        """
        with writing(self.path):
            if self.imported:
                raise RunError(f"{self.path} holds imported weights already", "choose another --out")
            if self.begun or not self.only_begun:
                if self.config.exists():
                    raise RunError(
                        f"{self.path} holds a run already",
                        f"go on with `{self.resume_command}`, or choose another --out",
                    )
                raise RunError(f"{self.path} is not empty and holds no run", "choose another --out")
        check_destination(self.path, folder=True)

    def check_begun(self) -> None:
        """Raise `RunError` if the process that began this run was killed before all was there that it begins with."""
        if self.config.exists() and not self.begun and not self.imported:
            raise RunError(
                f"the run in {self.path} was stopped while it was begun, before there was anything to go on with",
                "give the command that began it again",
            )

    def create(self, config: Config) -> None:
        """Make a new run folder with its settings; `RunError` if there is one already. Its manifest is to follow."""
        self.check_new()
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.environment, json.dumps(environment(), indent=1))
        save_config(config, self.config)

    def load_config(self) -> Config:
        """The settings of the run; `RunError` if this is no run folder."""
        if not self.config.is_file():
            raise RunError(f"{self.path} is not a run folder", "it has no config.yaml; `seehear pretrain` makes one")
        return load_config(self.config)

    def check_config(self, config: Config) -> None:
        """Raise `RunError` if the run here was begun with other settings than these."""
        differing = differences(self.load_config(), config)
        if differing:
            raise RunError(
                f"the run in {self.path} was begun with other settings (there, here): {'; '.join(differing[:5])}",
                f"go on with its own by `{self.resume_command}`, or choose another --out",
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; `RunError` if a living one holds it. A dead one's lock is taken over.

        What killed processes were writing here is removed.
        """
        path = self.path / _LOCK
        check_destination(path)
        holder = {
            "host": socket.gethostname(), "pid": os.getpid(), "boot": _boot_id(), "started": _started(os.getpid()),
            "job": _job(),
        }  # fmt: skip
        while True:
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                try:
                    other = json.loads(path.read_text())
                except FileNotFoundError:
                    continue
                except ValueError:
                    other = {}  # written by a process that died within the line above
                if _alive(other):
                    raise RunError(
                        f"{self.path} is in use by process {other.get('pid')} on {other.get('host')}",
                        f"wait for it, or stop it; if it is gone for sure, delete {path}",
                    ) from None
                path.unlink(missing_ok=True)
                continue
            break
        with os.fdopen(descriptor, "w") as file:
            json.dump(holder, file)
        try:
            remove_leftovers(self.path)
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def beginning(folders: Sequence[RunFolder]) -> Iterator[None]:
    """Hold new run folders while the block makes them, with the manifests of all last: these make them runs.

    A process that is killed within the block leaves folders of which one at least has no manifest; what is in them is
    removed when they are begun again.

    Raises:
        RunError: a run, or something else, is in one of them, or a living process is beginning one.
    """
    with contextlib.ExitStack() as held:
        for folder in folders:
            with writing(folder.path):
                folder.path.mkdir(parents=True, exist_ok=True)
            held.enter_context(folder.lock())
        check_new(folders)
        # While any is being removed, one at least must stand without its manifest.
        for folder in folders:
            folder.manifest.unlink(missing_ok=True)
        for folder in folders:
            for path in (folder.config, folder.environment, folder.statistics, folder.vocabulary):
                path.unlink(missing_ok=True)
            for made in (folder.start, folder.encoders):
                shutil.rmtree(made, ignore_errors=True)
        yield


def check_new(folders: Sequence[RunFolder]) -> None:
    """`RunFolder.check_new` for runs that are begun together: where one was not begun, none of them was."""
    with writing(folders[0].path):
        together = all(folder.only_begun for folder in folders) and not all(folder.begun for folder in folders)
    for folder in () if together else folders:
        folder.check_new()


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the process that wrote a lock may still run; one on another host may."""
    if not holder:
        return False
    job, now = holder.get("job"), _job()
    if job and now and job[0] == now[0] and job[1] < now[1]:
        return False  # a job that is started again has been ended before
    if holder.get("host") != socket.gethostname():
        return True
    if holder.get("boot") != _boot_id():
        return False
    pid = int(holder["pid"])
    if pid == os.getpid() or not process_lives(pid):
        return False
    # In a container that is started again numbers come again.
    return not holder.get("started") or _started(pid) in (None, holder["started"])


def _started(pid: int) -> int | None:
    """When a process of this host was started, in ticks since the boot; None where that is not told."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _job() -> list[Any] | None:
    """SLURM's number of this job, and how often it was started again."""
    job = os.environ.get("SLURM_JOB_ID")
    return [job, int(os.environ.get("SLURM_RESTART_COUNT") or 0)] if job else None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def environment() -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, machine, commit, command."""
    import torch

    import seehear

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "seehear_version": seehear.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(["seehear", *sys.argv[1:]]),
    }


def _commit() -> str | None:
    """Commit of the checkout that seehear runs from, if it does."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def open_run(run: str | Path) -> RunFolder:
    """A finished run; `RunError` that says what to do otherwise."""
    folder = RunFolder(Path(run))
    folder.load_config()
    if not folder.finished and not folder.imported:
        raise RunError(f"the run in {folder.path} is not finished", f"`{folder.resume_command}`")
    return folder


def model_sha256(run: str | Path) -> str:
    """SHA-256 of the weights of a run's model: of encoders, heads and clusters. `RunError` if there is none."""
    folder = RunFolder(Path(run)).model
    try:
        return str(json.loads((folder / HASHES).read_bytes())[_WEIGHTS])
    except (OSError, ValueError, KeyError):  # models of earlier versions have no hashes
        pass
    try:
        return sha256_of(folder / _WEIGHTS)
    except OSError as error:
        raise RunError(f"{run} holds no trained model: {error}", "give the folder of a finished run") from error
