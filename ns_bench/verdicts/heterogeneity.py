"""A claim's effect in several profiles: whether they differ, and from four on their mean.

Points of accuracy do not compare where one profile is at 60 % and another at 95 %, so effects are
log odds of being right (or log ratios, of claims about shares). A profile's effect is a mean over
seeds, with a variance that is estimated from them:

- Cochran's Q is the sum of the squared distances from the mean, both weighted by 1 / variance. Its
  p is by Welch's test (1951), which knows that the variances are estimates: the chi-square that Q
  is usually held against is below .05 by chance .07 (two profiles) to .11 (four) of the time, at 8
  seeds.
- tau, the standard deviation of the true effects between profiles, is the estimate of DerSimonian
  and Laird (1986).
- The mean of a random-effects model has the interval of Hartung and Knapp, with the correction of
  Röver et al. (2015), by which it is never narrower than if Q were all chance. It says what a
  further profile like these would show, which two or three profiles cannot.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ns_bench.recipe import Recipe
from ns_bench.verdicts.analysis import Analysis, ClaimResult, by_seed, label
from ns_bench.verdicts.statistics import Interval, critical_t, mean_interval

POOLED_FROM = 4
"""Profiles. The t of two has one degree of freedom: an interval of 13 standard errors each way."""


@dataclass(frozen=True)
class Heterogeneity:
    """How far effects differ between profiles.

    Attributes:
        q: Cochran's; p: of no difference.
        tau: of true effects between profiles, in their unit.
        pooled: the mean over profiles like these; None of fewer than `POOLED_FROM`.
    """

    q: float
    p: float
    tau: float
    pooled: Interval | None


def heterogeneity(effects: Sequence[Interval]) -> Heterogeneity:
    """Compare effects of at least two profiles, each with a spread over seeds.

    Raises:
        ValueError: there is one effect, or one without a spread.
    """
    from scipy.special import fdtrc

    y = np.array([effect.mean for effect in effects])
    n = np.array([effect.n for effect in effects])
    variance = np.array([effect.sd for effect in effects]) ** 2 / n
    k = len(y)
    if k < 2 or not (variance > 0).all():
        raise ValueError("effects of two profiles, each with a spread over seeds, are needed")
    weight = 1 / variance
    q = float(weight @ (y - weight @ y / weight.sum()) ** 2)
    excess = float(((1 - weight / weight.sum()) ** 2 / (n - 1)).sum())
    ratio = q / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * excess)
    p = float(fdtrc(k - 1, (k**2 - 1) / (3 * excess), ratio))
    between = max(q - (k - 1), 0.0) / (weight.sum() - (weight**2).sum() / weight.sum())
    pooled = _pooled(y, variance + between) if k >= POOLED_FROM else None
    return Heterogeneity(q, p, math.sqrt(between), pooled)


def _pooled(y: np.ndarray, variance: np.ndarray) -> Interval:
    weight, k = 1 / variance, len(y)
    mean = float(weight @ y / weight.sum())
    scale = max(1.0, float(weight @ (y - mean) ** 2) / (k - 1))
    error = math.sqrt(scale / weight.sum())
    half = float(critical_t(k, 0.05)) * error
    return Interval(k, mean, error * math.sqrt(k), mean - half, mean + half)


@dataclass(frozen=True)
class SideBySide:
    """One contrast of a claim in several profiles.

    Attributes:
        effects: by profile, in log odds of being right or, of claims about shares, log ratios.
        difference: None where a profile's effects have no spread.
    """

    study: str
    claim: str
    effects: dict[str, Interval]
    difference: Heterogeneity | None


def side_by_side(analyses: Sequence[Analysis]) -> list[SideBySide]:
    """Return every contrast that two or more profiles have an effect of, at two or more seeds.

    Claims about top-1 and about shares are compared; of others no common unit is known. A claim
    whose profiles have different numbers of contrasts is left out.
    """
    found: dict[tuple[str, str, int], dict[str, list[tuple[str, Interval]]]] = {}
    for analysis in analyses:
        for (text, number), result in analysis.by_text.items() if analysis.profile.verdict else ():
            if contrasts := _contrasts(analysis, result):
                by_profile = found.setdefault((analysis.study.name, text, number), {})
                by_profile[analysis.profile.name] = contrasts
    rows = []
    for (study, text, _), by_profile in found.items():
        if len(by_profile) < 2 or len({len(each) for each in by_profile.values()}) > 1:
            continue
        for i, (name, _) in enumerate(next(iter(by_profile.values()))):
            effects = {profile: each[i][1] for profile, each in by_profile.items()}
            spread = all(effect.sd > 0 for effect in effects.values())
            difference = heterogeneity(list(effects.values())) if spread else None
            rows.append(SideBySide(study, text + name, effects, difference))
    return rows


def _contrasts(analysis: Analysis, result: ClaimResult) -> list[tuple[str, Interval]]:
    """Return (name, effect) of each contrast, at the seeds that the verdict rests on."""
    claim, shown = result.claim, result.contrast
    if shown is None or shown.n < 2 or not (claim.metric == "top1" or claim.logarithm):
        return []
    values = analysis.values(claim.metric)
    if claim.logarithm:  # by_seed's are to base 2
        scale = math.log(2)
    else:
        scale, values = 1.0, log_odds(values, Recipe.of(analysis.profile.fields).data.test)
    names = [f" ({label(w)})" for w in claim.contrasts] if len(claim.contrasts) > 1 else [""]
    by_contrast = by_seed(claim, values)
    return [
        (name, mean_interval(scale * differences.to_numpy()[: shown.n]))
        for name, differences in zip(names, by_contrast, strict=True)
    ]


def log_odds(top1: pd.DataFrame, images: int) -> pd.DataFrame:
    """Return the log odds of being right of top-1 in percent, of so many test images each.

    Half an image is added to those that are right and to those that are wrong, so that 100 % has
    odds, too.
    """
    right = top1 / 100 * images + 0.5
    return (right / (images + 1 - right)).apply(np.log)
