"""Where nothing is to be found, at most 5 studies in 100 find it.

Made-up studies, whose arms share a baseline's noise, are judged by hundreds; some of each kind go
the whole way from tables of runs, through `analyse` as a report's do, and get the same words. True
effects are where a false word is easiest: 0, or on the edge of what matters.
"""

import math

import numpy as np
import pandas as pd
import pytest

from ns_bench.design.definition import Arm, Claim, Design, Study, minus
from ns_bench.design.profile import load_profile
from ns_bench.design.schedule import Schedule
from ns_bench.recipe import Recipe
from ns_bench.verdicts.analysis import analyse
from ns_bench.verdicts.judge import Evidence, judge_studies

pytestmark = pytest.mark.slow

SMALLEST, TRIALS = 1.0, 400
# A study's claims: the kind, and the true mean of each contrast.
FAMILIES = {
    "greater": [("greater", [0.0])] * 5,
    "not worse": [("not worse", [-SMALLEST])] * 5,
    "equivalent": [("equivalent", [SMALLEST])] * 5,
    "several contrasts": [
        ("greater", [0.0, 3.0]),  # a true part makes the rest no truer
        ("not worse", [-SMALLEST, 1.0]),
        ("equivalent", [SMALLEST, 0.0]),
        ("equivalent", [-SMALLEST, SMALLEST]),
        ("greater", [0.0, -1.0]),
    ],
    "every kind": [
        ("greater", [0.0]),
        ("not worse", [-SMALLEST]),
        ("equivalent", [-SMALLEST]),
        ("greater", [0.0, 0.0]),
        ("equivalent", [SMALLEST, 0.0]),
    ],
}
SCHEDULES = {"fixed": Schedule.fixed(8), "looks": Schedule((8, 9, 10), (0.4, 0.7, 1.0))}
PROFILE = load_profile("digits")


def study_of(family, schedule):
    """A study whose arms are a baseline and one for each contrast; it ends with its schedule."""
    arms, claims = [Arm("baseline", Recipe())], []
    for i, (kind, means) in enumerate(family):
        names = [f"arm {i}.{j}" for j in range(len(means))]
        arms += [Arm(name, Recipe()) for name in names]
        contrasts = tuple(minus(name, "baseline") for name in names)
        claims.append(Claim(f"claim {i}", contrasts, SMALLEST, kind))
    design = Design(arms, "baseline", claims)
    return Study("made_up", "", "", lambda _: design, "", schedule=schedule), design


def drawn(family, draw, schedule):
    """The top-1 of one simulated study's arms, [arm, seed]; the baseline's first."""
    means = [0.0, *(mean for _, means in family for mean in means)]
    return [90 + mean + draw.normal(0, 0.5, schedule.maximum) for mean in means]


def evidence(family, top1):
    arms = iter(top1[1:])
    return [
        Evidence(kind, SMALLEST, tuple(next(arms) - top1[0] for _ in means))
        for kind, means in family
    ]


def words(family, studies, schedule):
    """The words on the claims of each simulated study."""
    judged = judge_studies([evidence(family, top1) for top1 in studies], schedule)
    return [[decision.word for decision in decisions] for decisions in judged]


def words_of_tables(family, top1, schedule):
    """The same, the whole way from a table of runs."""
    study, design = study_of(family, schedule)
    runs = [
        {
            "arm": arm.name,
            "seed": seed,
            "run": f"{arm.name} {seed}",
            "state": "done",
            "test_top1": value,
        }
        for arm, values in zip(design.arms, top1, strict=True)
        for seed, value in enumerate(values)
    ]
    found = analyse(
        study,
        PROFILE,
        design,
        pd.DataFrame(runs),
        pd.DataFrame(),
        schedule.maximum,
        None,
        schedule,
    )
    return [result.verdict.word for result in found.claims]


@pytest.mark.parametrize("plan", SCHEDULES)
@pytest.mark.parametrize("name", FAMILIES)
def test_at_most_5_studies_in_100_say_what_is_not_so(name, plan):
    draw = np.random.default_rng(list(FAMILIES).index(name))
    family, schedule = FAMILIES[name], SCHEDULES[plan]
    studies = [drawn(family, draw, schedule) for _ in range(TRIALS)]
    said = words(family, studies, schedule)
    false = sum(
        any(
            word == "reproduced" or (word == "contradicted" and not so(kind, means))
            for word, (kind, means) in zip(one, family, strict=True)
        )
        for one in said
    )
    assert false / TRIALS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)
    told = [i for i, one in enumerate(said) if {*one} != {"inconclusive"}][:2]
    for i in {0, 1, *told}:  # those with a word, too: few have one
        assert words_of_tables(family, studies[i], schedule) == said[i]


def so(kind, means):
    """Whether a claim is contradicted in truth; its edge counts as not."""
    return kind == "greater" and min(means) < 0


@pytest.mark.parametrize("plan", SCHEDULES)
def test_what_is_so_is_found(plan):
    """The other half: such a study has the power to find its claims where they hold."""
    family = [
        ("greater", [2.5]),
        ("not worse", [1.5]),
        ("equivalent", [0.0]),
        ("not worse", [1.0, 2.0]),
        ("greater", [2.5, 3.0]),
    ]
    draw = np.random.default_rng(9)
    schedule = SCHEDULES[plan]
    studies = [drawn(family, draw, schedule) for _ in range(40)]
    said = words(family, studies, schedule)
    assert words_of_tables(family, studies[0], schedule) == said[0]
    assert np.mean([[w == "reproduced" for w in one] for one in said], axis=0).min() >= 0.5
