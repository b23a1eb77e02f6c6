"""Sign flips over looks: exact where every pattern is there, and intervals that agree with them."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ns_bench.design.schedule import Schedule
from ns_bench.errors import UserError
from ns_bench.verdicts.sequential import lower_bound, rejected, upper_bound, walk
from ns_bench.verdicts.statistics import paired_contrast

SHORT = Schedule((6, 8, 11), (0.3, 0.6, 1.0))
coarse = st.integers(-8, 8).map(lambda x: x / 4)  # full of ties, as accuracies are


def repeated_interval(*of: Any) -> tuple[float, float]:
    return lower_bound(*of), upper_bound(*of)


@pytest.mark.parametrize(
    ("looks", "spending", "message"),
    [
        ((), (), "looks : expected ascending numbers of seeds"),
        ((8, 8), (0.5, 1), "looks 8, 8: expected ascending numbers of seeds"),
        ((0, 8), (0.5, 1), "looks 0, 8: expected ascending numbers of seeds"),
        ((8, 12), (1.0,), "spending 1: expected 2 shares, one a look"),
        ((8, 12), (0.5, 0.5), "spending 0.5, 0.5: expected shares that ascend to 1"),
        ((8, 12), (0.5, 0.9), "spending 0.5, 0.9: expected shares that ascend to 1"),
        ((8, 12), (0.0, 1.0), "spending 0, 1: expected shares that ascend to 1"),
    ],
)
def test_a_schedule_that_is_none_is_refused_in_a_line(looks, spending, message):
    with pytest.raises(UserError) as error:
        Schedule(looks, spending)
    assert str(error.value) == message


def test_a_schedule_that_cannot_reach_its_alpha_is_refused():
    Schedule().require_reach(0.05)
    Schedule().require_reach(0.05, family=8)  # not at its first look, but later
    with pytest.raises(UserError, match=r"looks 7, 64: no result of 7 seeds .* 0.016, .* 0.0075"):
        Schedule((7, 64), (0.15, 1)).require_reach(0.05)
    with pytest.raises(UserError, match=r"8 claims leave each 0.0063"):
        Schedule.fixed(8).require_reach(0.05, family=8)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(coarse, min_size=2, max_size=11), st.floats(0.01, 0.4))
def test_one_look_is_the_exact_sign_flip_test(differences, level):
    d = np.array(differences)
    walked = walk(d[None], Schedule.fixed(len(d)), [level])
    p = paired_contrast(d).p
    assert walked.p[0, 0, 0] == pytest.approx(p)
    assert walked.side[0, 0, 0] == (np.sign(d.sum()) if p <= level else 0)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(0, 6).map(float), min_size=9, max_size=9),
    st.sampled_from([0.05, 0.1, 0.2, 0.5]),
)
def test_no_more_paths_pass_by_a_look_than_it_may_spend_and_half_of_them_upwards(sizes, level):
    """Every pattern of signs of some sizes: the very paths that are as likely under the null."""
    plan = Schedule((5, 7, 9), (0.3, 0.6, 1.0))
    signs = np.array(list(itertools.product([1, -1], repeat=9)))
    walked = walk(signs * np.array(sizes), plan, [level])
    up, down = ((walked.side[0] == sign).mean(axis=0) for sign in (1, -1))
    np.testing.assert_array_equal(up, down)
    assert (up + down <= level * np.array(plan.spending) + 1e-12).all()
    assert ((walked.p <= level) == (walked.side != 0)).all()


def test_what_ties_leave_unspent_goes_on_to_the_next_look():
    """Six signs alike are 2 of 64 patterns: too many for .02, so all .04 are left for the next."""
    plan = Schedule((6, 10), (0.5, 1.0))
    signs = np.array(list(itertools.product([1, -1], repeat=10)))
    paths = signs * np.linspace(1, 2, 10)
    passed = (walk(paths, plan, [0.04]).side[0] != 0).mean(axis=0)
    assert passed[0] == 0
    assert 0.038 < passed[1] <= 0.04


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(8, 63), st.booleans())
def test_later_seeds_change_no_earlier_look(seed, n, ties):
    d = np.random.default_rng(seed).normal(0.3, 1, 64)
    d = np.round(d) if ties else d
    plan = Schedule()
    whole, part = (walk(values[None], plan, [0.05, 0.01]) for values in (d, d[:n]))
    looks = plan.complete(n)
    for name in ("p", "side", "boundary"):
        np.testing.assert_array_equal(getattr(whole, name)[..., :looks], getattr(part, name))


def test_drawn_patterns_keep_the_rate_as_well():
    """Beyond 15 seeds signs are drawn; heavy tails, where a normal approximation would err."""
    draw = np.random.default_rng(5)
    paths = draw.standard_t(2, (4000, 64))
    rate = (walk(paths, Schedule(), [0.05], exact=9).side[0, :, -1] != 0).mean()
    assert 0.035 < rate < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)


def test_a_clear_effect_is_found_early_and_none_is_found_late_or_never():
    draw = np.random.default_rng(6)
    seeds = np.array(Schedule().looks)
    for effect, power, most in ((1.0, 0.99, 15), (0.5, 0.92, 37)):
        side = walk(draw.normal(effect, 1, (800, 64)), Schedule(), [0.05], exact=11).side[0]
        found = side > 0
        mean = np.where(found.any(axis=1), seeds[found.argmax(axis=1)], 64).mean()
        assert found[:, -1].mean() > power
        assert mean < most


@settings(max_examples=25, deadline=None)
@given(
    st.lists(coarse, min_size=8, max_size=14),
    st.lists(st.integers(-12, 12).map(lambda x: x / 8), min_size=1, max_size=3, unique=True),
)
def test_the_interval_holds_the_shifts_that_no_look_rejects(differences, shifts):
    d, levels = np.array(differences), [0.2, 0.1]
    low, high = repeated_interval(d, SHORT, levels, shifts)
    side = rejected(walk(d - np.array(sorted(shifts))[:, None], SHORT, levels))[-1, :, -1]
    up = np.logical_and.accumulate(side > 0)
    down = np.logical_and.accumulate((side < 0)[::-1])[::-1]
    assert list(up) == [low > shift for shift in sorted(shifts)]
    assert list(down) == [high < shift for shift in sorted(shifts)]
    assert low <= high


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.floats(-3, 3), st.integers(8, 30))
def test_intervals_move_and_turn_with_the_differences_and_grow_with_their_confidence(seed, by, n):
    d = np.random.default_rng(seed).normal(size=n)
    plan, levels = Schedule(), [0.05, 0.05 / 2]
    low, high = repeated_interval(d, plan, levels[:1])
    moved = repeated_interval(d + by, plan, levels[:1], [by])
    assert moved == pytest.approx((low + by, high + by), abs=1e-2)
    turned = repeated_interval(-d, plan, levels[:1])
    assert turned == pytest.approx((-high, -low), abs=1e-9)
    wider = repeated_interval(d, plan, levels)
    assert wider[0] <= low + 1e-2
    assert wider[1] >= high - 1e-2


def test_before_the_first_look_and_where_nothing_can_be_rejected_the_interval_has_no_ends():
    d = np.arange(12.0)
    assert repeated_interval(d[:7], Schedule(), [0.05]) == (-np.inf, np.inf)
    assert repeated_interval(d[:8], Schedule(), [0.05 / 2]) == (-np.inf, np.inf)
    assert np.isfinite(repeated_interval(d, Schedule(), [0.05 / 2])).all()


def test_equal_differences_have_an_interval_of_no_width():
    low, high = repeated_interval(np.full(8, 1.5), Schedule(), [0.05])
    assert low == pytest.approx(1.5, abs=1e-5)
    assert high == pytest.approx(1.5, abs=1e-5)
