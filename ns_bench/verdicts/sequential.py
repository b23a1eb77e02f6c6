"""Tests that may be looked at: sign flips over a schedule of looks, and intervals from them.

A contrast has one difference a seed. Under the null that its center is `shift`, the differences
minus the shift are as likely with any signs as with those observed. The signs of the whole path
are flipped at once (Westfall and Young 1993), so the flipped paths show how the looks hang
together, whatever the distribution: each flipped path is judged at every look as the observed one
is. A schedule says which share of alpha may be spent by each look (Lan and DeMets 1983). At look k
the boundary is the smallest size of a sum that no more flipped paths pass than the budget allows,
those that passed an earlier boundary included; what ties leave unspent goes on to the next look.

Validity. Of the flipped paths a share of at most alpha ever passes, and if the null is true the
observed path is as likely to be any of them: it passes with probability alpha at most, upwards
with half of that. This is exact for differences that are symmetric around the shift (of two arms
that are alike they always are), for any number of seeds. Up to EXACT + 1 seeds every pattern of
signs is there, beyond it later signs are drawn at random, once for all studies; the observed path
is one of the set, which keeps the test exact (Hemerik and Goeman 2018).

The p-value of a path that passed a boundary at look k is the stage-wise one: the share of flipped
paths that stopped earlier, or are as extreme at k (Jennison and Turnbull 2000, section 8.4). Before
that it is divided by the share of alpha that may be spent so far, a repeated p-value (chapter 9).
So "p <= level" and "a boundary was passed" are the same. The repeated interval (chapter 9) holds
the shifts that no look so far has rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ns_bench.design.schedule import Schedule
from ns_bench.verdicts.statistics import TIE, Array

EXACT = 14
"""All 2^EXACT patterns of the first EXACT + 1 signs are there, up to a change of every sign."""

BATCH = 2**17
"""Flipped paths that are walked at a time: their arrays stay in a processor's cache."""


@dataclass(frozen=True)
class Walk:
    """What the looks say of paths, each array [level, path, look].

    Attributes:
        p: of the null, by this look; at most the level if and only if a boundary was passed.
        side: 1 if the boundary was first passed upwards by this look, -1 downwards, else 0.
        boundary: what the size of the mean has to exceed at this look; inf where nothing passes.
    """

    p: Array
    side: NDArray[np.int8]
    boundary: Array

    def split(self, ends: Sequence[int]) -> list["Walk"]:
        """Return the parts of paths that end before each of `ends`, and the rest."""
        parts = (np.split(each, ends, axis=1) for each in (self.p, self.side, self.boundary))
        return [Walk(*part) for part in zip(*parts, strict=True)]


def walk(
    differences: Array, schedule: Schedule, levels: Sequence[float], exact: int = EXACT
) -> Walk:
    """Test at every complete look whether paths have their center at 0.

    Args:
        differences: [path, seed]; a shift is tested by subtracting it before.
        levels: two-sided, each in (0, 1).
        exact: log2 of the number of sign patterns; fewer are faster, for simulations.
    """
    count = schedule.complete(differences.shape[1])
    shape = (len(levels), len(differences), count)
    walked = Walk(np.ones(shape), np.zeros(shape, dtype=np.int8), np.full(shape, np.inf))
    size = max(BATCH >> exact, 1)
    for first in range(0, len(differences), size):
        batch = slice(first, first + size)
        part = Walk(walked.p[:, batch], walked.side[:, batch], walked.boundary[:, batch])
        _walk(differences[batch], schedule, levels, part, exact)
    return walked


