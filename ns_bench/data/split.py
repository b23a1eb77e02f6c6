"""One seed's split of a data set: labeled, unlabeled, validation and test rows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ns_bench import recipe
from ns_bench.data import glyphs
from ns_bench.data.catalog import class_shares, classes_of, pool_size
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
    """Load one seed's split of the data set `spec.name`.

    Of a finite set, a permutation by the stream "split" gives test, then validation; the labeled
    rows are the first `labeled / classes` of each class among the rest, and what is left is the
    unlabeled pool. `glyphs` draws each part for the seed, from a stream of its own.

    Raises:
        UserError: unknown data set, or parts that do not fit into it.
    """
    parts = _parts(spec, seed)
    train = torch.cat([parts.labeled.images, parts.unlabeled.images]).float()
    return Dataset(
        classes=classes_of(spec),
        labeled=parts.labeled,
        unlabeled=Unlabeled(parts.unlabeled.images),
        validation=parts.validation,
        test=parts.test,
        mean=train.mean((0, 2, 3)).view(-1, 1, 1),
        std=train.std((0, 2, 3)).view(-1, 1, 1),
    )


def hidden_labels(spec: recipe.Data, seed: int) -> Tensor:
    """Return the true labels, int64 [N], of the unlabeled pool: for diagnostics after training.

    An image out of domain has -1. Nothing that trains may call this; tests permute what it returns
    and expect the same student.
    """
    return _parts(spec, seed).unlabeled.labels


class _Parts(NamedTuple):
    """A seed's split with the labels of every part, the pool's too."""

    labeled: Labeled
    unlabeled: Labeled
    validation: Labeled
    test: Labeled


def _parts(spec: recipe.Data, seed: int) -> _Parts:
    pool_size(spec)
    return _drawn(spec, seed) if spec.name == "glyphs" else _split(spec, seed)


def _split(spec: recipe.Data, seed: int) -> _Parts:
    everything = SOURCES[spec.name]()
    classes = classes_of(spec)
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
    pool = rest[~chosen][: spec.unlabeled or None]
    if spec.imbalance > 1:
        pool = pool[_thinned(everything.labels[pool], classes, spec.imbalance, seed)]

    def take(rows: Tensor) -> Labeled:
        return Labeled(everything.images[rows], everything.labels[rows])

    return _Parts(take(rest[chosen]), take(pool), take(validation), take(test))


def _shares(classes: int, imbalance: float, seed: int) -> Tensor:
    """Return the size of each class in the pool, float [classes], as a share of the largest."""
    order = torch.randperm(classes, generator=stream(seed, "imbalance"))
    return torch.tensor(class_shares(classes, imbalance))[order]


def _thinned(labels: Tensor, classes: int, imbalance: float, seed: int) -> Tensor:
    """Return which rows of a balanced pool stay, bool [N]: the first of each class."""
    one_hot = torch.nn.functional.one_hot(labels, classes)
    rank = ((one_hot.cumsum(0) - 1) * one_hot).sum(1)
    keep = (one_hot.sum(0) * _shares(classes, imbalance, seed)).round().clamp(min=1)
    return rank < keep[labels]


def _drawn(spec: recipe.Data, seed: int) -> _Parts:
    """Draw every part: classes in equal numbers, but for a pool that is to be imbalanced.

    Drawn anew for every run: 10,000 images take less time than reading them from a disk would.
    """
    look = spec.glyphs
    options: dict[str, Any] = {
        "classes": look.classes,
        "pixels": look.pixels,
        "difficulty": look.difficulty,
    }

    def part(name: str, labels: Tensor) -> Labeled:
        images = glyphs.images(labels, generator=stream(seed, "glyphs", name), **options)
        return Labeled(images, labels)

    def even(count: int) -> Tensor:
        return torch.arange(count) % look.classes

    foreign = round(spec.unlabeled * spec.out_of_domain)
    shares = _shares(look.classes, spec.imbalance, seed)
    edges = (shares.cumsum(0) / shares.sum() * (spec.unlabeled - foreign)).round().long()
    labels = torch.repeat_interleave(edges.diff(prepend=torch.zeros(1, dtype=torch.long)))
    pool = part("unlabeled", labels)
    strangers = glyphs.out_of_domain(
        foreign, look.foreign, generator=stream(seed, "glyphs", "foreign"), **options
    )
    # shuffled, so that a row's place tells nothing of its class
    order = torch.randperm(spec.unlabeled, generator=stream(seed, "glyphs", "order"))
    images = torch.cat([pool.images, strangers])[order]
    truth = torch.cat([labels, torch.full((foreign,), -1)])[order]
    return _Parts(
        part("labeled", even(spec.labeled)),
        Labeled(images, truth),
        part("validation", even(spec.validation)),
        part("test", even(spec.test)),
    )


@lru_cache(maxsize=1)
def _digits() -> Labeled:
    """Handwritten digits (UCI, shipped with scikit-learn): 1,797 grey 8x8 images, 10 classes."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    return Labeled(images, torch.from_numpy(labels).long())


SOURCES: dict[str, Callable[[], Labeled]] = {"digits": _digits}
"""Loaders of finite sets by their name: every image with its label, in a fixed order."""
