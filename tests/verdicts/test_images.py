"""Differences image by image: the split of their variance, and intervals beyond the images."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ns_bench.verdicts.coverage import coverage
from ns_bench.verdicts.images import by_image, matrix, mcnemar, resampled, spread
from ns_bench.verdicts.statistics import mean_interval
from ns_bench.verdicts.table import _cell, flags

OUTCOMES = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(-1, 2, size=(5, 12)) * 100.0
)


def crossed(seed, seeds, images, of_seeds, of_images, rest):
    """Differences with these standard deviations, around 3."""
    draw = np.random.default_rng(seed)
    return (
        3
        + of_seeds * draw.normal(size=(seeds, 1))
        + of_images * draw.normal(size=images)
        + rest * draw.normal(size=(seeds, images))
    )


@given(OUTCOMES)
def test_a_balanced_split_is_that_of_the_analysis_of_variance(values):
    seeds, images = values.shape
    by_seed, by_image = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_image + values.mean()
    error = (rest**2).sum() / ((seeds - 1) * (images - 1))
    of_images = (seeds * by_image.var(ddof=1) - error) / seeds
    found = spread(values)
    assert found.images * images == pytest.approx(max(of_images, 0), abs=1e-6)
    if of_images > 0:
        assert found.rest * images == pytest.approx(error, abs=1e-6)
        of_seeds = (images * by_seed.var(ddof=1) - error) / images
        assert found.seeds == pytest.approx(max(of_seeds, 0), abs=1e-6)


@given(OUTCOMES, st.randoms(use_true_random=False))
def test_a_split_ignores_the_order_of_seeds_and_images(values, random):
    rows, columns = list(range(5)), list(range(12))
    random.shuffle(rows)
    random.shuffle(columns)
    one, other = spread(values), spread(values[rows][:, columns])
    assert one.images == pytest.approx(other.images) and one.rest == pytest.approx(other.rest)
    assert one.seeds == pytest.approx(other.seeds)
    assert one.new_images.high == pytest.approx(other.new_images.high)


@given(OUTCOMES)
def test_new_images_never_make_the_interval_narrower(values):
    found = spread(values)
    assert found.new_images.low <= found.interval.low
    assert found.interval.high <= found.new_images.high


def test_a_split_of_parts_of_the_images_is_unbiased():
    """As in digits: every seed tests some of the images, so that two seeds share a few."""
    found = []
    for seed in range(60):
        values = crossed(seed, 8, 300, 1.0, 20.0, 10.0)
        draw = np.random.default_rng(1000 + seed)
        for row in values:
            row[draw.permutation(300)[100:]] = np.nan
        split = spread(values)
        found.append([split.seeds, split.images * 100, split.rest * 100])
    means, errors = np.mean(found, axis=0), stats.sem(found)
    assert means == pytest.approx([1.0, 400.0, 100.0], abs=4 * errors.max())
    assert np.all(np.abs(means - [1.0, 400.0, 100.0]) < 4 * errors)


def test_images_that_no_two_seeds_share_are_told_from_nothing():
    values = np.full((3, 12), np.nan)
    for i, row in enumerate(values):
        row[4 * i : 4 * i + 4] = crossed(i, 1, 4, 0, 5, 5)
    found = spread(values)
    assert np.isnan(found.images) and found.rest > 0
    assert found.new_images == found.interval  # every seed's images are new


@pytest.mark.parametrize("shape", [(1, 5), (2, 1)])
def test_what_cannot_be_split_is_refused(shape):
    with pytest.raises(ValueError, match="two seeds"):
        spread(np.zeros(shape))


@pytest.mark.parametrize("case", ["of images", "of seeds"])
def test_the_interval_for_new_images_holds_the_truth_95_times_in_100(case):
    over_seeds, over_both = coverage(case, 8, 500, 200)[:2]
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200) <= over_both
    assert (over_seeds < 0.8) == (case == "of images")  # which is why there is another one


def test_resampled_is_nadeau_and_bengios():
    """Their table's formula by hand; in digits, at 8 seeds, 2.08 times as wide."""
    values = np.array([1.0, 2.0, 4.0, 3.0, 2.5, 1.5, 0.0, 2.0])
    plain = mean_interval(values)
    wide = resampled(plain, 500, 1197)
    half = stats.t.ppf(0.975, 7) * np.sqrt((1 / 8 + 500 / 1197) * values.var(ddof=1))
    assert (wide.low, wide.high) == pytest.approx((plain.mean - half, plain.mean + half))
    assert (wide.high - wide.low) / (plain.high - plain.low) == pytest.approx(2.08, abs=0.005)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_a_binomial_test(better, worse):
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected)


@given(st.lists(st.booleans(), min_size=1))
def test_flags_come_back_from_a_cell(bits):
    assert flags(_cell(np.array(bits)), len(bits)).tolist() == bits


def runs(*rows):
    """A table of runs: (arm, seed, digest, tested, right) each."""
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "outcomes_of": of,
                "outcomes_tested": _cell(np.array(tested)) if tested else "",
                "outcomes_right": _cell(np.array(right)),
                "outcomes_per_class": f"1 {len(right) - 1}",
            }
            for arm, seed, of, tested, right in rows
        ]
    )


def test_images_are_matched_over_seeds():
    table = runs(
        ("a", 0, "x", [1, 1, 0, 0], [True, True]),
        ("b", 0, "x", [1, 1, 0, 0], [True, False]),
        ("a", 1, "x", [0, 1, 1, 0], [True, False]),
        ("b", 1, "x", [0, 1, 1, 0], [True, True]),
    )
    found = matrix(by_image(table, {"a": 1, "b": -1}))
    np.testing.assert_array_equal(found, [[0, 100, np.nan], [np.nan, 0, -100]])


def test_outcomes_of_other_images_are_not_compared():
    """An arm tested elsewhere, or an old run without outcomes, takes its seed out."""
    table = runs(
        ("a", 0, "x", None, [True, True]),
        ("b", 0, "y", None, [True, False]),
        ("a", 1, "x", None, [True, False]),
        ("b", 1, "x", [1, 1, 0], [True, True]),
        ("a", 2, "x", None, [True, False]),
        ("a", 3, "x", None, [True, False]),
        ("b", 3, "x", None, [False, False]),
    )
    assert list(by_image(table, {"a": 1, "b": -1})) == [3]
    drawn = runs(*(("a", seed, f"seed {seed}", None, [True, False]) for seed in range(2)))
    found = matrix(by_image(drawn, {"a": 1}))  # images of two seeds, none of which is shared
    np.testing.assert_array_equal(found, [[100, 0, np.nan, np.nan], [np.nan, np.nan, 100, 0]])
