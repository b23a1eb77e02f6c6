"""Where nothing is to be found, at most 5 studies in 100 find it, whatever their claims say.

A study of five claims of every kind on 8 seeds, its true effects where a false finding is
easiest: 0, or on the edge of what matters. The whole way: differences, p, Holm, the word.
"""

import math

import numpy as np
import pytest

from ns_bench.verdicts.statistics import claim_p, holm, paired_contrast, verdict

SEEDS, SMALLEST, TRIALS = 8, 1.0, 250
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


def words(family, draw):
    """The word on each claim of one simulated study; its arms share the baseline's noise."""
    shared = draw.normal(0, 0.5, SEEDS)
    contrasts = [
        [
            paired_contrast(mean + shared + draw.normal(0, 0.5, SEEDS), kind, SMALLEST)
            for mean in means
        ]
        for kind, means in family
    ]
    adjusted = holm([claim_p(c, kind) for c, (kind, _) in zip(contrasts, family, strict=True)])
    return [
        verdict(c, float(p), kind=kind, smallest_effect=SMALLEST, family=len(family)).word
        for c, p, (kind, _) in zip(contrasts, adjusted, family, strict=True)
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_at_most_5_studies_in_100_reproduce_what_is_not_so(name):
    draw = np.random.default_rng(list(FAMILIES).index(name))
    false = sum("reproduced" in words(FAMILIES[name], draw) for _ in range(TRIALS))
    assert false / TRIALS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_what_is_so_is_found():
    """The other half: such a study has the power to find its claims where they hold."""
    family = [
        ("greater", [2.5]),
        ("not worse", [1.5]),
        ("equivalent", [0.0]),
        ("not worse", [1.0, 2.0]),
        ("greater", [2.5, 3.0]),
    ]
    draw = np.random.default_rng(9)
    found = np.mean([[w == "reproduced" for w in words(family, draw)] for _ in range(40)], axis=0)
    assert found.min() >= 0.5
