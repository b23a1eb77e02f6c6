"""From paired measurements to a verdict: arrays in, frozen dataclasses out.

The protocol is the design's ("Seeds and statistics"): one value per end-to-end seed, arms paired
by seed, t-intervals for means, exact sign-flip p-values, and Holm over arms. Claims are judged by
`ns_bench.verdicts.judge`; here their verdicts are put into a sentence. Every kind of claim has a
null that it has to beat: a difference of 0 ("greater"), one of minus the smallest effect of
interest ("not worse"), or one of ± that effect ("equivalent"). Everything answers in the unit of
the values it was given.

scipy is imported where it is used: importing it takes longer than many commands run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ns_bench.design.definition import Kind

Array = NDArray[np.float64]
Word = Literal[
    "reproduced", "contradicted", "equivalent", "inconclusive", "not testable", "not run"
]

# Sign patterns a test looks at: every one up to n = 16, this many at random beyond.
SIGN_PATTERNS = 2**16

# Values closer than this share of the largest are equal. Rounding errors of accuracies (1e-14 in
# points) lie far below it, one image in 50 000 far above.
TIE = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean with its t-interval, in the unit of the values; sd and bounds are nan at n = 1."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    confidence: float = field(default=0.95, kw_only=True)


@dataclass(frozen=True)
class Contrast(Interval):
    """Arm A minus arm B over paired seeds.

    p: sign-flip p-value of the null that its kind of claim has to beat; wins: share of seeds in
    which A beat B, a tie counting half; effect_size: Cohen's d_z = mean / sd, which is 0 or ±inf
    where sd is 0 and nan at n = 1.
    """

    p: float
    wins: float
    effect_size: float


@dataclass(frozen=True)
class Verdict:
    """What the evidence says of a claim, and the numbers that say it in one sentence.

    shown: which of the claim's contrasts those numbers are of.
    """

    word: Word
    reason: str
    shown: int = 0


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t-interval of a mean. ValueError if there is no value, or one is not finite."""
    _require_shares(confidence=confidence)
    x = _finite(values, "values")
    n, mean = len(x), float(np.mean(x))
    if n == 1:
        return Interval(1, mean, math.nan, math.nan, math.nan, confidence=confidence)
    # Equal differences of accuracies may differ in the last bit: their sd is 0, not 1e-17.
    sd = float(np.std(x, ddof=1)) if np.ptp(x) > _tie(x) else 0.0
    half = float(critical_t(n, 1 - confidence)) * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half, confidence=confidence)


def paired_contrast(
    differences: ArrayLike,
    kind: Kind = "greater",
    smallest_effect: float = 0.0,
    *,
    confidence: float = 0.95,
) -> Contrast:
    """Compare two arms by their differences, one per seed; slopes per seed serve as well.

    kind, smallest_effect: of the claim that p is to support, see `verdict`; for "greater" p is
    two-sided. Raises ValueError if there is no difference, or one is not finite.
    """
    _require_claim(kind, smallest_effect)
    interval = mean_interval(differences, confidence)
    d = _finite(differences, "differences")
    sign = np.where(np.abs(d) > _tie(d), np.sign(d), 0.0)
    if interval.sd == 0:
        effect_size = math.copysign(math.inf, interval.mean) if interval.mean else 0.0
    else:
        effect_size = interval.mean / interval.sd
    wins = float(np.mean(1 + sign)) / 2
    p = _null_p(d, kind, smallest_effect)
    return Contrast(**vars(interval), p=p, wins=wins, effect_size=effect_size)


