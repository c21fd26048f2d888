"""G-TAD: a graph network over the snippets of a video that judges every candidate segment.

Xu et al., "G-TAD: Sub-Graph Localization for Temporal Action Detection", CVPR 2020. Plain torch: its SGAlign layer,
there a CUDA kernel, is here a sparse matrix that is made once.

Time is measured in snippets: snippet i covers [i, i + 1]. Candidate (d, t) of a window of T snippets is the segment
[t, t + d + 1], d < durations; maps over candidates have the shape (durations, T).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

CONTEXT = 0.5
"""A candidate is looked at with this share of its length on either side (published code)."""


class Judgement(NamedTuple):
    """What the network says, all as logits: `candidates` (B, 2, D, T) and, by snippet, `start` and `end` (B, T).

    `candidates[:, 0]` is for a regression of the tIoU with the best segment (after a sigmoid), `[:, 1]` for the
    classification as good or not.
    """

    candidates: Tensor
    start: Tensor
    end: Tensor


def nearest_snippets(x: Tensor, valid: Tensor, count: int) -> Tensor:
    """The `count` nearest snippets of each by Euclidean distance of features, itself among them: (B, T, count).

    `x` is (B, C, T). Snippets that are not `valid` (B, T) are nobody's neighbours; where there are not enough, a
    snippet's own number stands in.
    """
    rows = x.detach().transpose(1, 2)
    distance = torch.cdist(rows, rows).masked_fill(~valid[:, None, :], math.inf)
    nearest = distance.topk(min(count, x.shape[2]), largest=False)
    own = torch.arange(x.shape[2], device=x.device)[None, :, None]
    return torch.where(nearest.values.isinf(), own, nearest.indices)


def gather_snippets(x: Tensor, index: Tensor) -> Tensor:
    """Features (B, C, T) of the snippets named by `index` (B, T, K): (B, C, T, K)."""
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    return x.transpose(1, 2)[batch, index].permute(0, 3, 1, 2)


class GCNeXt(nn.Module):
    """One block of graph convolution, split into paths as in ResNeXt: (B, C, T) to (B, C, T).

    Temporal edges join each snippet to those beside it, semantic edges to its nearest in feature space, found anew in
    each forward pass (DGCNN); semantic messages are joined by their maximum. Section 3.2 and Figure 3 of the paper: 32
    paths of width 4, 3 neighbours.
    """

    def __init__(self, width: int, neighbours: int = 3, paths: int = 32, path_width: int = 4) -> None:
        super().__init__()
        inner = paths * path_width
        self.neighbours = neighbours
        self.entry = nn.Sequential(nn.Conv1d(width, inner, 1), nn.ReLU(inplace=True))
        self.temporal = nn.Sequential(
            nn.Conv1d(inner, inner, 3, padding=1, groups=paths), nn.ReLU(inplace=True),
            nn.Conv1d(inner, width, 1),
        )  # fmt: skip
        self.semantic = nn.Sequential(
            nn.Conv2d(2 * width, inner, 1), nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 1, groups=paths), nn.ReLU(inplace=True),
            nn.Conv2d(inner, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        others = gather_snippets(x, nearest_snippets(x, valid, self.neighbours))
        edges = torch.cat([others, x[..., None].expand_as(others)], dim=1)
        there = valid[:, None]  # behind the end there is nothing, neither here nor between the layers
        out: Tensor = torch.relu(x + self.temporal(self.entry(x) * there) + self.semantic(edges).amax(dim=3))
        return out * there


def alignment_matrix(length: int, durations: int, points: int, context: float = CONTEXT) -> Tensor:
    """How SGAlign reads a window: sparse (durations * length, points * length), float32.

    Entry ((d, t), (p, s)) is the weight of snippet s in bin p of candidate (d, t) (Algorithm 1 of the paper). The
    candidate, longer by `context` of its length on either side, is cut into so many bins; each bin is the mean of
    samples at most a snippet apart, each sample the linear interpolation between the middles of two snippets.
    Samples outside the window, and candidates that leave it, are zero.
    """
    rows, columns, weights = [], [], []
    for d in range(min(durations, length)):
        starts = np.arange(length - d)
        size = (1 + 2 * context) * (d + 1) / points
        samples = math.ceil(size)
        offsets = (np.arange(points)[:, None] + (np.arange(samples)[None] + 0.5) / samples) * size - context * (d + 1)
        at = starts[:, None, None] + offsets[None]  # (starts, points, samples)
        inside = (at >= 0) & (at <= length)
        low = np.floor(at - 0.5)
        candidate, point, _ = np.broadcast_arrays(
            d * length + starts[:, None, None], np.arange(points)[None, :, None], at
        )
        for snippet, share in ((low, 1 - (at - 0.5 - low)), (low + 1, at - 0.5 - low)):
            place = np.clip(snippet, 0, length - 1).astype(np.int64)
            rows.append(candidate[inside])
            columns.append((point * length + place)[inside])
            weights.append((share / samples)[inside])
    return _sparse(rows, columns, weights, (durations * length, points * length))


def _sparse(
    rows: list[np.ndarray], columns: list[np.ndarray], weights: list[np.ndarray], shape: tuple[int, int]
) -> Tensor:
    """The sparse float32 matrix of these entries, those of one place summed."""
    places = torch.from_numpy(np.stack([np.concatenate(rows), np.concatenate(columns)]))
    values = torch.from_numpy(np.concatenate(weights)).float()
    return torch.sparse_coo_tensor(places, values, shape, check_invariants=True).coalesce()


def published_alignment_matrix(length: int, durations: int, points: int, context: float = CONTEXT) -> Tensor:
    """`alignment_matrix` as the published CUDA kernel reads a window (github.com/frostinassiky/gtad).

    Time i is the middle of snippet i. Candidate (d, t) of L = d + 1 snippets is read from t - L / 2 to t + d + L / 2,
    which is 2L - 1; a sample up to a snippet before the window, or behind its last middle, has the features of the
    snippet at the edge, and one farther out is zero. A candidate that leaves the window is read as [0, 1].
    """
    rows, columns, weights = [], [], []
    for d in range(durations):
        starts = np.arange(length)
        leaves = starts + d >= length
        first = np.where(leaves, 0.0, starts - context * (d + 1))
        extent = np.where(leaves, 1.0, max(d + 2 * context * (d + 1), 1.0))
        for chosen in (~leaves, leaves):
            if not chosen.any():
                continue
            size = float(extent[chosen][0]) / points
            samples = math.ceil(size)
            offsets = np.arange(points)[:, None] * size + (np.arange(samples)[None] + 0.5) * size / samples
            at = first[chosen][:, None, None] + offsets[None]  # (starts, points, samples)
            inside = (at >= -1) & (at <= length)
            low = np.floor(at.clip(0, length - 1)).astype(np.int64)
            share = at.clip(0, length - 1) - low
            candidate, point, _ = np.broadcast_arrays(
                d * length + starts[chosen][:, None, None], np.arange(points)[None, :, None], at
            )
            for place, part in ((low, 1 - share), (np.minimum(low + 1, length - 1), share)):
                rows.append(candidate[inside])
                columns.append((point * length + place)[inside])
                weights.append((part / samples)[inside])
    return _sparse(rows, columns, weights, (durations * length, points * length))


class AlignedProjection(nn.Module):
    """SGAlign and the linear layer after it in one: snippets (B, C, T) to candidates (B, outputs, durations, T).

    The layer sees each candidate's `points` aligned features, but they are never laid out, which would take points * C
    numbers a candidate: the layer's weights act on the snippets first, and the alignment sums up the results.
    """

    def __init__(
        self, inputs: int, outputs: int, length: int, durations: int, points: int, *, published: bool = False
    ) -> None:
        super().__init__()
        self.outputs, self.length, self.durations, self.points = outputs, length, durations, points
        layer = nn.Linear(inputs * points, outputs)  # for torch's usual first weights
        self.weight = nn.Parameter(layer.weight.detach().reshape(outputs, points, inputs))
        self.bias = nn.Parameter(layer.bias.detach())
        matrix = (published_alignment_matrix if published else alignment_matrix)(length, durations, points)
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        weighted = torch.einsum("opc,bcs->psbo", self.weight, x)
        flat = weighted.reshape(self.points * self.length, batch * self.outputs)
        found = torch.sparse.mm(self.matrix, flat)
        found = found.reshape(self.durations, self.length, batch, self.outputs) + self.bias
        return found.permute(2, 3, 0, 1)


class GTAD(nn.Module):
    """Snippet features (B, inputs, T) to a `Judgement` of every candidate and every snippet.

    Args:
        inputs: dimensions of a snippet's feature.
        length: T, snippets of a window.
        durations: the longest candidate, in snippets.
        width: channels of the graph network (256 in the paper).
        heads: channels of the localisation module: after the alignment, and of its maps (512 and 128).
        neighbours: semantic neighbours of a snippet (3).
        points: bins of a candidate in its own features, and in those of the snippets' semantic neighbours (in the
            published code 16 each on THUMOS14, 32 and 4 on ActivityNet).
        paths: of a `GCNeXt` block (32).
        kernel: side of the convolutions over the map of candidates (3 on THUMOS14, 1 on ActivityNet).
        published: read candidates by `published_alignment_matrix`, see padding like any snippet, and let both
            alignments share one linear layer with one bias (`context.bias` stays zero), as the published code does.
    """

    def __init__(
        self,
        inputs: int,
        length: int,
        durations: int,
        *,
        width: int = 256,
        heads: tuple[int, int] = (512, 128),
        neighbours: int = 3,
        points: tuple[int, int] = (16, 16),
        paths: int = 32,
        kernel: int = 3,
        published: bool = False,
    ) -> None:
        super().__init__()
        self.neighbours, self.published = neighbours, published
        self.first = nn.Conv1d(inputs, width, 3, padding=1, groups=math.gcd(4, inputs, width))
        self.shared = GCNeXt(width, neighbours, paths)
        self.graph = GCNeXt(width, neighbours, paths)
        self.start, self.end = GCNeXt(width, neighbours, paths), GCNeXt(width, neighbours, paths)
        self.at_start, self.at_end = nn.Conv1d(width, 1, 1), nn.Conv1d(width, 1, 1)
        self.own = AlignedProjection(width, heads[0], length, durations, points[0], published=published)
        self.context = AlignedProjection(width, heads[0], length, durations, points[1], published=published)
        self.localisation = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(heads[0], heads[1], 1), nn.ReLU(inplace=True),
            nn.Conv2d(heads[1], heads[1], kernel, padding=kernel // 2), nn.ReLU(inplace=True),
            nn.Conv2d(heads[1], heads[1], kernel, padding=kernel // 2), nn.ReLU(inplace=True),
            nn.Conv2d(heads[1], 2, 1),
        )  # fmt: skip
        if published:
            bound = 1 / math.sqrt(width * sum(points))  # torch's first weights of a layer that sees both
            for weight in (self.own.weight, self.context.weight, self.own.bias):
                nn.init.uniform_(weight, -bound, bound)
            nn.init.zeros_(self.context.bias)
            self.context.bias.requires_grad_(False)

    def forward(self, x: Tensor, valid: Tensor) -> Judgement:
        """Judge windows (B, inputs, T); snippets that are not `valid` (B, T) are padding behind the video's end."""
        if self.published:
            valid = torch.ones_like(valid)
        x = torch.relu(self.first(x)) * valid[:, None]
        x = self.shared(x, valid)
        y = self.graph(x, valid)
        # The semantic part of a sub-graph: every snippet's nearest, averaged, and aligned like the snippets.
        neighbourhood = gather_snippets(y, nearest_snippets(y, valid, self.neighbours)).mean(3) * valid[:, None]
        candidates = self.localisation(self.own(y) + self.context(neighbourhood))
        return Judgement(candidates, *(
            layer(block(x, valid)).squeeze(1) for layer, block in ((self.at_start, self.start), (self.at_end, self.end))
        ))  # fmt: skip


