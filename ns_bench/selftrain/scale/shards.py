"""Pseudo-labels of a pool too large to hold: sparse labels, and filtering and balancing in passes.

A pool of 10^8 images and 1,000 classes has 200 GB of fp16 logits. Its labels are kept as the `k`
most likely classes of each image instead, `4 k` bytes an image (40 for k = 10, so 4 GB), in shards
that are made independently. Which rows a student sees is found by `select` in two passes over the
shards, in memory that does not grow with the pool but for four bytes an image of the answer.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from ns_bench.errors import UserError
from ns_bench.recipe import PseudoLabels
from ns_bench.selftrain.targets import (
    CHUNK,
    PseudoLabeled,
    Sparse,
    SparseTargets,
    confidence,
)


def pseudo_label_sparse(
    labels: Sparse, spec: PseudoLabels, label_smoothing: float, generator: torch.Generator
) -> PseudoLabeled:
    """Label, filter and balance like `pseudo_label`, from the top classes of each image.

    Rows are in the order of the pool, their repeats beside each other.

    Raises:
        UserError: as `select`.
    """

    temperature = 1.0 if spec.confidence == "teacher" else spec.temperature

    def shards() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(0, len(labels), CHUNK):
            sure, label = confidence(labels[at : at + CHUNK], temperature)
            yield sure.numpy(), label.numpy()

    copies = torch.from_numpy(select(shards, len(labels), labels.of, spec, generator))
    soft = SparseTargets(labels, spec.temperature)
    hard = replace(soft, smoothing=label_smoothing)
    rows = torch.arange(len(copies)).repeat_interleave(copies)
    return PseudoLabeled(rows, soft, soft if spec.kind == "soft" else hard)


def bounds(rows: int, shard: int, of: int) -> slice:
    """Return the rows of shard `shard` (from 0) of `of`: all together are the pool, in order."""
    return slice(rows * shard // of, rows * (shard + 1) // of)


# --- filtering and balancing ----------------------------------------------------------------

Shards = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Reads a pool in its order, anew at each call: confidence, float32 [n], and class, int64 [n]."""

_EDGES = (1 / (1 + np.exp(-np.linspace(-8, 17, 511)))).astype(np.float32)
"""Of bins of confidence, even in log-odds: most of a good teacher's confidences are close to 1."""


def select(
    shards: Shards, rows: int, classes: int, spec: PseudoLabels, generator: torch.Generator
) -> np.ndarray:
    """Return how often a student sees each row in an epoch, int32 [rows].

    The rows, their repeats and what is drawn from `generator` are those of `pseudo_label`.

    Pass 1 counts each class's confidences in 512 bins: 4 KB a class. From them it is known which
    bin has the last row that is taken, and which classes have too few rows. Pass 2 takes what is
    above that bin; the rows in it, and those of classes of which some are repeated once more, have
    to be ranked exactly: 16 bytes each, and at most 2 x `per_class` of a class at any time.

    A limit takes one more pass, and the pool's random order: 8 bytes an image.

    Raises:
        UserError: no row has a confidence between threshold and ceiling.
    """
    most = rows
    if spec.limit:
        shards, most = _limited(shards, rows, spec, generator), min(rows, spec.limit)
    if spec.balance:
        per_class = spec.per_class or max(most // classes, 1)
        copies = _balanced(shards, rows, classes, per_class, spec, generator)
    else:
        copies = np.zeros(rows, np.int32)
        for row, _, _ in _passing(shards, spec):
            copies[row] = 1
    if not copies.any():
        raise UserError(
            f"pseudo.threshold={spec.threshold:g} and pseudo.ceiling={spec.ceiling:g}: the teacher "
            f"is that sure of none of the {rows} unlabeled images"
        )
    return copies


def _limited(shards: Shards, rows: int, spec: PseudoLabels, generator: torch.Generator) -> Shards:
    """Return the pool with confidence for `spec.limit` of its passing rows alone, at random."""
    rank = torch.randperm(rows, generator=generator).numpy()
    passing = np.concatenate([rank[row] for row, _, _ in _passing(shards, spec)])
    last = (
        np.partition(passing, spec.limit - 1)[spec.limit - 1] if len(passing) > spec.limit else rows
    )

    def limited() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        start = 0
        for sure, label in shards():
            yield np.where(rank[start : start + len(sure)] <= last, sure, -1), label
            start += len(sure)

    return limited


def _balanced(
    shards: Shards,
    rows: int,
    classes: int,
    per_class: int,
    spec: PseudoLabels,
    generator: torch.Generator,
) -> np.ndarray:
    counts = np.zeros((classes, len(_EDGES) + 1), np.int64)
    for _, sure, label in _passing(shards, spec):
        where = label * counts.shape[1] + _bins(sure)
        counts += np.bincount(where, minlength=counts.size).reshape(counts.shape)
    total = counts.sum(1)
    scarce = total <= per_class
    whole, rest = np.divmod(per_class, np.maximum(total, 1))
    # rows in this bin and above, and above it
    upward = counts[:, ::-1].cumsum(1)[:, ::-1]
    above = upward - counts
    edge = np.where(scarce, -1, (upward >= per_class).sum(1) - 1)
    needed = per_class - above[np.arange(classes), np.maximum(edge, 0)]
    # of a scarce class a random choice of its ranks comes once more
    again = {
        int(c): torch.randperm(int(total[c]), generator=generator)[: int(rest[c])].numpy()
        for c in np.flatnonzero(scarce & (total > 0))
    }
    ranked = np.where(scarce, np.where(rest > 0, total, 0), needed)  # rows to rank, by class

    copies = np.zeros(rows, np.int32)
    none = np.zeros(0, np.int64)
    undecided: list[_Rows] = [(none, none, none.astype(np.float32))]
    held = 0
    for row, sure, label in _passing(shards, spec):
        bins, few = _bins(sure), scarce[label]
        copies[row[few]] = whole[label[few]]
        copies[row[~few & (bins > edge[label])]] = 1
        unsure = np.where(few, rest[label] > 0, bins == edge[label])
        undecided.append((label[unsure], row[unsure], sure[unsure]))
        held += int(unsure.sum())
        if held > 2 * ranked.sum():
            undecided = [_best(undecided, ranked)]
            held = len(undecided[0][0])
    label, row, _ = _best(undecided, ranked)
    for c in np.unique(label):
        best = row[label == c]
        copies[best[again[c]] if scarce[c] else best] += 1
    return copies


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows with their class, number in the pool and confidence."""


def _passing(
    shards: Shards, spec: PseudoLabels
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield number, confidence and class of a shard's rows between threshold and ceiling."""
    start = 0
    for sure, label in shards():
        kept = np.flatnonzero((sure > spec.threshold) & (sure <= spec.ceiling))
        yield start + kept, sure[kept], label[kept]
        start += len(sure)


def _bins(sure: np.ndarray) -> np.ndarray:
    return np.searchsorted(_EDGES, sure, side="right")


def _best(parts: list[_Rows], most: np.ndarray) -> _Rows:
    """Return the `most[c]` surest rows of each class c: by class, then surest and first first."""
    label, row, sure = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((row, -sure, label))
    label, row, sure = label[order], row[order], sure[order]
    rank = np.arange(len(label)) - np.searchsorted(label, label)
    kept = rank < most[label]
    return label[kept], row[kept], sure[kept]
