"""What a run writes down as it goes: metrics.jsonl, TensorBoard, warnings, failures."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from seehear.engine.runfolder import RunFolder


class RunLog:
    """Appends to a run's logs. With `write=False` (processes other than the first) it does nothing.

    A resumed run first `rewind`s to the saved offset, so that no step appears twice.
    """

    def __init__(self, folder: RunFolder, *, write: bool = True) -> None:
        self.folder = folder
        self.write = write
        self._tensorboard: Any = None
        self._started = time.monotonic()
        self.earlier_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the run, earlier sittings included."""
        return self.earlier_seconds + time.monotonic() - self._started

    def offset(self) -> int:
        """Length of metrics.jsonl in bytes."""
        return self.folder.metrics.stat().st_size if self.folder.metrics.exists() else 0

    def rewind(self, offset: int, seconds: float) -> None:
        """Forget what was logged after a saved state."""
        self.earlier_seconds = seconds
        if self.write and self.offset() > offset:
            os.truncate(self.folder.metrics, offset)

    def record(self, kind: str, step: int, **values: Any) -> None:
        """Write one line of metrics, with null for numbers that are not finite: JSON has none."""
        if not self.write:
            return
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 3), **values}
        with open(self.folder.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
        writer = self._writer(step)
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                writer.add_scalar(f"{kind}/{name}", value, step)

    def failures(self, reports: list[dict[str, Any]], **where: Any) -> None:
        """Append reports of videos that could not be decoded."""
        if self.write and reports:
            with open(self.folder.failures, "a", encoding="utf-8") as file:
                for report in reports:
                    file.write(json.dumps({**report, **where}) + "\n")

    def _writer(self, step: int) -> Any:
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=step)
        return self._tensorboard

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics.jsonl; a last line cut by a crash is left out."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
    return records