def balanced_mean(values: Tensor, groups: list[Tensor]) -> Tensor:
    """The mean over groups of the mean of each group's values; groups without a member are left out.

    `groups` are masks (of the shape of `values`, or one that broadcasts to it).
    """
    members = [g.expand_as(values) for g in groups]
    means = [values[g].mean() for g in members if g.any()]
    return torch.stack(means).mean() if means else values.sum() * 0


def gtad_loss(
    judged: Judgement,
    overlap: Tensor,
    start: Tensor,
    end: Tensor,
    valid: Tensor,
    positive_tiou: float = 0.9,
    weights: tuple[float, float] = (10.0, 1.0),
) -> dict[str, Tensor]:
    """The parts of G-TAD's loss, to be summed (section 3.4; L2 of the weights is the optimiser's).

    Sub-graphs: ten times (the first of `weights`) half the squared error of the regressed tIoU, candidates of much
    (> 0.7), middling (> 0.3) and little (> 0) overlap counting the same (which drawing equal numbers of them comes
    to), and the cross-entropy of whether the tIoU is above `positive_tiou`, both answers counting the same. Nodes: the
    same cross-entropy of being a start, and an end.

    Args:
        judged: of B windows.
        overlap: (B, D, T), each candidate's largest tIoU with a segment; negative for candidates that are none.
        start, end: (B, T), how much of a snippet lies in the region of a start or end; above 0.5 it is one.
        valid: (B, T), which snippets there are.
    """
    bce = nn.functional.binary_cross_entropy_with_logits
    there = overlap >= 0

    def cross_entropy(logits: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
        values = bce(logits, positive.to(logits.dtype), reduction="none")
        return balanced_mean(values, [positive & counted, ~positive & counted])

    error = 0.5 * (judged.candidates[:, 0].sigmoid() - overlap) ** 2
    levels = [overlap > 0.7, (overlap > 0.3) & (overlap <= 0.7), (overlap > 0) & (overlap <= 0.3)]
    return {
        "regression": weights[0] * balanced_mean(error, levels),
        "classification": weights[1] * cross_entropy(judged.candidates[:, 1], overlap > positive_tiou, there),
        "start": cross_entropy(judged.start, start > 0.5, valid),
        "end": cross_entropy(judged.end, end > 0.5, valid),
    }


EPSILON = 1e-6
"""Added to probabilities before the logarithm in the published code."""


def published_loss(
    judged: Judgement,
    overlap: Tensor,
    start: Tensor,
    end: Tensor,
    draws: Tensor,
    positive_tiou: float = 0.9,
    weights: tuple[float, float] = (1.0, 10.0),
    added: int = 10,
) -> dict[str, Tensor]:
    """The parts of the loss as the published code has them (github.com/frostinassiky/gtad), to be summed.

    `weights` of regression and classification and `added` are 1, 10 and 10 on THUMOS14, and 10, 1 and 0 on ActivityNet.

    - Regression: half the squared error over candidates of much overlap (> 0.7) and as many of middling and of little
      as are drawn: those whose number in `draws` (2, B, D, T), uniform in [0, 1), is above 1 - much / middling, or
      1 - much / little. Where there are more of much than of middling, every candidate of the batch gets in, as there.
    - Classification: cross-entropy of both answers, each summed and divided by twice its number, to which `added` is
      added. Candidates that leave the window (negative `overlap`) are in neither.
    - Nodes: the same for all snippets, padding too, with nothing added.

    The rest is as in `gtad_loss`. Without a candidate of much overlap in the batch the regression is 0 (there it is not
    a number).
    """
    there, overlap = overlap >= 0, overlap.clamp_min(0)
    much, middling = overlap > 0.7, (overlap > 0.3) & (overlap <= 0.7)
    little = (overlap > 0) & (overlap <= 0.3)
    count = much.to(overlap.dtype)
    for drawn, level in zip(draws, (middling, little), strict=True):
        count = count + (level * drawn > 1 - much.sum() / level.sum()).to(overlap.dtype)
    error = ((judged.candidates[:, 0].sigmoid() * count - overlap * count) ** 2).sum()
    positive = overlap > positive_tiou

    def cross_entropy(logits: Tensor, positive: Tensor, negative: Tensor, added: int = 0) -> Tensor:
        p = logits.sigmoid()
        right, wrong = (p + EPSILON).log() * positive, (1 - p + EPSILON).log() * negative
        halves = (x.sum() / (m.sum() + added).clamp_min(1) for x, m in ((right, positive), (wrong, negative)))
        return -torch.stack(list(halves)).sum() / 2

    return {
        "regression": weights[0] * 0.5 * error / count.sum().clamp_min(1),
        "classification": weights[1] * cross_entropy(judged.candidates[:, 1], positive, ~positive & there, added),
        "start": cross_entropy(judged.start, start > 0.5, start <= 0.5),
        "end": cross_entropy(judged.end, end > 0.5, end <= 0.5),
    }
