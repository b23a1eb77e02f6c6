"""The statistics against scipy, against enumeration by hand, and against their own promises.

A promise ("covers 95 %", "at most 5 % false findings") is checked by simulation with a fixed
seed, and its tolerance is four binomial standard errors, so that a broken method fails and an
unlucky draw does not.
"""

import itertools
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from builders import present
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ns_bench.verdicts.statistics import (
    Contrast,
    Interval,
    equivalent,
    holm,
    mean_interval,
    minimum_detectable_effect,
    paired_contrast,
    seeds_needed,
    verdict,
    weakest,
)

FIELDS = ("n", "mean", "sd", "low", "high", "p", "wins", "effect_size")


def images_to_points(differences, test_images=500):
    """Differences in images as a study meets them: of two accuracies, in points, with rounding."""
    correct = np.full(len(differences), test_images * 9 // 10)
    return 100 * ((correct + differences) / test_images) - 100 * (correct / test_images)


def flip_p_by_hand(differences):
    """The sign-flip p of whole numbers, for which ties are exact."""
    d = np.asarray(differences)
    sums = np.array(list(itertools.product((1, -1), repeat=len(d)))) @ d
    return np.mean(np.abs(sums) >= abs(d.sum()))


def within(share, nominal, trials):
    return abs(share - nominal) <= 4 * math.sqrt(nominal * (1 - nominal) / trials)


def at_most(share, nominal, trials):
    return share <= nominal + 4 * math.sqrt(nominal * (1 - nominal) / trials)


def at_dz(effect, n=8):
    """n differences whose observed mean is `effect` and whose sd is 1."""
    x = np.random.default_rng(n).normal(size=n)
    return (x - x.mean()) / x.std(ddof=1) + effect


def test_importing_does_not_wait_for_scipy():
    code = "import sys, ns_bench.verdicts.statistics; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- one mean -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 8, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_is_scipys_t_interval(n, confidence):
    x = np.random.default_rng(n).normal(90, 2, n)
    ours = mean_interval(x, confidence)
    theirs = stats.ttest_1samp(x, 0).confidence_interval(confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert (ours.n, ours.mean, ours.confidence) == (n, pytest.approx(x.mean()), confidence)
    assert ours.sd == pytest.approx(x.std(ddof=1))


@pytest.mark.parametrize("n", [5, 8])
def test_interval_covers_the_mean_95_times_in_100(n):
    trials = 5000
    draws = np.random.default_rng(n).normal(1.0, 3.0, (trials, n))
    intervals = [mean_interval(row) for row in draws]
    assert within(np.mean([i.low <= 1.0 <= i.high for i in intervals]), 0.95, trials)


def test_one_value_has_a_mean_and_no_interval():
    one = mean_interval([91.5])
    assert (one.n, one.mean) == (1, 91.5)
    assert all(math.isnan(x) for x in (one.sd, one.low, one.high))


@pytest.mark.parametrize("compute", [mean_interval, paired_contrast, seeds_needed])
@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], "empty"),
        ([1.0, math.nan], "finite, got nan"),
        ([1.0, -math.inf], "finite, got -inf"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
    ],
)
def test_unusable_values_are_refused_in_one_line(compute, values, line):
    with pytest.raises(ValueError, match=line) as error:
        compute(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.0, 1.0, 95.0, math.nan])
