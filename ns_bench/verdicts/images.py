"""Differences image by image: what of their spread is of seeds, what of test images, and what the
interval over seeds does not cover.

Seeds and images are crossed: d[s, i] = mean + seed[s] + image[i] + rest[s, i], where an image is
tested at several seeds. The variances are estimated by moments that are unbiased however unevenly
that is so (in a balanced design they are those of the analysis of variance). Two seeds that share
test images have differences with a covariance, that of the images they share, which a t-interval
over seeds takes no note of:

    var(mean over S seeds) = E[variance over seeds] / S + var(image) * shared

with `shared` the mean over pairs of seeds of (images in both) / (n_s * n_t). The interval for new
seeds and new images is by these two terms, with Satterthwaite's degrees of freedom; its coverage is
in `python -m ns_bench.verdicts.coverage`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ns_bench.verdicts.statistics import Array, Interval, critical_t, mean_interval
from ns_bench.verdicts.table import flags


@dataclass(frozen=True)
class Spread:
    """A paired difference over seeds, and the split of the variance of one seed's difference.

    Attributes:
        interval: over seeds, at the images that they tested (Student's t).
        new_images: over new seeds and new images.
        seeds, images, rest: variances of one seed's difference, in the unit of the differences
            squared. The last two are per seed: of its n test images. Where no image is tested at
            two seeds, images cannot be told from the rest: nan, and `rest` is both.
    """

    interval: Interval
    new_images: Interval
    seeds: float
    images: float
    rest: float


def spread(values: Array) -> Spread:
    """Split the differences [seeds, images], nan where a seed does not test an image.

    Raises:
        ValueError: fewer than two seeds, or one with fewer than two images.
    """
    there = ~np.isnan(values)
    n = there.sum(axis=1)
    if len(values) < 2 or n.min() < 2:
        raise ValueError("a split needs two seeds, and two images at each")
    means = np.nanmean(values, axis=1)
    centred = np.where(there, values - means[:, None], 0.0)
    within = float(np.mean((centred**2).sum(axis=1) / (n - 1)))
    pairs = ~np.eye(len(values), dtype=bool)
    both = there.astype(float) @ there.T
    product = np.outer(n, n)
    pure = both * (1 - 1 / n - 1 / n[:, None] + both / product)  # means are of the same images
    image, shared = math.nan, 0.0
    if pure[pairs].sum() > 0:
        image = float((centred @ centred.T)[pairs].sum() / pure[pairs].sum())
        image, shared = min(max(image, 0.0), within), float((both / product)[pairs].mean())
    common = 0.0 if math.isnan(image) else image * shared
    plain = mean_interval(means)
    a_seed = float(np.mean(1 / n))
    return Spread(
        plain,
        _wider(plain, common, int(there.any(axis=0).sum())),
        seeds=max(plain.sd**2 - within * a_seed + common, 0.0),
        images=image * a_seed,
        rest=(within - (0.0 if math.isnan(image) else image)) * a_seed,
    )


def _wider(plain: Interval, common: float, images: int) -> Interval:
    """Return a t-interval over seeds with a further variance of its mean, by so many images."""
    own = plain.sd**2 / plain.n
    if common == 0:
        return plain
    freedom = (own + common) ** 2 / (own**2 / (plain.n - 1) + common**2 / (images - 1))
    wide = _around(plain, math.sqrt(own + common), freedom)
    # below six seeds more degrees of freedom may count more than more variance
    return plain if wide.high < plain.high else wide


def resampled(plain: Interval, tested: int, trained: int) -> Interval:
    """Return Nadeau and Bengio's (2003) corrected resampled t-interval of a t-interval over seeds
    whose test rows are drawn anew from the images of one set, as are those trained on.

    Their sets overlap, so that the mean varies by 1/n + tested / trained of the variance over
    seeds, not by 1/n: an estimate on the safe side.
    """
    error = plain.sd * math.sqrt(1 / plain.n + tested / trained)
    return _around(plain, error, plain.n - 1)


def _around(plain: Interval, error: float, freedom: float) -> Interval:
    half = float(critical_t(freedom + 1, 1 - plain.confidence)) * error
    low, high = plain.mean - half, plain.mean + half
    return Interval(plain.n, plain.mean, plain.sd, low, high, confidence=plain.confidence)


_COLUMNS = ["seed", "outcomes_of", "outcomes_tested", "outcomes_per_class", "arm", "outcomes_right"]


def by_image(
    runs: pd.DataFrame, weights: Mapping[str, float]
) -> dict[int, tuple[NDArray[np.int64], Array]]:
    """Return a contrast of test top-1 by seed: (image [n], difference [n] in points).

    Images of one number are the same. A seed is left out where an arm has no outcomes, or has been
    tested on other images than the others.
    """
    if "outcomes_right" not in runs:
        return {}
    # Plain rows of the few columns: a table has some hundred, which pandas would copy at each seed.
    known = runs.loc[runs["arm"].isin(list(weights)) & (runs["outcomes_right"] != ""), _COLUMNS]
    seeds: dict[int, list[tuple[str, ...]]] = {}
    for seed, *row in known.itertuples(index=False):
        seeds.setdefault(int(seed), []).append(tuple(row))
    first: dict[str, int] = {}  # number of the first image by where images are from
    end = 0
    differences: dict[int, tuple[NDArray[np.int64], Array]] = {}
    for seed, rows in sorted(seeds.items()):
        of, tested, per_class, _, _ = rows[0]
        if len(rows) < len(weights) or any(row[:2] != (of, tested) for row in rows):
            continue
        right = {arm: flagged for *_, arm, flagged in rows}
        count = sum(map(int, per_class.split()))
        places = np.flatnonzero(flags(tested)) if tested else np.arange(count)
        if of not in first:
            first[of] = end
        end = max(end, first[of] + int(places[-1]) + 1)
        value = sum(100 * weight * flags(right[arm], count) for arm, weight in weights.items())
        differences[seed] = (first[of] + places, np.asarray(value))
    return differences


def matrix(differences: Mapping[int, tuple[NDArray[np.int64], Array]]) -> Array:
    """Return differences as `spread` takes them, [seeds, images] in the order of seeds."""
    images = 1 + max(int(places.max()) for places, _ in differences.values())
    values = np.full((len(differences), images), np.nan)
    for row, (places, value) in zip(values, differences.values(), strict=True):
        row[places] = value
    return values


def mcnemar(better: int, worse: int) -> float:
    """Return the exact two-sided p of McNemar's test: of the images on which two networks differ,
    as many would be right by either if they were alike."""
    from scipy.special import bdtr

    differ = better + worse
    return min(1.0, 2 * float(bdtr(min(better, worse), differ, 0.5))) if differ else 1.0