def _walk(
    paths: Array, schedule: Schedule, levels: Sequence[float], walked: Walk, exact: int
) -> None:
    """Fill in `walked`. The arrays here are [path, pattern], and grow with the patterns."""
    looks = schedule.looks[: walked.p.shape[-1]]
    rows = np.arange(len(paths))[:, None]
    sums = np.zeros((len(paths), 1))
    passed = [np.zeros(sums.shape, dtype=bool) for _ in levels]
    before = 0
    for k, n in enumerate(looks):
        signs = _patterns(n, exact)
        total, share = signs.shape[1], schedule.spending[k]
        if (growth := total // sums.shape[1]) > 1:
            sums, *passed = (np.tile(each, (1, growth)) for each in (sums, *passed))
        sums = sums + paths[:, before:n] @ signs[before:]
        size = np.abs(sums)
        tie = TIE * np.abs(paths[:, :n]).sum(axis=1, keepdims=True)
        extreme = size >= size[:, :1] - tie
        largest = rows, _largest(size, int(max(levels) * share * total + TIE) + 1)
        values = size[largest]
        for i, level in enumerate(levels):
            p = (passed[i] | extreme).sum(axis=1) / total
            boundary = _pass(values, tie, largest, passed[i], int(level * share * total + TIE))
            now = np.sign(sums[:, 0]) * (size[:, 0] > boundary)
            p0, side0 = (walked.p[i, :, k - 1], walked.side[i, :, k - 1]) if k else (1.0, 0)
            walked.p[i, :, k] = np.where(side0, p0, np.where(now, p, np.minimum(p0, p / share)))
            walked.side[i, :, k] = np.where(side0, side0, now)
            walked.boundary[i, :, k] = boundary / n
        before = n


def _largest(size: Array, count: int) -> NDArray[np.intp]:
    """Return where the `count` largest of each row are, in descending order."""
    some = np.argpartition(size, size.shape[1] - count, axis=1)[:, -count:]
    order = np.argsort(-np.take_along_axis(size, some, axis=1), axis=1)
    return np.take_along_axis(some, order, axis=1)


def _pass(
    values: Array,
    tie: Array,
    largest: tuple[NDArray[np.intp], NDArray[np.intp]],
    passed: NDArray[np.bool_],
    allowed: int,
) -> Array:
    """Mark in `passed` who passes now, so that no more than `allowed` have; return the boundary.

    It lies above the first path that the budget has no room for, and above all that tie with it.
    `values` are the sizes at `largest`: rows and columns, so that numpy need not build the rows
    again for each level.
    """
    under_way = ~passed[largest]
    budget = allowed - passed.sum(axis=1, keepdims=True)
    first = np.argmax(np.cumsum(under_way, axis=1) > budget, axis=1)[:, None]
    boundary = values[largest[0], first] + tie
    now = under_way & (values > boundary)
    passed[largest] = now | ~under_way
    return np.where(now.any(axis=1), boundary[:, 0], np.inf)


@lru_cache(maxsize=16)
def _patterns(n: int, exact: int) -> Array:
    """Signs [seed, pattern] of n seeds; the first pattern, and the first seed's sign, are +1.

    A pattern is there without its opposite: the size of a sum is the same for both. Those of fewer
    seeds, over and over, are the first rows of those of more: later seeds change no earlier
    look.
    """
    bits = min(n - 1, exact)
    numbers = np.arange(2**bits)
    signs = np.ones((n, 2**bits))
    for seed in range(bits):
        signs[seed + 1] = 1 - 2 * (numbers >> seed & 1)
    draw = np.random.default_rng(0)
    for seed in range(bits + 1, n):
        signs[seed, 1:] = 1 - 2 * (draw.random(2**bits) < 0.5)[1:]
    return signs


def rejected(walked: Walk) -> NDArray[np.int8]:
    """Return the side on which each level, and every larger one beside it, rejects.

    Levels have to descend. What a small level rejects need not be rejected by a larger one, which
    has spent more on earlier looks; taking both makes levels nest, as closed testing asks for.
    """
    up = np.logical_and.accumulate(walked.side > 0, axis=0)
    down = np.logical_and.accumulate(walked.side < 0, axis=0)
    return up.astype(np.int8) - down.astype(np.int8)


def lower_bound(
    differences: Array,
    schedule: Schedule,
    levels: Sequence[float],
    tested: Sequence[float] = (0.0,),
    exact: int = EXACT,
) -> float:
    """Return the lower end of the repeated interval: what `upper_bound` is of opposite signs."""
    return -upper_bound(-differences, schedule, levels, [-shift for shift in tested], exact)


def upper_bound(
    differences: Array,
    schedule: Schedule,
    levels: Sequence[float],
    tested: Sequence[float] = (0.0,),
    exact: int = EXACT,
) -> float:
    """Return the shift above which all are rejected as too high at the last of `levels`.

    To 1/16000 of the range of the differences.

    Args:
        differences: one a seed, as many as the last look that counts has.
        levels: descending, see `rejected`.
        tested: shifts whose tests the bound has to agree with. It is infinite where so few seeds
            reject no shift at all.
    """
    least, most = differences.min(), differences.max()
    beyond = 1e-6 * (most - least or abs(most) or 1.0)
    shifts = sorted([least - beyond, most + beyond, *tested])

    def last_kept(shifts: Array, levels: Sequence[float] = levels) -> int:
        walked = walk(differences - shifts[:, None], schedule, levels, exact)
        kept = np.flatnonzero(rejected(walked)[-1, :, -1] >= 0)
        return int(kept[-1]) if len(kept) else -1

    def between(low: float, high: float, levels: Sequence[float]) -> tuple[float, float]:
        for _ in range(rounds):
            grid = np.linspace(low, high, sections + 1)
            last = last_kept(grid[1:-1], levels) + 1
            low, high = float(grid[last]), float(grid[last + 1])
        return low, high

    if not schedule.complete(len(differences)):
        return np.inf
    last = last_kept(np.array(shifts))  # the first, below every difference, is not too high
    if last == len(shifts) - 1:
        return np.inf
    bits = max(2, 14 - len(differences))  # few patterns are quick: more shifts at a time
    sections, rounds = 2**bits, -(-14 // bits)
    low, high = between(shifts[last], shifts[last + 1], levels[-1:])
    if last_kept(np.array([high])) == 0:  # a larger level keeps what the last one rejects
        low, high = between(shifts[last], shifts[last + 1], levels)
    return (low + high) / 2