def test_shares_are_refused_outside_0_to_1(share):
    for call in (
        lambda: mean_interval([1.0, 2.0], confidence=share),
        lambda: seeds_needed([1.0, 2.0], power=share),
        lambda: minimum_detectable_effect(1.0, 8, alpha=share),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


# --- a paired contrast ----------------------------------------------------------------------

images = st.lists(st.integers(-30, 30), min_size=1, max_size=7)


@given(images, st.sampled_from([500, 10_000]))
@settings(max_examples=150, deadline=None)
def test_sign_flip_p_counts_every_tie(differences, test_images):
    """scipy's own p-value misses ties of accuracies in points; see `_sign_flip_p`."""
    p = paired_contrast(images_to_points(differences, test_images)).p
    assert p == pytest.approx(flip_p_by_hand(differences), abs=1e-12)


@pytest.mark.parametrize(
    ("differences", "test_images"),
    [
        # Found by search: scipy 1.17 gives .0625, .1875 and .9375 for these.
        ([1, -8, -25, 7, -23, -23, -20], 10_000),
        ([-5, -13, -19, -35, -15, 19], 10_000),
        ([-38, 1, 4, 0, 17, 17], 500),
    ],
)
def test_sign_flip_p_of_known_ties(differences, test_images):
    p = paired_contrast(images_to_points(differences, test_images)).p
    assert p == pytest.approx(flip_p_by_hand(differences), abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 8, 11])
def test_sign_flip_p_is_scipys_where_nothing_ties(n):
    d = np.random.default_rng(n).normal(0.7, 1.0, n)
    test = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=2**16)
    assert paired_contrast(d).p == pytest.approx(test.pvalue, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 16, 17, 29])
def test_sign_flip_p_is_of_the_patterns_that_scipy_enumerates_or_draws(n):
    d = np.random.default_rng(n).normal(0.2, 1.0, n)
    test = stats.permutation_test(
        (d,),
        lambda x, axis: np.abs(np.mean(x, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=2**16,
        rng=np.random.default_rng(0),
    )
    assert paired_contrast(d).p == pytest.approx(test.pvalue, abs=1e-12)


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (2, 0.5), (5, 0.0625), (8, 0.0078125)])
def test_sign_flip_p_stops_at_its_floor(n, p):
    assert paired_contrast(np.arange(1.0, n + 1)).p == p
    assert paired_contrast(np.full(n, -0.2)).p == p
    assert paired_contrast(np.zeros(n)).p == 1


def test_sign_flip_p_is_exact_to_16_seeds_and_close_beyond():
    d = np.random.default_rng(3).integers(-20, 30, 18)
    exact = {n: flip_p_by_hand(d[:n]) for n in (16, 17, 18)}
    assert paired_contrast(images_to_points(d[:16])).p == exact[16]
    for n in (17, 18):
        once, again = (paired_contrast(images_to_points(d[:n])).p for _ in range(2))
        assert once == again
        assert abs(once - exact[n]) < 4 * math.sqrt(exact[n] / 2**16)
    assert paired_contrast(np.full(40, 0.2)).p == 1 / (2**16 + 1)


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 2, 4, 8, 16, 32],
        [0.113, 0.207, 0.331, 0.457, 0.613, 0.877],
        [3, 3, 3, 3, 3, 3],
        [2, 2, 1, 1, 0, 0],
        [7, 5, 3, 2, 2, 1],
    ],
)
def test_sign_flip_test_keeps_its_size_exactly(sizes):
    """Under a symmetric null every sign pattern is as likely, so its size can be counted."""
    patterns = itertools.product((1, -1), repeat=len(sizes))
    p = np.array([paired_contrast(np.multiply(signs, sizes) / 500).p for signs in patterns])
    for level in np.unique(p):
        assert np.mean(p <= level) <= level + 1e-12


def test_sign_flip_test_finds_5_in_100_at_most_between_equal_arms():
    trials = 600
    correct = np.random.default_rng(5).binomial(500, 0.9, (trials, 2, 7)) / 500
    found = [paired_contrast(100 * a - 100 * b).p <= 0.05 for a, b in correct]
    assert at_most(np.mean(found), 0.05, trials)
    assert np.mean(found) > 0.01  # a test that never finds anything keeps its size as well