def unpaired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean of `a` minus mean of `b` with Welch's t-interval, for values that no seed pairs.

    n is of both together; sd and bounds are nan where one of them is a single value.
    """
    first, second = mean_interval(a, confidence), mean_interval(b, confidence)
    n, mean = first.n + second.n, first.mean - second.mean
    if min(first.n, second.n) == 1:
        return Interval(n, mean, math.nan, math.nan, math.nan, confidence=confidence)
    shares = [i.sd**2 / i.n for i in (first, second)]
    error = math.sqrt(sum(shares))
    if error == 0:
        return Interval(n, mean, 0.0, mean, mean, confidence=confidence)
    freedom = sum(shares) ** 2 / sum(
        s**2 / (i.n - 1) for s, i in zip(shares, (first, second), strict=True)
    )
    half = float(critical_t(freedom + 1, 1 - confidence)) * error
    sd = error * math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half, confidence=confidence)


def weakest(
    contrasts: Sequence[Contrast],
    kind: Kind,
    smallest_effect: float,
    against: Sequence[bool] = (),
) -> int:
    """Return which contrast stands most in the way of a claim.

    Those that speak `against` it come first, then those whose interval is not on the claimed side,
    then the largest p, then the interval closest to the wrong side.
    """

    def rank(i: int) -> tuple[bool, bool, float, float]:
        c = contrasts[i]
        ahead = _ahead(c, kind, smallest_effect)
        blocks = not ahead > 0 or (kind == "greater" and equivalent(c, smallest_effect))
        p = _support_p(c, kind, len(contrasts))
        return bool(against) and against[i], blocks, p, -ahead

    return max(range(len(contrasts)), key=rank)


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down adjusted p-values, in the order given. ValueError outside [0, 1].

    A nan, a test that could not be run, stays nan and counts in the size of the family: a missing
    run must not make the other claims easier. It ranks last, the most cautious place for them.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or np.any((p < 0) | (p > 1)):
        raise ValueError("p-values must be a flat list of numbers in [0, 1]")
    order = np.argsort(p)  # nan sorts last, so the running maximum hands it to nobody
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)


def seeds_needed(
    differences: ArrayLike,
    family: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
    maximum: int = 1000,
    *,
    kind: Kind = "greater",
    smallest_effect: float = 0.0,
) -> int | None:
    """Total number of seeds that would find the observed mean and sd with this power.

    What is to be found is the distance of the mean from what the claim's kind has to beat: 0,
    minus the smallest effect, or both of ± the smallest effect (the nearer one, from outside).

    By the two-sided paired t-test at alpha / family (`scipy.special.nctdtr`), and no fewer than
    the sign-flip test needs to reach alpha / family at all. Just there, where nearly all signs
    must agree, the sign-flip test is the weaker one: a promised .8 may be .65, one seed more
    mends it. None if it takes more than `maximum`, or if one seed gives no sd to go by.
    """
    from scipy.special import nctdtr

    _require_shares(power=power, alpha=alpha)
    _require_claim(kind, smallest_effect)
    seen = mean_interval(differences)
    size, bound = abs(seen.mean), smallest_effect
    if kind == "equivalent":
        distances = [bound - size, bound + size] if size < bound else [size - bound]
    else:
        distances = [size if kind == "greater" else abs(seen.mean + bound)]
    if seen.n == 1 or min(distances) <= 0:
        return None
    n = np.arange(2, maximum + 1)
    critical = critical_t(n, alpha / family)
    missed = np.zeros(len(n))
    for distance in distances:
        effect = distance / seen.sd if seen.sd else math.inf
        shift = np.minimum(effect * np.sqrt(n), 1e6)  # nctdtr is nan far beyond: nothing is missed
        missed += nctdtr(n - 1, shift, critical)
    enough = n[(1 - missed >= power) & (_smallest_p(n) <= alpha / family)]
    return int(enough[0]) if len(enough) else None


def minimum_detectable_effect(
    sd: float, n: int, family: int = 1, power: float = 0.8, alpha: float = 0.05
) -> float:
    """True mean difference, in the unit of sd, that n seeds would find with this power.

    The inverse of `seeds_needed` (`scipy.special.nctdtrinc`); inf where so few seeds cannot reach
    alpha / family by sign flips, whatever the effect.
    """
    from scipy.special import nctdtrinc

    _require_shares(power=power, alpha=alpha)
    if _smallest_p(n) > alpha / family:
        return math.inf
    return sd * float(nctdtrinc(n - 1, 1 - power, critical_t(n, alpha / family))) / math.sqrt(n)


def equivalent(contrast: Interval, margin: float) -> bool:
    """Whether the whole interval lies inside ±margin; never so at n = 1."""
    return -margin < contrast.low and contrast.high < margin


def verdict(
    word: Word,
    contrasts: Sequence[Contrast],
    p_adjusted: float,
    *,
    kind: Kind,
    smallest_effect: float,
    unit: str = "points",
    floor: float = 0.0,
    alpha: float = 0.05,
    names: Sequence[str] = (),
) -> Verdict:
    """Put the reason for a word on a claim into a sentence.

    word: the decision of `judge`, which can be read off the intervals as well.
    contrasts: of the claim, each with its repeated interval; of several, each has to hold.
    smallest_effect: the smallest effect of interest, in `unit` like the contrasts.
    p_adjusted: of the claim, over the claims of its study; nan is left out.
    floor: the lowest `p_adjusted` that so few seeds could have had.
    names: of the contrasts, for the reason.
    Raises ValueError without a contrast, on an unknown kind and on a smallest effect that is
    negative or not finite.
    """
    _require_claim(kind, smallest_effect)
    if not contrasts:
        raise ValueError("a verdict needs at least one contrast")
    against = [word == "contradicted" and _beyond(c, kind, smallest_effect) > 0 for c in contrasts]
    which = weakest(contrasts, kind, smallest_effect, against)
    c = contrasts[which]
    size = amount(smallest_effect, unit)
    if word == "equivalent":
        why = f"too small to matter, the interval lies inside ±{size}"
    elif word == "contradicted":
        why = _CONTRADICTED[kind].format(size)
    elif word == "reproduced":
        why = _REPRODUCED[kind].format(size)
    else:
        why = _obstacle(c, kind, smallest_effect, size, floor, alpha)
    numbers = _numbers(c, p_adjusted, unit)
    if len(contrasts) > 1:
        name = f", {names[which]}" if names else ""
        numbers = f"weakest of {len(contrasts)} contrasts{name}: {numbers}"
    return Verdict(word, "; ".join(filter(None, [numbers, why])), which)


_REPRODUCED: dict[Kind, str] = {
    "greater": "",
    "not worse": "the interval lies above -{}",
    "equivalent": "the interval lies inside ±{}",
}
_CONTRADICTED: dict[Kind, str] = {
    "greater": "the effect goes the other way",
    "not worse": "the interval lies below -{}",
    "equivalent": "the interval lies outside ±{}",
}


def _obstacle(
    c: Contrast, kind: Kind, smallest: float, size: str, floor: float, alpha: float
) -> str:
    """Say what stands between the weakest contrast of a claim and a verdict."""
    if c.n < 2:
        return "one seed gives no interval"
    if floor > alpha:
        return f"too few seeds, their Holm p is {_p(floor)} or above whatever they say"
    if kind == "greater":
        if equivalent(c, smallest):
            return f"too small to matter, the interval lies inside ±{size}"
        return "the interval includes 0"
    if kind == "not worse":
        return f"the interval reaches below -{size}"
    return f"the interval crosses the edge of ±{size}"


def _ahead(c: Interval, kind: Kind, smallest: float) -> float:
    """How far the whole interval lies on the claimed side of what the claim has to beat."""
    if kind == "greater":
        return c.low
    return c.low + smallest if kind == "not worse" else min(c.low + smallest, smallest - c.high)


def _beyond(c: Interval, kind: Kind, smallest: float) -> float:
    """How far the whole interval lies on the other side."""
    if kind == "greater":
        return -c.high
    below = -smallest - c.high
    return below if kind == "not worse" else max(below, c.low - smallest)


def amount(value: float, unit: str) -> str:
    """Return a size in words, e.g. `0.5 points` or `1 point a step`."""
    one = f"{value:.3g}" == "1" and unit.startswith("points")
    return f"{value:.3g} {unit.replace('points', 'point', 1) if one else unit}"


def _numbers(c: Contrast, p_adjusted: float, unit: str) -> str:
    """For instance "mean difference +3.10 points, 95 % interval [+2.20, +4.00], Holm p = .016"."""
    width = (c.high - c.low) / 2
    size = width if 0 < width < math.inf else abs(c.mean)
    # Two digits of the half-width, so that a small slope does not print as +0.00.
    places = min(6, max(2, 1 - math.floor(math.log10(size)))) if size > 0 else 2
    parts = [f"mean difference {c.mean:+.{places}f} {unit}"]
    if not math.isnan(c.low):
        bounds = f"[{c.low:+.{places}f}, {c.high:+.{places}f}]".replace("inf", "∞")
        parts.append(f"{100 * c.confidence:g} % interval {bounds}")
    if not math.isnan(p_adjusted):
        parts.append(f"Holm p {'<' if p_adjusted < 0.001 else '='} {_p(max(p_adjusted, 0.001))}")
    return ", ".join([*parts, f"n = {c.n}"])


def _p(p: float) -> str:
    return f"{min(p, 1.0):.3f}".removeprefix("0")


def _null_p(d: Array, kind: Kind, smallest: float) -> float:
    """The sign-flip p of `d` against what its kind of claim has to beat."""
    if kind == "greater":
        return _sign_flip_p(d)
    sides = [d + smallest] if kind == "not worse" else [d + smallest, smallest - d]
    return max(_sign_flip_p(s) if np.mean(s) > _tie(s) else 1.0 for s in sides)


def _support_p(c: Contrast, kind: Kind, count: int) -> float:
    return 1.0 if count > 1 and kind == "greater" and c.mean <= 0 else c.p


def _sign_flip_p(d: Array) -> float:
    """Share of sign patterns whose mean is at least as far from 0 as the observed one.

    `scipy.stats.permutation_test` is not used: ties, which accuracies are full of, are recognised
    there only to 2e-14 of the observed mean, which is less than the rounding error of accuracies
    in points, and a missed tie makes p too small.
    """
    return _sign_flip_p_of(d.tobytes())


@lru_cache(maxsize=10_000)
def _sign_flip_p_of(content: bytes) -> float:
    """A contrast is often both a claim's and an arm's: it is tested once."""
    d = np.frombuffer(content)
    means = _sign_patterns(len(d)) @ d / len(d)
    as_extreme = np.abs(means) >= np.abs(np.mean(d)) - _tie(d)
    # Beyond every pattern, the observed one is added to those drawn, so that p is never 0.
    drawn = int(2 ** len(d) > SIGN_PATTERNS)
    return float((np.sum(as_extreme) + drawn) / (len(as_extreme) + drawn))


@lru_cache(maxsize=2)
def _sign_patterns(n: int) -> Array:
    """Patterns [count, n] of +1 and -1: every one, or as many as allowed at random from one seed.

    Those at random are drawn as `scipy.stats.permutation_test` draws them.
    """
    if 2**n <= SIGN_PATTERNS:
        return np.where(np.arange(2**n)[:, None] >> np.arange(n) & 1, -1.0, 1.0)
    pairs = np.tile([1.0, -1.0], (SIGN_PATTERNS, n, 1))
    return np.random.default_rng(0).permuted(pairs, axis=-1)[..., 0]


def _smallest_p(n: ArrayLike) -> Array:
    """The sign-flip p of n differences of one sign: no test of n seeds goes below it."""
    return np.asarray(np.exp2(1.0 - np.asarray(n)), dtype=np.float64)


def critical_t(n: ArrayLike, alpha: float) -> Array:
    """The two-sided critical value of Student's t for n values."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.asarray(n) - 1, 1 - alpha / 2), dtype=np.float64)


def _tie(x: Array) -> float:
    return TIE * float(np.max(np.abs(x)))


def _finite(values: ArrayLike, name: str) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"{name} must be 1-dimensional and not empty, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got {x[~np.isfinite(x)][0]}")
    return x


def _require_claim(kind: str, smallest_effect: float) -> None:
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if not 0 <= smallest_effect < math.inf:
        raise ValueError(f"the smallest effect must be finite and not negative: {smallest_effect}")


def _require_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {share}")
