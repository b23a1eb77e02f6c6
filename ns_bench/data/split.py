"""One seed's split of a data set: labeled, unlabeled, validation and test rows."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ns_bench import recipe
from ns_bench.data import glyphs
from ns_bench.data.arrays import SetArrays, SplitArrays, set_arrays
from ns_bench.data.catalog import class_shares, describe
from ns_bench.data.convert import hashes
from ns_bench.data.lazy import LazyImages
from ns_bench.data.prepare import set_folder
from ns_bench.data.streams import stream
from ns_bench.errors import UserError

Images = Tensor | LazyImages
"""In memory, or decoded when they are needed."""


@dataclass(frozen=True)
class Labeled:
    """Images, uint8 [N, C, H, W], and labels, int64 [N]."""

    images: Images
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Unlabeled:
    """Images, uint8 [N, C, H, W], and nothing else: no label can leak through this type."""

    images: Images

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Tested:
    """Which images the test rows are, so that runs can be compared image by image.

    Attributes:
        digest: 16 hex digits of the images that they are chosen from.
        images: how many these are.
        rows: int64 [N], the place of each test row among them.
    """

    digest: str
    images: int
    rows: Tensor


@dataclass(frozen=True)
class Dataset:
    """One seed's split.

    `mean` and `std` ([C, 1, 1], float32, in units of 0-255) are those of the pixels that may be
    trained on: labeled and unlabeled rows, never validation or test; of lazy images, of
    thumbnails of labeled rows. `facts` of a set in files are
    for its result: its fingerprint, how many images of the pool were the same as a test or
    validation image and left out, how many labeled ones are and stay, and how many of the whole set
    could not be read.
    """

    classes: int
    labeled: Labeled
    unlabeled: Unlabeled
    validation: Labeled
    test: Labeled
    tested: Tested
    mean: Tensor
    std: Tensor
    facts: dict[str, Any] = field(default_factory=dict)

    def resized(self, side: int) -> "Dataset":
        """Return the same with images of `side` x `side` pixels (bilinear, antialiased); 0 leaves
        them as they are. Mean and standard deviation stay those of the images before."""
        if not side:
            return self

        def part(rows: Labeled) -> Labeled:
            return Labeled(_resized(rows.images, side), rows.labels)

        return replace(
            self,
            labeled=part(self.labeled),
            unlabeled=Unlabeled(_resized(self.unlabeled.images, side)),
            validation=part(self.validation),
            test=part(self.test),
        )


def class_names(spec: recipe.Data, store: Path = Path("runs")) -> list[str]:
    """Return the names of a data set's classes, in the order of a network's outputs; their numbers
    where they have none."""
    known = describe(spec)
    if spec.name == "glyphs":
        return list(glyphs.classes_of(known.classes))
    names: list[str] = []
    if known.file_set is not None:
        folder = set_folder(known.file_set, store, {})
        names = json.loads((folder / "meta.json").read_bytes()).get("classes", [])
    return names or [str(number) for number in range(known.classes)]


def load(spec: recipe.Data, seed: int, store: Path = Path("runs"), resolution: int = 0) -> Dataset:
    """Load one seed's split of the data set `spec.name`.

    Of a finite set, a permutation by the stream "split" gives test, then validation; the labeled
    rows are the first `labeled / classes` of each class among the rest, and what is left is the
    unlabeled pool, but for images that are also test or validation images. Test rows and the pool
    are from splits of their own where there are such. `glyphs` draws each part for the seed, from
    a stream of its own; with `spec.glyphs.fixed_test` the test rows are the same for every seed.

    Args:
        store: where the files of a set in files are noted; see `ns_bench.data.prepare`.
        resolution: side to which every image is resized, see `Dataset.resized`.

    Raises:
        UserError: unknown data set, or parts that do not fit into it, or files that are not there.
    """
    parts = _full_split(spec, seed, store)
    if parts.small is not None:
        mean, std = _exact_moments(parts.small)
    elif parts.facts:
        mean, std = _exact_moments(_pixels(parts.labeled), _pixels(parts.unlabeled))
    else:
        mean, std = _moments(parts)

    return Dataset(
        classes=describe(spec).classes,
        labeled=parts.labeled,
        unlabeled=Unlabeled(parts.unlabeled.images),
        validation=parts.validation,
        test=parts.test,
        tested=parts.tested,
        mean=mean.view(-1, 1, 1),
        std=std.view(-1, 1, 1),
        facts=parts.facts,
    ).resized(resolution)


def _resized(images: Images, side: int) -> Images:
    """Resize uint8 images [N, C, H, W] to [N, C, side, side]."""
    if isinstance(images, LazyImages):
        return replace(images, side=side)
    if side == images.shape[-1]:
        return images
    small = partial(nn.functional.interpolate, size=(side, side), mode="bilinear", antialias=True)
    chunks = [small(chunk) for chunk in images.split(8192)]
    return torch.cat(chunks) if len(images) else images.new_empty(0, images.shape[1], side, side)


def hidden_labels(spec: recipe.Data, seed: int, store: Path = Path("runs")) -> Tensor | None:
    """Return the true labels, int64 [N], of the unlabeled pool: for diagnostics after training.

    An image out of domain has -1; None is a pool of which nothing is known. Nothing that trains may
    call this; tests permute what it returns and expect the same student.
    """
    truth = _full_split(spec, seed, store, pixels=False).unlabeled.labels
    return truth if (truth >= 0).any() else None


class _FullSplit(NamedTuple):
    """A seed's split with the labels of every part, the pool's too."""

    labeled: Labeled
    unlabeled: Labeled
    validation: Labeled
    test: Labeled
    tested: Tested
    facts: dict[str, Any]
    small: Tensor | None = None  # thumbnails of labeled rows, where images are lazy


def _pixels(part: Labeled) -> Tensor:
    assert isinstance(part.images, Tensor)
    return part.images


def _full_split(spec: recipe.Data, seed: int, store: Path, pixels: bool = True) -> _FullSplit:
    """Return a seed's split. Without `pixels`, of a set that is not drawn, images are empty: labels
    are all that is asked for, and memory may not hold the images twice."""
    known = describe(spec)
    if spec.name == "glyphs":
        return _drawn(spec, seed, store)
    if known.file_set is None:
        whole = SetArrays(_split_arrays(LOADERS[spec.name]()))
    else:
        whole = set_arrays(known.file_set, store)
    if spec.source:
        shape = whole.labeled.images.shape[1:]
        other = _pool_of_source(spec, seed, store, shape)
        if spec.out_of_domain:
            return _mixed(_split(whole, spec, seed), other, spec.out_of_domain, seed)
        whole = replace(whole, unlabeled=other)
    if not pixels:
        whole = replace(
            whole,
            labeled=_blank(whole.labeled),
            test=whole.test and _blank(whole.test),
            unlabeled=whole.unlabeled and _blank(whole.unlabeled),
        )
    return _split(whole, spec, seed)


def _blank(part: SplitArrays) -> SplitArrays:
    return replace(part, images=part.images[:, :0])


def _mixed(parts: _FullSplit, strangers: SplitArrays, share: float, seed: int) -> _FullSplit:
    """Return the split with this share of its pool replaced by strangers, all shuffled.

    A row's place tells nothing of where it is from.
    """
    pool = parts.unlabeled
    foreign = round(share * len(pool))
    order = torch.randperm(len(pool), generator=stream(seed, "split", "mixed"))
    images = torch.cat([_pixels(pool)[foreign:], torch.from_numpy(strangers.images[:foreign])])
    labels = torch.cat([pool.labels[foreign:], torch.from_numpy(strangers.labels[:foreign])])
    return parts._replace(unlabeled=Labeled(images[order], labels[order]))


def _pool_of_source(
    spec: recipe.Data, seed: int, store: Path, shape: tuple[int, ...]
) -> SplitArrays:
    """Return every image that the data set `spec.source` has for a pool, or as many as are drawn.

    Labels are kept where both sets show the same classes, for diagnostics; else they are -1.
    """
    known = describe(spec)
    if spec.source == "glyphs":
        mixed = round(spec.out_of_domain * known.pool)
        labels = torch.arange(mixed or known.unlabeled or 0) % spec.glyphs.classes
        pool = _split_arrays(_glyphs(spec.glyphs, "source", labels, seed))
    elif known.pool_file_set is None:
        pool = _split_arrays(LOADERS[spec.source]())
    else:
        whole = set_arrays(known.pool_file_set, store)
        pool = whole.unlabeled or whole.labeled
    if pool.images.shape[1:] != shape:
        expected, actual = ("x".join(map(str, s)) for s in (shape, pool.images.shape[1:]))
        raise UserError(
            f"data.source={spec.source}: its images are {actual} (channels, height, width), "
            f"expected {expected} as '{spec.name}' has"
        )
    alike = {spec.name, spec.source} == {"digits", "glyphs"} and spec.glyphs.classes == 10
    return pool if alike else replace(pool, labels=np.full_like(pool.labels, -1))


def _split_arrays(part: Labeled) -> SplitArrays:
    images = _pixels(part).numpy()
    return SplitArrays(images, part.labels.numpy(), hashes(images))


def _moments(parts: _FullSplit) -> tuple[Tensor, Tensor]:
    train = torch.cat([_pixels(parts.labeled), _pixels(parts.unlabeled)]).float()
    return train.mean((0, 2, 3)), train.std((0, 2, 3))


def _exact_moments(*parts: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation by channel from how often each of the 256 values is there:
    exact, and without a copy of a large pool as floats."""
    channels = parts[0].shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for part in parts:
        for chunk in part.split(8192):
            for channel in range(channels):
                counts[channel] += chunk[:, channel].flatten().bincount(minlength=256)
    value, total = torch.arange(256, dtype=torch.float64), counts.sum(1)
    mean = (counts * value).sum(1) / total
    variance = (counts * (value - mean[:, None]) ** 2).sum(1) / (total - 1)
    return mean.float(), variance.sqrt().float()