@given(images, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_contrast_ignores_the_order_of_seeds(differences, random):
    d = images_to_points(differences)
    shuffled = d.copy()
    random.shuffle(shuffled)
    one, other = paired_contrast(d), paired_contrast(shuffled)
    for name in FIELDS:
        assert getattr(one, name) == pytest.approx(
            getattr(other, name), rel=1e-9, abs=1e-9, nan_ok=True
        )


@given(images)
@settings(max_examples=40, deadline=None)
def test_contrast_turns_round_when_the_arms_swap(differences):
    d = images_to_points(differences)
    one, other = paired_contrast(d), paired_contrast(-d)
    assert (other.n, other.mean, other.p) == (one.n, -one.mean, one.p)
    assert other.wins == pytest.approx(1 - one.wins)
    assert np.array_equal(
        [other.sd, other.low, other.high, other.effect_size],
        [one.sd, -one.high, -one.low, -one.effect_size],
        equal_nan=True,
    )


@given(images, st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_contrast_scales_with_its_unit(differences, factor):
    d = images_to_points(differences)
    one, other = paired_contrast(d), paired_contrast(factor * d)
    assert (other.p, other.wins) == (one.p, one.wins)
    assert other.effect_size == pytest.approx(one.effect_size, rel=1e-9, abs=1e-9, nan_ok=True)
    for name in ("mean", "sd", "low", "high"):
        expected = factor * getattr(one, name)
        assert getattr(other, name) == pytest.approx(
            expected, rel=1e-9, abs=1e-9 * factor, nan_ok=True
        )


@given(images, st.integers(-50, 50))
def test_interval_moves_with_its_values(differences, shift):
    d = np.asarray(differences) / 4
    one, other = mean_interval(d), mean_interval(d + shift)
    assert other.sd == pytest.approx(one.sd, nan_ok=True)
    for name in ("mean", "low", "high"):
        assert getattr(other, name) == pytest.approx(getattr(one, name) + shift, nan_ok=True)


def test_wins_are_a_share_of_seeds_and_a_tie_is_half_a_win():
    assert paired_contrast([1, 2, -3, 0]).wins == 0.625
    # 0.3 - 0.1 - 0.2 is 0 but for rounding: a tie, not a loss.
    assert paired_contrast([1, 0.3 - 0.1 - 0.2]).wins == 0.75


def test_effect_size_is_cohens_dz_even_without_spread():
    assert paired_contrast([1, 2, 3]).effect_size == 2.0
    same = images_to_points([3, 3, 3, 3]) + np.array([0, 1e-14, 0, -1e-14])
    assert paired_contrast(same).effect_size == math.inf
    assert paired_contrast(-same).effect_size == -math.inf
    assert paired_contrast([0, 0, 0]).effect_size == 0
    assert math.isnan(paired_contrast([1.0]).effect_size)


# --- a family of tests ----------------------------------------------------------------------


def test_holm_by_hand():
    # .01 x 4, .02 x 3, then .03 x 2, and .04 x 1 held up by the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]).shape == (0,)


def test_holm_counts_a_missing_test_in_the_family():
    with_gap = holm([0.02, math.nan, 0.01])
    assert with_gap == pytest.approx([0.04, math.nan, 0.03], nan_ok=True)
    whole = holm([0.02, 1.0, 0.01])
    assert with_gap[[0, 2]] == pytest.approx(whole[[0, 2]])


@pytest.mark.parametrize("bad", [[0.5, 1.1], [-0.1], [[0.1]], 0.1])
def test_holm_refuses_what_is_no_list_of_p_values(bad):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm(bad)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_raw_p_and_bonferroni_and_keeps_the_order(p):
    p = np.array(p)
    adjusted = holm(p)
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(1, len(p) * p) + 1e-12)
    assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_holm_makes_5_families_in_100_err_at_most(shared):
    trials, rng = 5000, np.random.default_rng(1)
    z = math.sqrt(1 - shared) * rng.normal(size=(trials, 5))
    p = 2 * stats.norm.sf(np.abs(z + math.sqrt(shared) * rng.normal(size=(trials, 1))))
    assert at_most(np.mean([holm(row).min() <= 0.05 for row in p]), 0.05, trials)


# --- planning -------------------------------------------------------------------------------


@pytest.mark.parametrize(("effect", "family"), [(1.2, 1), (0.8, 1), (0.8, 5), (0.4, 3)])
def test_seeds_needed_gives_the_power_it_promises_and_no_seed_fewer_does(effect, family):
    trials, rng = 10_000, np.random.default_rng(7)
    n = seeds_needed(at_dz(effect), family)

    def power(n):
        draws = rng.normal(effect, 1, (trials, n))
        return np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue <= 0.05 / family)

    assert power(n) >= 0.8 - 0.016  # four standard errors
    assert power(present(n) - 1) < 0.8 + 0.016
    assert seeds_needed(-at_dz(effect), family) == n


