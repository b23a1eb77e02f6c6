"""Targets of a pool: for every image a distribution over the classes, whole or its top classes."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

CHUNK = 1_000_000
"""Rows that are looked at together."""


def smooth_one_hot(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return targets, float32 [N, classes]: 1 - smoothing on the label, the rest spread evenly."""
    targets = torch.full((len(labels), classes), smoothing / classes)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)


@dataclass(frozen=True)
class Sparse:
    """The `k` most likely classes of each row, most likely first.

    Attributes:
        classes: int16 [N, k] (int32 for more than 32,767 classes).
        log_probabilities: float16 [N, k], at temperature 1.
        of: classes there are.
    """

    classes: Tensor
    log_probabilities: Tensor
    of: int

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: Tensor | slice) -> "Sparse":
        return Sparse(self.classes[rows], self.log_probabilities[rows], self.of)


def sparse(logits: Tensor, k: int) -> Sparse:
    """Keep the `k` most likely classes of logits [N, classes] of any float type."""
    of = logits.shape[1]
    top = logits.float().log_softmax(1).topk(min(k, of), dim=1)
    kind = torch.int16 if of <= 2**15 - 1 else torch.int32
    return Sparse(top.indices.to(kind), top.values.half(), of)


def _tempered(labels: Sparse, temperature: float) -> tuple[Tensor, Tensor]:
    """Return probabilities, float32 [N, k], of the kept classes and [N, 1] of each other one.

    What the kept classes leave is spread evenly over the others.
    """
    logs = labels.log_probabilities.float()
    others = labels.of - logs.shape[1]
    left = (1 - logs.exp().sum(1, keepdim=True)).clamp(min=0) / max(others, 1)
    kept, rest = (logs / temperature).exp(), left.pow(1 / temperature)
    total = kept.sum(1, keepdim=True) + others * rest
    return kept / total, rest / total


def probabilities(labels: Sparse, temperature: float = 1.0) -> Tensor:
    """Return dense probabilities, float32 [N, classes]; rows sum to 1."""
    kept, rest = _tempered(labels, temperature)
    dense = rest.expand(-1, labels.of).clone()
    return dense.scatter_(1, labels.classes.long(), kept)


def confidence(labels: Sparse, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the top probability, float32 [N], and its class, int64 [N]."""
    return _tempered(labels, temperature)[0][:, 0], labels.classes[:, 0].long()


@dataclass(frozen=True)
class SparseTargets:
    """Targets of a large pool, float32 [pool, classes], of which only what is asked for is made.

    It has the methods of a tensor that training and `pseudo.quality` call.

    Attributes:
        smoothing: of hard targets; None is soft ones.
    """

    labels: Sparse
    temperature: float = 1.0
    smoothing: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.labels), self.labels.of

    def __getitem__(self, rows: Tensor) -> Tensor:
        some = self.labels[rows]
        if self.smoothing is None:
            return probabilities(some, self.temperature)
        return smooth_one_hot(some.classes[:, 0].long(), some.of, self.smoothing)

    def to(self, device: str) -> "SparseTargets":
        kept = self.labels
        moved = Sparse(kept.classes.to(device), kept.log_probabilities.to(device), kept.of)
        return replace(self, labels=moved)

    def max(self, dim: int) -> tuple[Tensor, Tensor]:
        """Return the top probability and its class, of soft targets."""
        assert dim == 1 and self.smoothing is None
        parts = [
            confidence(self.labels[part], self.temperature)
            for part in (slice(at, at + CHUNK) for at in range(0, max(len(self.labels), 1), CHUNK))
        ]
        return torch.cat([sure for sure, _ in parts]), torch.cat([label for _, label in parts])


@dataclass(frozen=True)
class PseudoLabeled:
    """The unlabeled rows a student sees.

    Attributes:
        rows: int64 [M], indices into the pool; a row may occur more than once.
        probabilities: float32 [pool, classes], the teacher's, after the temperature.
        targets: float32 [pool, classes], rows sum to 1. Of a large pool both are sparse.
    """

    rows: Tensor
    probabilities: Tensor | SparseTargets
    targets: Tensor | SparseTargets