def _split(whole: SetArrays, spec: recipe.Data, seed: int) -> _FullSplit:
    classes, source = describe(spec).classes, whole.labeled
    order = torch.randperm(len(source.labels), generator=stream(seed, "split"))
    if whole.test is None:
        test_source, test, order = source, order[: spec.test], order[spec.test :]
    else:
        test_source = whole.test
        test = torch.randperm(len(test_source.labels), generator=stream(seed, "split", "test"))
        test = test[: spec.test]
    validation, rest = order[: spec.validation], order[spec.validation :]
    chosen = _stratified(torch.tensor(source.labels[rest.numpy()]), spec, seed)
    if whole.unlabeled is None:
        pool_source, pool = source, rest[~chosen]
    else:
        pool_source = whole.unlabeled
        size = len(pool_source.labels)
        pool = torch.randperm(size, generator=stream(seed, "split", "unlabeled"))
    # of a test split the whole, so that the pool is the same however many of its rows are read
    tested = test_source.hashes if whole.test is not None else test_source.hashes[test.numpy()]
    seen = np.union1d(tested, source.hashes[validation.numpy()])
    new = torch.from_numpy(~np.isin(pool_source.hashes[pool.numpy()], seen))
    left_out = len(pool) - int(new.sum())
    pool = pool[new][: spec.unlabeled or None]
    if spec.imbalance > 1:
        truth = torch.tensor(pool_source.labels[pool.numpy()])
        if (truth < 0).any():
            raise UserError(
                f"data.imbalance={spec.imbalance:g}: the pool of '{spec.name}' has no labels to "
                "thin it by"
            )
        pool = pool[_thinned(truth, classes, spec.imbalance, seed)]
    labeled = rest[chosen]
    facts = {
        "fingerprint": whole.fingerprint,
        "duplicates_left_out": left_out,
        "duplicates_labeled": int(np.isin(source.hashes[labeled.numpy()], seen).sum()),
        "unreadable": whole.unreadable,
    }
    take = partial(_take, photo=spec.crop == "photo")
    return _FullSplit(
        take(source, labeled),
        take(pool_source, pool),
        take(source, validation),
        take(test_source, test),
        Tested(
            whole.fingerprint or _digest(test_source.images), len(test_source.labels), test.clone()
        ),
        facts if whole.fingerprint else {},
        None if source.lazy is None else _thumbnails(source, labeled),
    )