def test_seeds_needed_never_promises_what_sign_flips_cannot_reach():
    assert [seeds_needed([5.0, 5.1, 4.9], family) for family in (1, 2, 4, 10)] == [6, 7, 8, 9]
    assert seeds_needed([0.1, 0.1]) == 6  # no spread at all


def test_one_seed_above_the_floor_the_sign_flip_test_has_the_power_promised():
    """At the floor itself it has not, as the docstring of `seeds_needed` says."""
    effect, trials = 1.6, 10_000
    n = present(seeds_needed(at_dz(effect)))
    signs = np.array(list(itertools.product((1, -1), repeat=n + 1)))
    draws = np.random.default_rng(0).normal(effect, 1, (trials, n + 1))
    sums = np.abs(draws @ signs.T)
    p = np.mean(sums >= sums[:, :1] - 1e-9, axis=1)
    assert n == 6
    assert np.mean(p <= 0.05) >= 0.8


def test_seeds_needed_says_none_where_there_is_no_number():
    assert seeds_needed(at_dz(0.01)) is None
    assert seeds_needed(at_dz(0.3), maximum=20) is None
    assert seeds_needed([1.0, -1.0]) is None
    assert seeds_needed([0.0, 0.0]) is None
    assert seeds_needed([3.0]) is None


def test_seeds_needed_goes_by_the_distance_from_what_the_claim_has_to_beat():
    d = at_dz(0.2)
    assert seeds_needed(d, kind="not worse", smallest_effect=0.6) == seeds_needed(d + 0.6)
    near = present(seeds_needed(0.6 - d))
    found = present(seeds_needed(d, kind="equivalent", smallest_effect=0.6))
    assert near <= found <= near + 5  # the far side costs a little
    even = at_dz(0.0)
    both = present(seeds_needed(even, kind="equivalent", smallest_effect=0.6))
    assert both > present(seeds_needed(even + 0.6))
    outside = seeds_needed(at_dz(1.2), kind="equivalent", smallest_effect=0.6)
    assert outside == seeds_needed(at_dz(0.6))
    assert seeds_needed(np.array([-0.5, -0.5]), kind="not worse", smallest_effect=0.5) is None
    assert seeds_needed(at_dz(0.0), kind="equivalent", smallest_effect=0.0) is None


@pytest.mark.parametrize("n", [6, 8, 20, 100])
def test_minimum_detectable_effect_is_the_inverse_of_seeds_needed(n):
    effect = minimum_detectable_effect(1.0, n)
    # At n = 6 less is enough for the t-test, and the sign-flip floor holds the number up.
    assert seeds_needed(at_dz(1.001 * effect)) == n
    assert seeds_needed(at_dz(0.999 * effect)) == n + 1
    assert minimum_detectable_effect(2.5, n) == pytest.approx(2.5 * effect)


def test_minimum_detectable_effect_is_out_of_reach_below_the_floor():
    assert minimum_detectable_effect(1.0, 5) == math.inf
    assert minimum_detectable_effect(1.0, 7, family=4) == math.inf
    assert minimum_detectable_effect(1.0, 8, family=4) < math.inf
    assert minimum_detectable_effect(1.0, 1, alpha=0.99) == math.inf


# --- a verdict ------------------------------------------------------------------------------


