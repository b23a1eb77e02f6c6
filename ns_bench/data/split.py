"""One seed's split of a data set: labeled, unlabeled, validation and test rows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ns_bench import recipe
from ns_bench.data.catalog import CATALOG, pool_size
from ns_bench.errors import UserError
from ns_bench.streams import stream


@dataclass(frozen=True)
class Labeled:
    """Images, uint8 [N, C, H, W], and labels, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Unlabeled:
    """Images, uint8 [N, C, H, W], and nothing else: no label can leak through this type."""

    images: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """One seed's split.

    `mean` and `std` ([C, 1, 1], float32, in units of 0-255) are those of the pixels that may be
    trained on: labeled and unlabeled rows, never validation or test.
    """

    classes: int
    labeled: Labeled
    unlabeled: Unlabeled
    validation: Labeled
    test: Labeled
    mean: Tensor
    std: Tensor


def load(spec: recipe.Data, seed: int) -> Dataset:
    """Load the data set `spec.name` and split it for `seed`.

    A permutation by the stream "split" gives test, then validation; the labeled rows are the first
    `labeled / classes` of each class among the rest, and what is left is the unlabeled pool.

    Raises:
        UserError: unknown data set, or parts that do not fit into it.
    """
    everything, rows = _split(spec, seed)
    train = everything.images[torch.cat([rows["labeled"], rows["unlabeled"]])].float()
    return Dataset(
        classes=CATALOG[spec.name].classes,
        labeled=_take(everything, rows["labeled"]),
        unlabeled=Unlabeled(everything.images[rows["unlabeled"]]),
        validation=_take(everything, rows["validation"]),
        test=_take(everything, rows["test"]),
        mean=train.mean((0, 2, 3)).view(-1, 1, 1),
        std=train.std((0, 2, 3)).view(-1, 1, 1),
    )


def hidden_labels(spec: recipe.Data, seed: int) -> Tensor:
    """Return the true labels, int64 [N], of the unlabeled pool: for diagnostics after training.

    Nothing that trains may call this; tests permute what it returns and expect the same student.
    """
    everything, rows = _split(spec, seed)
    return everything.labels[rows["unlabeled"]]


def _take(everything: Labeled, rows: Tensor) -> Labeled:
    return Labeled(everything.images[rows], everything.labels[rows])


def _split(spec: recipe.Data, seed: int) -> tuple[Labeled, dict[str, Tensor]]:
    pool_size(spec)
    everything = SOURCES[spec.name]()
    classes = CATALOG[spec.name].classes
    order = torch.randperm(len(everything), generator=stream(seed, "split"))
    test, validation, rest = (
        order[: spec.test],
        order[spec.test : spec.test + spec.validation],
        order[spec.test + spec.validation :],
    )
    per_class = spec.labeled // classes
    # rank of each remaining row within its class, in permuted order
    one_hot = torch.nn.functional.one_hot(everything.labels[rest], classes)
    rank = (one_hot.cumsum(0) * one_hot).sum(1) - 1
    chosen = rank < per_class
    if int(one_hot.sum(0).min()) < per_class:
        raise UserError(
            f"data.labeled={spec.labeled}: seed {seed} leaves a class fewer than {per_class} "
            f"images of '{spec.name}' beside data.validation and data.test"
        )
    parts = {
        "test": test,
        "validation": validation,
        "labeled": rest[chosen],
        "unlabeled": rest[~chosen],
    }
    return everything, parts


@lru_cache(maxsize=1)
def _digits() -> Labeled:
    """Handwritten digits (UCI, shipped with scikit-learn): 1,797 grey 8x8 images, 10 classes."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    return Labeled(images, torch.from_numpy(labels).long())


SOURCES: dict[str, Callable[[], Labeled]] = {"digits": _digits}
"""Loaders by the name in the catalog: every image with its label, in a fixed order."""