def _stratified(labels: Tensor, spec: recipe.Data, seed: int) -> Tensor:
    """Return which of the rows, bool [N], are labeled ones: the first of each class, or all."""
    known = describe(spec)
    if known.takes_all:
        return torch.ones(len(labels), dtype=torch.bool)
    per_class = spec.labeled // known.classes
    # rank of each remaining row within its class, in permuted order
    one_hot = torch.nn.functional.one_hot(labels, known.classes)
    if int(one_hot.sum(0).min()) < per_class:
        raise UserError(
            f"data.labeled={spec.labeled}: seed {seed} leaves a class fewer than {per_class} "
            f"images of '{spec.name}' beside data.validation and data.test"
        )
    rank = (one_hot.cumsum(0) * one_hot).sum(1) - 1
    return rank < per_class


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(images.tobytes()).hexdigest()[:16]


def _thumbnails(source: SplitArrays, rows: Tensor) -> Tensor:
    """Return thumbnails of at most 65,536 rows."""
    return torch.from_numpy(source.images[rows[:65536].numpy()])


def _take(source: SplitArrays, rows: Tensor, photo: bool = False) -> Labeled:
    index = rows.numpy()
    if source.lazy is not None:
        lazy = replace(source.lazy[index], photo=photo)
        return Labeled(lazy, torch.from_numpy(source.labels[index]))
    # indexing copies what was mapped from disk
    return Labeled(torch.from_numpy(source.images[index]), torch.from_numpy(source.labels[index]))


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