def contrast(low, high, n=8, p=0.5):
    mean, sd = (low + high) / 2, (high - low) / 2
    return Contrast(n, mean, sd, low, high, p=p, wins=0.5, effect_size=0.0)


def test_p_is_of_the_null_that_the_claim_has_to_beat():
    d = np.array([0.1, -0.2, 0.3, -0.1, 0.2, 0.0, 0.15, -0.05])
    assert paired_contrast(d, "not worse", 0.5).p == paired_contrast(d + 0.5).p == 2 / 2**8
    assert paired_contrast(d, "equivalent", 0.5).p == 2 / 2**8
    up = d + 0.4
    assert paired_contrast(up, "equivalent", 0.5).p == paired_contrast(0.5 - up).p > 2 / 2**8
    assert paired_contrast(d - 0.6, "not worse", 0.5).p == 1
    assert paired_contrast(d + 0.6, "equivalent", 0.5).p == 1
    assert paired_contrast(d - 0.6, "equivalent", 0.5).p == 1
    assert paired_contrast(d - 2.0, "greater", 0.5).p == 2 / 2**8  # two-sided
    # The margin itself is not on the claimed side, whatever the last bit says.
    assert paired_contrast(np.full(8, 0.3 - 0.8), "not worse", 0.5).p == 1


def test_the_weakest_contrast_stands_most_in_the_way():
    up, less = contrast(1, 3, p=0.01), contrast(0.5, 3, p=0.03)
    down = contrast(-3, -1, p=0.01)
    assert weakest([up, less], "greater", 0.5) == 1
    assert weakest([down, up, less], "greater", 0.5) == 0
    assert weakest([contrast(-0.2, 0.2, p=0.01), contrast(0, 0.4, p=0.01)], "equivalent", 0.5) == 1
    assert weakest([up, contrast(0.1, 0.4, p=0.01)], "greater", 0.5) == 1  # it does not matter


def test_a_contradicted_claim_shows_the_contrast_that_contradicts_it():
    pair = [contrast(-9, 3, p=0.5), contrast(-6, -4, p=0.01)]
    found = verdict("contradicted", pair, 1.0, kind="greater", smallest_effect=0.5)
    assert (found.word, found.shown) == ("contradicted", 1)
    assert found.reason.endswith("the effect goes the other way")
    pair = [contrast(-9, 3, p=1), contrast(-6, -4, p=1)]
    found = verdict("contradicted", pair, 1.0, kind="not worse", smallest_effect=0.5)
    assert (found.word, found.shown) == ("contradicted", 1)
    assert found.reason.endswith("the interval lies below -0.5 points")


def test_the_reason_says_which_edge_is_in_the_way():
    def why(word, kind, low, high):
        return verdict(word, [contrast(low, high)], 0.01, kind=kind, smallest_effect=0.5).reason

    assert why("inconclusive", "not worse", -1, 1).endswith(
        "; the interval reaches below -0.5 points"
    )
    assert why("reproduced", "not worse", -0.4, 1).endswith("; the interval lies above -0.5 points")
    assert why("inconclusive", "equivalent", -1, 0).endswith(
        "the interval crosses the edge of ±0.5 points"
    )
    assert why("reproduced", "equivalent", -0.4, 0.1).endswith(
        "the interval lies inside ±0.5 points"
    )
    assert why("contradicted", "equivalent", 0.6, 1).endswith("lies outside ±0.5 points")
    assert why("equivalent", "greater", -0.1, 0.2).endswith(
        "too small to matter, the interval lies inside ±0.5 points"
    )


def test_the_reason_names_the_weakest_contrast():
    pair = [contrast(2, 4, p=0.01), contrast(-1, 3, p=0.3)]
    found = verdict(
        "inconclusive", pair, 0.3, kind="greater", smallest_effect=0.5, names=["b - a", "c - a"]
    )
    assert found.shown == 1
    assert found.reason == (
        "weakest of 2 contrasts, c - a: mean difference +1.00 points, "
        "95 % interval [-1.00, +3.00], Holm p = .300, n = 8; the interval includes 0"
    )


