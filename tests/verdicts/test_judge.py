"""Words of a study's claims over looks: pure functions of the look, one error rate for all."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ns_bench.design.schedule import Schedule
from ns_bench.verdicts.judge import Evidence, chance, interval, judge, judge_studies
from ns_bench.verdicts.statistics import Kind

SHORT = Schedule((6, 8, 12), (0.7, 0.85, 1.0))
ALPHA = 0.3  # so that a few seeds decide
KINDS = ("greater", "not worse", "equivalent")


def evidence(kind, *means, n=64, margin=1.0, sd=1.0, seed=0):
    draw = np.random.default_rng(seed)
    return Evidence(kind, margin, tuple(draw.normal(mean, sd, n) for mean in means))


@st.composite
def studies(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    claims = []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(5, 14))
        means = draw(st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.4, 3.0]), min_size=1, max_size=2))
        values = tuple(np.round(rng.normal(mean, 0.8, n), 1) for mean in means)
        claims.append(Evidence(draw(st.sampled_from(KINDS)), 0.9, values))
    return claims


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(studies())
def test_the_word_can_be_read_off_the_intervals_and_the_p(claims):
    for claim, decision in zip(claims, judge(claims, SHORT, ALPHA), strict=True):
        bounds = [
            interval(claim, i, decision, claims, SHORT, ALPHA)
            for i in range(len(claim.differences))
        ]
        inside = all(low > -0.9 and high < 0.9 for low, high in bounds)
        claimed = {
            "greater": all(low > 0 for low, _ in bounds) and not inside,
            "not worse": all(low > -0.9 for low, _ in bounds),
            "equivalent": inside,
        }[claim.kind]
        beyond = {
            "greater": any(high < 0 for _, high in bounds) and not inside,
            "not worse": any(high < -0.9 for _, high in bounds),
            "equivalent": any(high < -0.9 or low > 0.9 for low, high in bounds),
        }[claim.kind]
        assert (decision.word == "reproduced") == claimed
        assert (decision.word == "contradicted") == beyond
        assert (decision.word == "equivalent") == (inside and claim.kind == "greater")
        if decision.word == "reproduced":
            assert decision.p <= decision.p_adjusted <= ALPHA
        if decision.word == "inconclusive":
            assert decision.p_adjusted > ALPHA


@settings(max_examples=30, deadline=None)
@given(studies(), st.integers(0, 2**32))
def test_seeds_between_looks_and_after_a_decision_change_nothing(claims, seed):
    draw = np.random.default_rng(seed)
    before = judge(claims, SHORT, ALPHA)
    ends = [SHORT.looks[SHORT.complete(c.seeds) - 1] if c.seeds >= 6 else 0 for c in claims]
    cut = [
        Evidence(c.kind, 0.9, tuple(d[: max(end, 1)] for d in c.differences))
        for c, end in zip(claims, ends, strict=True)
    ]
    assert judge(cut, SHORT, ALPHA) == before
    if all(decision.word != "inconclusive" for decision in before):
        more = [
            Evidence(c.kind, 0.9, tuple(np.append(d, draw.normal(0, 9, 9)) for d in c.differences))
            for c in claims
        ]
        after = judge(more, SHORT, ALPHA)
        assert [decision.word for decision in after] == [decision.word for decision in before]
        if len({SHORT.complete(c.seeds) for c in claims}) == 1:  # else see the next test
            assert after == before


def test_a_claim_that_is_behind_another_rests_on_its_own_last_look():
    """The other is decided at its second look and leaves it more of alpha, which it needs: at its
    first look while it has no second, as with a failed run, and at its second once that is in."""
    ahead = [-0.8, 2.5, 0.1, 1.2, 0.2, -2.5, 0.2, 1.1, 0.5, -0.5, -0.3, -1.2, -0.8]
    behind = [0.7, 1.0, 0.2, 1.4, -0.4, 0.4]
    for values, seeds in ((behind, 6), ([*behind, 1.1, -1.2], 8)):
        claims = [
            Evidence("not worse", 0.9, (np.array(ahead),)),
            Evidence("greater", 0.9, (np.array(values),)),
        ]
        decisions = judge(claims, SHORT, ALPHA)
        assert [decision.word for decision in decisions] == ["reproduced", "reproduced"]
        assert (decisions[1].seeds, decisions[1].open) == (seeds, 1)


@pytest.mark.parametrize(
    ("kind", "mean", "word"),
    [
        ("greater", 3.0, "reproduced"),
        ("greater", -3.0, "contradicted"),
        ("greater", 0.1, "equivalent"),
        ("not worse", 0.0, "reproduced"),
        ("not worse", -3.0, "contradicted"),
        ("equivalent", 0.0, "reproduced"),
        ("equivalent", 3.0, "contradicted"),
        ("equivalent", -3.0, "contradicted"),
    ],
)
def test_what_is_so_gets_its_word(kind, mean, word):
    (decision,) = judge([evidence(kind, mean, sd=0.7)], Schedule())
    assert decision.word == word
    assert decision.seeds < 64


def test_of_several_contrasts_each_has_to_hold_and_any_may_contradict():
    words = [
        judge([evidence("greater", *means)], Schedule())[0].word
        for means in [(3, 3), (3, 0), (3, -3)]
    ]
    assert words == ["reproduced", "inconclusive", "contradicted"]


def test_a_contradiction_of_several_is_held_to_alpha_over_their_number_and_the_family():
    """Eight seeds of one sign have a p of 2/2^8, which is below .05 / 4 and above .05 / 8."""
    up, down, none = 3 + np.arange(8.0), -3 - np.arange(8.0), np.array([1.0, -1] * 4)
    words = []
    for family in (1, 2, 4):
        claims = [Evidence("greater", 0.5, (up, down))]
        claims += [Evidence("greater", 0.5, (none,))] * (family - 1)
        words.append(judge(claims, Schedule.fixed(8))[0].word)
    assert words == ["contradicted", "contradicted", "inconclusive"]


def test_a_contrast_that_is_too_small_to_matter_keeps_a_claim_of_several_open():
    large, small = 3 + np.arange(8.0), 0.1 + np.arange(8.0) / 100
    found = [
        judge([Evidence("greater", 0.5, values)], Schedule.fixed(8))[0].word
        for values in [(large, large), (large, small), (small, large), (small, small)]
    ]
    assert found == ["reproduced", "inconclusive", "inconclusive", "equivalent"]


@pytest.mark.parametrize(
    ("n", "family", "word"),
    [
        (5, 1, "inconclusive"),
        (6, 1, "reproduced"),
        (7, 4, "inconclusive"),
        (8, 4, "reproduced"),
    ],
)
def test_seeds_that_all_agree_decide_where_so_many_can(n, family, word):
    claims = [Evidence("greater", 0.5, (5 + np.arange(n) / n,))] * family
    assert {d.word for d in judge(claims, Schedule.fixed(n))} == {word}


def test_a_reproduced_claim_leaves_its_alpha_to_the_others():
    weak = evidence("greater", 0.75, n=12, margin=0.0, seed=11)
    strong = evidence("greater", 4.0, n=12, margin=0.0, seed=4)
    none = evidence("greater", 0.0, n=12, margin=0.0, seed=8)
    beside_none = judge([weak, none], Schedule())[0]
    beside_strong = judge([weak, strong], Schedule())[0]
    assert (beside_none.word, beside_none.open) == ("inconclusive", 2)
    assert (beside_strong.word, beside_strong.open) == ("reproduced", 1)
    assert beside_strong.p_adjusted <= 0.05 < beside_none.p_adjusted


def test_a_claim_of_which_a_run_is_missing_waits_and_counts_in_the_family():
    full = evidence("greater", 3.0, n=16)
    few = evidence("greater", 3.0, n=7)
    first, second = judge([full, few], Schedule())
    assert (first.word, first.seeds) == ("reproduced", 12)  # 8 seeds are too few for two claims
    assert (second.word, second.seeds, second.p_adjusted) == ("inconclusive", 0, 1.0)
    assert interval(few, 0, second, [full, few], Schedule()) == (-math.inf, math.inf)


@settings(max_examples=20, deadline=None)
@given(studies())
def test_neither_the_order_of_claims_nor_of_contrasts_matters(claims):
    there = judge(claims, SHORT, ALPHA)
    turned = [Evidence(c.kind, c.smallest_effect, c.differences[::-1]) for c in claims[::-1]]
    assert judge(turned, SHORT, ALPHA)[::-1] == there


def test_the_chance_that_going_on_decides():
    """Nearly sure where the effect is clear, and small where there is none to be found."""
    plan, chances = Schedule(), []
    for mean in (0.9, 0.0):
        d = np.array([2.0, -1.0, 0.5, -0.4, 1.2, -1.3, 0.1, -1.1]) + mean
        claim = Evidence("greater", 0.0, (d,))
        (open_claim,) = judge([claim], plan)
        assert open_claim.word == "inconclusive"
        chances.append(chance(claim, open_claim, plan))
    assert chances[0] > 0.8
    assert chances[1] < 0.5


SHAPES = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "heavy-tailed": lambda draw, shape: draw.standard_t(2, shape),
    "discrete": lambda draw, shape: draw.integers(-1, 2, shape).astype(float),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_at_most_5_studies_in_100_get_a_false_word_whatever_their_claims_say(shape):
    """Five claims, each where a false word is easiest, correlated as arms that are shared."""
    studies, plan = 600, Schedule((8, 12, 16, 24), (0.25, 0.5, 0.75, 1.0))
    family: list[tuple[Kind, float]] = [
        *(("greater", 0.0), ("greater", 0.0), ("not worse", -1.0)),
        *(("equivalent", 1.0), ("equivalent", -1.0)),
    ]
    draw = np.random.default_rng(7)
    noise = SHAPES[shape](draw, (studies, 6, 24))
    paths = noise[:, :1] + noise[:, 1:]
    made = [
        [Evidence(kind, 1.0, (mean + d,)) for (kind, mean), d in zip(family, study, strict=True)]
        for study in paths
    ]
    false = {"reproduced", "contradicted"}
    wrong = sum(
        any(decision.word in false for decision in decisions)
        for decisions in judge_studies(made, plan, exact=9)
    )
    assert wrong / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert wrong / studies > 0.005  # never to say a word is no merit


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "images"])
def test_equal_arms_give_a_false_finding_in_5_families_of_100_at_most(noise):
    """Four arms against one baseline, a fixed number of 8 seeds."""
    trials, arms, n = 1000, 4, 8
    rng = np.random.default_rng(11)
    if noise == "normal":
        scores = rng.normal(90, 1, (trials, arms + 1, n))
    else:
        scores = 100 * (rng.binomial(500, 0.9, (trials, arms + 1, n)) / 500)
    made = [
        [Evidence("greater", 0.1, (arm - family[0],)) for arm in family[1:]] for family in scores
    ]
    found = judge_studies(made, Schedule.fixed(n))
    wrong = np.mean([any(d.word in ("reproduced", "contradicted") for d in f) for f in found])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mean"), [("not worse", -0.5), ("equivalent", 0.5)])
@pytest.mark.parametrize("family", [1, 4])
def test_claims_about_a_margin_contradict_in_5_studies_of_100_at_most(kind, mean, family):
    """The difference is the margin itself, where erring is easiest, at 16 seeds."""
    trials = 1000
    paths = np.random.default_rng(2).normal(mean, 0.3, (trials, family, 16))
    made = [[Evidence(kind, 0.5, (d,)) for d in study] for study in paths]
    found = judge_studies(made, Schedule.fixed(16), exact=10)
    wrong = np.mean([any(d.word == "contradicted" for d in f) for f in found])
    assert 0.003 < wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