def _glyphs(look: recipe.Glyphs, part: str, labels: Tensor, seed: int) -> Labeled:
    drawn = glyphs.images(
        labels,
        classes=look.classes,
        pixels=look.pixels,
        difficulty=look.difficulty,
        generator=stream(seed, "glyphs", part),
    )
    return Labeled(drawn, labels)


def _drawn(spec: recipe.Data, seed: int, store: Path) -> _FullSplit:
    """Draw every part: classes in equal numbers, but for a pool that is to be imbalanced.

    Drawn anew for every run: 10,000 images take less time than reading them from a disk would.
    """
    look = spec.glyphs

    def part(name: str, count: int) -> Labeled:
        return _glyphs(look, name, torch.arange(count) % look.classes, seed)

    labeled = part("labeled", spec.labeled)
    if spec.source:
        other = _pool_of_source(spec, seed, store, labeled.images.shape[1:])
        order = torch.randperm(len(other.labels), generator=stream(seed, "split", "unlabeled"))
        pool = _take(other, order[: spec.unlabeled or None])
    else:
        pool = _drawn_pool(spec, seed)
    validation, test = part("validation", spec.validation), part("test", spec.test)
    if look.fixed_test:
        test = _glyphs(look, "fixed test", test.labels, seed=0)
    tested = Tested(_digest(_pixels(test).numpy()), len(test), torch.arange(len(test)))
    return _FullSplit(labeled, pool, validation, test, tested, {})


def _drawn_pool(spec: recipe.Data, seed: int) -> Labeled:
    look = spec.glyphs
    foreign = round(spec.unlabeled * spec.out_of_domain)
    shares = _shares(look.classes, spec.imbalance, seed)
    edges = (shares.cumsum(0) / shares.sum() * (spec.unlabeled - foreign)).round().long()
    labels = torch.repeat_interleave(edges.diff(prepend=torch.zeros(1, dtype=torch.long)))
    pool = _glyphs(look, "unlabeled", labels, seed)
    strangers = glyphs.out_of_domain(
        foreign,
        look.foreign,
        classes=look.classes,
        pixels=look.pixels,
        difficulty=look.difficulty,
        generator=stream(seed, "glyphs", "foreign"),
    )
    # shuffled, so that a row's place tells nothing of its class
    order = torch.randperm(spec.unlabeled, generator=stream(seed, "glyphs", "order"))
    images = torch.cat([_pixels(pool), strangers])[order]
    truth = torch.cat([labels, torch.full((foreign,), -1)])[order]
    return Labeled(images, truth)


@lru_cache(maxsize=1)
def _digits() -> Labeled:
    """Handwritten digits (UCI, shipped with scikit-learn): 1,797 grey 8x8 images, 10 classes."""
    package = find_spec("sklearn")  # which costs 2 s and 120 MB to import: its file is enough
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float32))
    images = rows[:, :-1].reshape(-1, 1, 8, 8).mul(255 / 16).round().to(torch.uint8)
    return Labeled(images, rows[:, -1].long())


LOADERS: dict[str, Callable[[], Labeled]] = {"digits": _digits}
"""Loaders of sets in packages by their name: every image with its label, in a fixed order."""
