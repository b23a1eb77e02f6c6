"""One error rate over the claims of all studies."""

import math
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from ns_bench.design.definition import Arm, Design, Study, difference, untestable
from ns_bench.design.profile import load_profile
from ns_bench.verdicts.analysis import Analysis, analyse
from ns_bench.verdicts.family import Member, false_discovery, members
from ns_bench.verdicts.statistics import holm

pytestmark = pytest.mark.slow

NAMES = ("none", "clear", "worse", "slightly")
GAINS = (0.0, 3.0, -3.0, 0.5)
WAVE = (0.05, -0.1, 0.15, 0.0, -0.05, 0.1, -0.15, 0.02, 0.06, -0.08, 0.12, -0.03)


@lru_cache
def analysis(profile: str, seeds: int) -> Analysis:
    """A study with one claim of every sort, at made-up results."""
    scale = load_profile(profile)
    arms = [Arm(n, scale.supervised("small", train__epochs=i + 1)) for i, n in enumerate(NAMES)]
    claims = [
        difference("Clear.", "clear", "none", 1.0),
        difference("Not here.", "worse", "none", 1.0),
        difference("Matters if half of it does.", "slightly", "none", 0.8),
        difference("No worse.", "slightly", "none", 0.2, kind="not worse"),
        untestable("Never.", "there is nothing"),
    ]
    design = Design(arms, "none", claims)
    rows = [
        {
            "arm": name,
            "seed": seed,
            "run": f"{name}-{seed}",
            "state": "done",
            "test_top1": 90 + seed + gain * (1 + WAVE[(seed + i) % len(WAVE)]),
        }
        for i, (name, gain) in enumerate(zip(NAMES, GAINS, strict=True))
        for seed in range(seeds)
    ]
    study = Study("made_up", "", "", lambda _: design, "")
    return analyse(study, scale, design, pd.DataFrame(rows), pd.DataFrame(), seeds)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_false_discovery_rates_agree_with_scipy(p: list[float]) -> None:
    for any_dependence, method in ((False, "bh"), (True, "by")):
        ours = false_discovery(p, any_dependence=any_dependence)
        assert ours == pytest.approx(false_discovery_control(p, method=method))


def test_a_claim_among_more_claims_needs_more_seeds() -> None:
    """At 8 seeds the smallest p is 2/2^8: enough for four claims, not for eight at once."""
    alone, few = members([analysis("digits", 8)])[0], members([analysis("digits", 8)] * 2)
    assert [m and m.word for m in alone] == [
        "reproduced", "contradicted", "equivalent", "reproduced", None,
    ]  # fmt: skip
    assert [m and m.control for m in alone] == ["familywise", "", "", "familywise", None]
    assert next(m.familywise for m in few[0] if m) == pytest.approx(8 * 2 / 2**8)
    assert {m.control for judged in few for m in judged if m} == {"", "false discovery rate"}
    many = members([analysis("digits", 12)] * 2)
    assert [m and m.control for m in many[1]] == ["familywise", "", "", "familywise", None]


def test_what_is_against_a_claim_never_counts_for_it() -> None:
    judged = [m for m in members([analysis("digits", 12)])[0] if m]
    assert [m.p for m in judged] == [2 / 2**12, 1.0, 2 / 2**12, 2 / 2**12]
    assert [m.familywise for m in judged] == holm([m.p for m in judged]).tolist()
    assert not judged[2].holds(judged[2].familywise), "equivalent: its p is of another question"


def test_sizes_that_matter_move_words_and_no_p() -> None:
    half, usual, double = (
        [m for m in members([analysis("digits", 12)], scale)[0] if m] for scale in (0.5, 1.0, 2.0)
    )
    assert [m.word for m in half] == ["reproduced", "contradicted", "reproduced", "reproduced"]
    assert [m.word for m in usual][2] == [m.word for m in double][2] == "equivalent"
    assert [m.p for m in half[:3]] == [m.p for m in usual[:3]] == [m.p for m in double[:3]]


def test_a_trial_run_is_no_member_and_takes_nothing_from_others() -> None:
    digits, smoke = analysis("digits", 8), analysis("smoke", 8)
    assert members([digits, smoke]) == [members([digits])[0], [None] * 5]
    assert members([]) == []


@given(st.integers(0, 2**32 - 1))
def test_under_no_effect_a_false_one_is_as_rare_as_promised(seed: int) -> None:
    """Of p-values that are uniform under the null Holm finds none in 95 of 100 families."""
    p = np.random.default_rng(seed).uniform(size=(400, 20))
    false = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert false <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)


def test_the_strictest_control_is_named() -> None:
    assert Member("reproduced", 0.001, 0.04, 0.03).control == "familywise"
    assert Member("reproduced", 0.001, 0.06, 0.03).control == "false discovery rate"
    assert Member("reproduced", 0.001, 0.06, 0.06).control == ""
    assert Member("contradicted", 0.001, 0.01, 0.01).control == ""
