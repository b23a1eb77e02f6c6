"""Profiles side by side: Cochran's Q, tau and pooled effects, against published examples."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ns_bench.verdicts.heterogeneity import POOLED_FROM, heterogeneity, log_odds
from ns_bench.verdicts.statistics import Interval, mean_interval

SEEDS = st.lists(st.floats(-5, 5), min_size=3, max_size=8).filter(lambda d: np.ptp(d) > 0.1)


def known(mean: float, variance: float, n: int = 10**9) -> Interval:
    """An effect whose variance is as good as known: it is of so many seeds."""
    return Interval(n, mean, math.sqrt(variance * n), mean, mean)


def test_a_published_example():
    """Kacker (2004), table 1, and what R's metafor says of it (`rma(..., "DL", test="knha")`)."""
    means = [61.0, 61.4, 62.21, 62.3, 62.34, 62.6, 62.7, 62.84, 65.9]
    variances = [0.2025, 1.21, 0.09, 0.2025, 0.3844, 0.5625, 0.0676, 0.0225, 1.8225]
    found = heterogeneity([known(*pair) for pair in zip(means, variances, strict=True)])
    assert found.q == pytest.approx(24.801897741835)
    assert found.p == pytest.approx(0.00167935146372742)
    assert found.tau**2 == pytest.approx(0.288049246973751)
    pooled = found.pooled
    assert pooled is not None
    assert pooled.mean == pytest.approx(62.3901386044504)
    assert (pooled.low, pooled.high) == pytest.approx((61.710383798052, 63.0698934108488))


@given(SEEDS, SEEDS)
def test_of_two_profiles_p_is_welchs(a, b):
    found = heterogeneity([mean_interval(a), mean_interval(b)])
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert found.q == pytest.approx(expected.statistic**2, abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.pooled is None


@given(st.lists(SEEDS, min_size=2, max_size=6), st.randoms())
def test_the_order_of_profiles_does_not_matter(seeds, random):
    effects = [mean_interval(each) for each in seeds]
    found = heterogeneity(effects)
    random.shuffle(effects)
    again = heterogeneity(effects)
    assert (again.q, again.p, again.tau) == pytest.approx((found.q, found.p, found.tau), abs=1e-6)
    assert (found.pooled is None) == (len(seeds) < POOLED_FROM)
    if found.pooled and again.pooled:
        assert vars(again.pooled) == pytest.approx(vars(found.pooled), abs=1e-6)


@given(st.lists(st.floats(0.1, 3), min_size=2, max_size=6), st.floats(-3, 3))
def test_equal_effects_do_not_differ(spreads, mean):
    effects = [Interval(8, mean, sd, mean, mean) for sd in spreads]
    found = heterogeneity(effects)
    assert (found.q, found.tau) == pytest.approx((0, 0), abs=1e-6)
    assert found.p == pytest.approx(1, abs=1e-3)
    if found.pooled is not None:  # as wide as by chance, though nothing differs at all
        error = 1 / math.sqrt(sum(8 / sd**2 for sd in spreads))
        half = stats.t.ppf(0.975, len(spreads) - 1) * error
        assert found.pooled.mean == pytest.approx(mean, abs=1e-6)
        assert found.pooled.high - found.pooled.mean == pytest.approx(half)


@pytest.mark.parametrize("between", [0.0, 0.5, 2.0])
def test_pooled_intervals_hold_the_truth_as_often_as_they_say(between):
    """And where profiles are alike p is below .05 as often as it says, at 8 seeds each."""
    draw = np.random.default_rng(0)
    spreads = np.array([0.5, 1.0, 2.0, 1.0])  # of a seed, by profile
    studies, held, found = 1000, 0, 0
    for _ in range(studies):
        true = between * draw.normal(size=4)
        seeds = true[:, None] + spreads[:, None] * draw.normal(size=(4, 8))
        result = heterogeneity([mean_interval(row) for row in seeds])
        assert result.pooled is not None
        held += result.pooled.low <= 0 <= result.pooled.high
        found += result.p <= 0.05
    error = math.sqrt(0.05 * 0.95 / studies)
    assert held / studies >= 0.95 - 3 * error
    if between == 0:
        assert found / studies <= 0.05 + 3 * error


def test_effects_without_a_spread_and_single_ones_are_refused():
    one = mean_interval([1.0, 2.0, 3.0])
    for effects in ([one], [one, mean_interval([1.0, 1.0])]):
        with pytest.raises(ValueError, match="two profiles, each with a spread"):
            heterogeneity(effects)


def test_log_odds_are_finite_and_symmetric():
    odds = log_odds(pd.DataFrame({"a": [0.0, 50.0, 100.0, 90.0]}), 500)["a"]
    assert odds.tolist() == pytest.approx(
        [-math.log(1001), 0, math.log(1001), math.log(450.5 / 50.5)]
    )
