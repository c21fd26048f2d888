"""From clips to features: every encoder in evaluation mode over every clip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seehear.copies import Host, LateReader
from seehear.data.clips import ClipRequest
from seehear.data.supply import Supply
from seehear.features.bank import FeatureBank, view_name
from seehear.host import keep_freed_memory
from seehear.models.adapter import adapter_of
from seehear.models.joint_norm import each_alone
from seehear.models.together import at_once, side_by_side
from seehear.types import Batch


@contextlib.contextmanager
def evaluation(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Evaluation mode and no gradients within the block; each module's own mode afterwards."""
    modes = {name: module.training for name, module in modules.items()}
    for module in modules.values():
        module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for name, module in modules.items():
            module.train(modes[name])


def extract(
    encoders: Mapping[str, nn.Module],
    loader: Supply,
    requests: Sequence[ClipRequest],
    *,
    device: torch.device,
    bfloat16: bool = False,
    batch_size: int = 32,
    folder: Path | None = None,
    views: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureBank:
    """Features of the requested spans, in the order of their first clips; several clips of a span are averaged.

    `encoders` maps names to modules; the loader's views must hold an input for each. `progress(done, total)`
    is called after every batch and may raise to stop. A span of which no clip can be decoded is absent. With
    `views` the requests ask for so many augmentations of each clip, which the bank keeps apart (`view_name`).
    """
    dims = {
        view_name(name, view): int(encoder.feature_dim)  # type: ignore[arg-type]
        for name, encoder in encoders.items()
        for view in range(views)
    }
    refs = list({r.ref.clip_id: r.ref for r in requests}.values())
    bank = FeatureBank.empty(refs, dims, folder)
    row_of = {ref.clip_id: row for row, ref in enumerate(refs)}
    clips_of = np.zeros(len(refs), dtype=np.int64)
    late = LateReader(device)

    def keep(rows: Sequence[int], found: Host) -> None:
        for name, of_clips in found.items():
            for view in range(views):
                np.add.at(bank.features[view_name(name, view)], rows, of_clips.numpy()[view::views])

    def features_of(batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
        inputs = loader.to_inputs(batch, device).inputs
        return batch, {name: encoder(inputs[name]).float() for name, encoder in encoders.items()}

    done = 0
    keep_freed_memory()
    with (
        evaluation(encoders),
        torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
        contextlib.closing(loader.batches(requests, batch_size)) as batches,
        contextlib.closing(at_once(features_of, batches, encoders.values())) as computed,
    ):
        for batch, features in computed:
            rows = [row_of[c] for c in batch.clip_ids]
            late.read(partial(keep, rows), features)
            np.add.at(clips_of, rows, 1)
            done += len(batch)
            if progress:
                progress(done, len(requests))
        late.flush()
    for sums in bank.features.values():
        sums /= np.maximum(clips_of, 1)[:, None]
    bank.present[:] = clips_of > 0
    return bank.drop_absent()


def calibrate_batchnorm(
    encoders: Mapping[str, nn.Module],
    loader: Supply,
    requests: Sequence[ClipRequest],
    *,
    device: torch.device,
    batch_size: int = 32,
) -> None:
    """Set batch normalisation's running statistics to averages over the requested clips.

    The running statistics of an untrained network are not those of its activations, and those of a network
    in training lag behind its weights. Encoders of others keep theirs.
    """
    encoders = {name: encoder for name, encoder in encoders.items() if adapter_of(encoder) is None}
    if not encoders:
        return
    norms = [m for e in encoders.values() for m in e.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    modes = {name: encoder.training for name, encoder in encoders.items()}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    try:
        for encoder in encoders.values():
            encoder.train()
        with torch.no_grad(), each_alone(norms):
            for batch in loader.batches(requests, batch_size):
                if len(batch) < 2:  # one clip has no variance to measure
                    continue
                inputs = loader.to_inputs(batch, device).inputs
                work = {name: partial(encoder, inputs[name]) for name, encoder in encoders.items()}
                side_by_side(work, encoders.values())
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for name, encoder in encoders.items():
            encoder.train(modes[name])