def test_a_verdict_gives_its_numbers_as_its_reason():
    given = contrast(2.2, 4.0)
    assert verdict("reproduced", [given], 0.0156, kind="greater", smallest_effect=0.5).reason == (
        "mean difference +3.10 points, 95 % interval [+2.20, +4.00], Holm p = .016, n = 8"
    )
    assert verdict(
        "contradicted", [given], 0.00004, kind="equivalent", smallest_effect=0.5, unit="mCE"
    ).reason == (
        "mean difference +3.10 mCE, 95 % interval [+2.20, +4.00], Holm p < .001, n = 8; "
        "the interval lies outside ±0.5 mCE"
    )
    assert verdict("reproduced", [given], math.nan, kind="greater", smallest_effect=0.5).reason == (
        "mean difference +3.10 points, 95 % interval [+2.20, +4.00], n = 8"
    )
    open_end = replace(given, low=-math.inf)
    assert (
        "95 % interval [-∞, +4.00]"
        in verdict("inconclusive", [open_end], 1.0, kind="greater", smallest_effect=0.5).reason
    )
    small = verdict(
        "inconclusive", [contrast(-0.0012, 0.0032)], 1.0, kind="greater", smallest_effect=0.001
    ).reason
    assert "+0.0010 points, 95 % interval [-0.0012, +0.0032], Holm p = 1.000" in small
    wide = Contrast(**vars(mean_interval([1, 2], 0.9)), p=1.0, wins=1.0, effect_size=0.0)
    assert (
        "90 % interval"
        in verdict("inconclusive", [wide], 1.0, kind="greater", smallest_effect=0.5).reason
    )


@pytest.mark.parametrize(
    ("low", "floor", "why"),
    [
        (2, 0.25, "too few seeds, their Holm p is .250 or above whatever they say"),
        (-2, 1.25, "too few seeds, their Holm p is 1.000 or above whatever they say"),
        (-2, 0.05, "the interval includes 0"),
    ],
)
def test_an_inconclusive_verdict_says_what_stood_in_its_way(low, floor, why):
    found = verdict(
        "inconclusive", [contrast(low, 4)], 0.3, kind="greater", smallest_effect=0.5, floor=floor
    )
    assert found.reason.endswith(f"n = 8; {why}")


@pytest.mark.parametrize("kind", ["greater", "not worse", "equivalent"])
def test_one_seed_gives_no_interval_and_none_is_refused(kind):
    one = verdict("inconclusive", [paired_contrast([3.1])], 1.0, kind=kind, smallest_effect=0.5)
    assert one.word == "inconclusive"
    assert one.reason == (
        "mean difference +3.10 points, Holm p = 1.000, n = 1; one seed gives no interval"
    )
    with pytest.raises(ValueError, match="at least one contrast"):
        verdict("inconclusive", [], math.nan, kind=kind, smallest_effect=0.5)


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_verdict_refuses_a_margin_that_is_none(margin):
    with pytest.raises(ValueError, match="smallest effect"):
        verdict("reproduced", [contrast(1, 2)], 0.01, kind="greater", smallest_effect=margin)


def test_a_verdict_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="greater, not worse, equivalent, got 'less'"):
        verdict("reproduced", [contrast(1, 2)], 0.01, kind="less", smallest_effect=0.5)  # type: ignore[arg-type]


def test_equivalent_needs_the_whole_interval_inside():
    assert equivalent(Interval(8, 0.0, 1.0, -0.4, 0.4), 0.5)
    assert not equivalent(Interval(8, 0.0, 1.0, -0.5, 0.4), 0.5)
    assert not equivalent(Interval(8, 0.0, 1.0, -0.4, 0.5), 0.5)
    assert not equivalent(mean_interval([0.0]), 0.5)
    assert equivalent(mean_interval([0.0, 0.0]), 0.5)
