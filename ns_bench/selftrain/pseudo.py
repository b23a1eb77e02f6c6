"""Pseudo-labels: from a teacher's stored logits to the rows and targets a student trains on."""

import torch
from torch import Tensor

from ns_bench.errors import UserError
from ns_bench.recipe import PseudoLabels
from ns_bench.selftrain.scale.shards import pseudo_label_sparse
from ns_bench.selftrain.targets import PseudoLabeled, Sparse, smooth_one_hot


def pseudo_label(
    logits: Tensor | Sparse, spec: PseudoLabels, label_smoothing: float, generator: torch.Generator
) -> PseudoLabeled:
    """Label, filter and balance the pool (paper, section 3.2; official `filter_unlabel.py`).

    Args:
        logits: the teacher's on clean images, any float type [pool, classes]; of a large pool its
            top classes, see `ns_bench.selftrain.scale.shards`.
        label_smoothing: goes to hard targets only, as in the official code.
        generator: chooses rows where there is a limit, then which rows of scarce classes are
            repeated once more.

    Raises:
        UserError: no row has a top probability between threshold and ceiling.
    """
    if isinstance(logits, Sparse):
        return pseudo_label_sparse(logits, spec, label_smoothing, generator)
    probabilities = torch.softmax(logits.float() / spec.temperature, dim=1)
    plain = spec.confidence == "teacher" and spec.temperature != 1
    confidence, label = (torch.softmax(logits.float(), dim=1) if plain else probabilities).max(1)
    rows = torch.nonzero((confidence > spec.threshold) & (confidence <= spec.ceiling)).flatten()
    if not len(rows):
        upper = f" and pseudo.ceiling={spec.ceiling:g}" if spec.ceiling < 1 else ""
        raise UserError(
            f"pseudo.threshold={spec.threshold}{upper}: the teacher is that sure of none of the "
            f"{len(logits)} unlabeled images (its confidence: {confidence.min():.3f} to "
            f"{confidence.max():.3f})"
        )
    size = len(logits)
    if spec.limit:
        rank = torch.randperm(len(logits), generator=generator)
        rows = rows[rank[rows].argsort()[: spec.limit]].sort().values
        size = min(size, spec.limit)
    if spec.balance:
        per_class = spec.per_class or max(size // logits.shape[1], 1)
        rows = balance(rows, label[rows], confidence[rows], per_class, generator)
    targets = probabilities
    if spec.kind == "hard":
        targets = smooth_one_hot(label, logits.shape[1], label_smoothing)
    return PseudoLabeled(rows, probabilities, targets)


def balance(
    rows: Tensor, label: Tensor, confidence: Tensor, per_class: int, generator: torch.Generator
) -> Tensor:
    """Return `per_class` rows of each class: the most confident, or repeats where too few.

    A class with k < per_class rows gets each of them floor(per_class / k) times and a random
    choice of them once more. A class that no row was given to stays empty.
    """
    balanced = []
    for c in label.unique():
        members = rows[label == c]
        ranked = members[confidence[label == c].argsort(descending=True, stable=True)]
        whole, rest = divmod(per_class, len(ranked))
        if whole:
            extra = ranked[torch.randperm(len(ranked), generator=generator)[:rest]]
            balanced.append(torch.cat([ranked.repeat(whole), extra]))
        else:
            balanced.append(ranked[:per_class])
    return torch.cat(balanced)


def quality(labeled: PseudoLabeled, truth: Tensor | None) -> dict[str, float | list[int]]:
    """Compare pseudo-labels with the hidden truth, int64 [pool]: a diagnostic, after training.

    An image out of domain has truth -1: no label of it is right. Without a truth, what needs one
    is left out.

    Returns pool (images in it), rows (seen in an epoch, repeats counted), coverage (share of the
    pool that is seen), accuracy over the pool and over the rows, share out of domain of both, mean
    confidence of the rows, how many of the pool and of the rows fall into each predicted class; and
    by tenths of confidence how many of the pool there are, and how many of these are right.
    """
    confidence, label = labeled.probabilities.max(1)
    known = torch.full_like(label, -1) if truth is None else truth
    used = labeled.rows.unique()
    right = (label == known).float()
    foreign = (known < 0).float()
    classes = labeled.probabilities.shape[1]
    tenth = (confidence * 10).long().clamp(max=9)
    found = {
        "pool": len(known),
        "rows": len(labeled.rows),
        "coverage": len(used) / len(known),
        "accuracy_pool": right.mean().item(),
        "accuracy_used": right[labeled.rows].mean().item(),
        "foreign_pool": foreign.mean().item(),
        "foreign_used": foreign[labeled.rows].mean().item(),
        "confidence": confidence[labeled.rows].mean().item(),
        "per_class_pool": label.bincount(minlength=classes).tolist(),
        "per_class_used": label[labeled.rows].bincount(minlength=classes).tolist(),
        "per_tenth": tenth.bincount(minlength=10).tolist(),
        "per_tenth_right": tenth[right.bool()].bincount(minlength=10).tolist(),
    }
    needs = () if truth is not None else ("accuracy", "foreign", "per_tenth_right")
    return {name: value for name, value in found.items() if not name.startswith(needs)}
