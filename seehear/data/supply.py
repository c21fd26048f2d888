"""What training and extraction ask of whatever gives them batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Protocol

import torch

from seehear.config import Config
from seehear.data.clips import ClipRequest
from seehear.data.columns import VideosById
from seehear.data.loader import Failures
from seehear.data.views import Statistics
from seehear.types import Batch


class Supply(Protocol):
    """Clip requests to batches: from files (`ClipLoader`), or from features that are there already."""

    config: Config
    videos: VideosById
    failures: Failures
    statistics: Statistics

    def batches(self, requests: Sequence[ClipRequest], batch_size: int) -> Generator[Batch, None, None]:
        """Batches of up to so many clips, made ready while the model works; a group without a clip gives none."""
        ...

    def group_batches(self, groups: Iterable[Sequence[ClipRequest]]) -> Generator[Batch, None, None]:
        """One batch for every group, which may be empty."""
        ...

    def to_inputs(self, batch: Batch, device: torch.device) -> Batch:
        """The batch on a device, as encoders take it."""
        ...

    def close(self) -> None:
        """End what works in the background."""
        ...
