"""The claims of several studies and profiles as one family, under one error rate.

Within a study "reproduced" is corrected over its own claims. Here the same tests are corrected
over every claim of a scorecard: Holm controls the probability that any of them is false, and
Benjamini and Yekutieli (2001) the expected share of false ones, both however the claims depend on
each other. They do: claims share arms, with either sign, and seeds. Benjamini and Hochberg (1995)
finds more, but is proven only where tests depend positively, which shared arms of opposite signs
do not promise; its count is shown and no claim rests on it.

The p of a claim judged over several looks is that at the study's whole alpha: valid, and cautious
where a claim went on to later looks for the correction within its study.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ns_bench.design.schedule import ALPHA
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.judge import Decision, Evidence, judge
from ns_bench.verdicts.statistics import Array, Word, holm


@dataclass(frozen=True)
class Member:
    """A testable claim within the family.

    Attributes:
        word: the verdict within its study.
        p: of "reproduced", 1 where the effect is against the claim.
        familywise: p adjusted by Holm over the family.
        discovery: p adjusted by Benjamini and Yekutieli.
        positive: p adjusted by Benjamini and Hochberg.
    """

    word: Word
    p: float
    familywise: float = 1.0
    discovery: float = 1.0
    positive: float = 1.0

    def holds(self, adjusted: float) -> bool:
        """Whether it is reproduced within its study and over the family."""
        return self.word == "reproduced" and adjusted <= ALPHA

    @property
    def control(self) -> str:
        """The strictest error rate over the family at which it is reproduced, "" if at none."""
        if self.holds(self.familywise):
            return "familywise"
        return "false discovery rate" if self.holds(self.discovery) else ""


def members(analyses: Sequence[Analysis], scale: float = 1.0) -> list[list[Member | None]]:
    """Judge every claim of every analysis, by analysis and claim.

    None where there is no verdict: of an untestable claim, and in a trial run.

    Args:
        scale: by which every smallest effect of interest is multiplied.
    """
    found = [_judged(analysis, scale) for analysis in analyses]
    p = [member.p for judged in found for member in judged if member]
    adjusted = zip(
        holm(p), false_discovery(p, any_dependence=True), false_discovery(p), strict=True
    )
    rest = (tuple(map(float, values)) for values in adjusted)
    return [
        [member and Member(member.word, member.p, *next(rest)) for member in judged]
        for judged in found
    ]


def false_discovery(p_values: ArrayLike, *, any_dependence: bool = False) -> Array:
    """Adjusted p-values [claim] of Benjamini and Hochberg; of any dependence, and Yekutieli."""
    p = np.asarray(p_values, dtype=np.float64)
    ranks = np.arange(len(p), 0, -1)
    order = np.argsort(p)[::-1]
    factor = (1 / ranks).sum() if any_dependence else 1.0
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(p[order] * factor * len(p) / ranks)
    return np.minimum(adjusted, 1.0)


def _judged(analysis: Analysis, scale: float) -> list[Member | None]:
    if not analysis.profile.verdict:
        return [None] * len(analysis.claims)
    tests = [None if r.claim.untestable else _scaled(r.evidence, scale) for r in analysis.claims]
    family = [test for test in tests if test]
    decisions = [r.decision for r in analysis.claims if r.decision]
    if scale != 1 or len(decisions) < len(family):
        decisions = judge(family, analysis.schedule)
    each = iter(decisions)
    judged = [None if test is None else _member(test, next(each)) for test in tests]
    return [
        replace(member, word="not run") if member and result.n == 0 else member
        for member, result in zip(judged, analysis.claims, strict=True)
    ]


def _scaled(evidence: Evidence, scale: float) -> Evidence:
    return replace(evidence, smallest_effect=scale * evidence.smallest_effect)


def _member(claim: Evidence, decision: Decision) -> Member:
    against = claim.kind == "greater" and any(
        values[: decision.seeds].sum() <= 0 for values in claim.differences
    )
    return Member(decision.word, 1.0 if against else decision.p)
