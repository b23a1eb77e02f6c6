"""From the differences of a study's claims to one word a claim, at one error rate, over looks.

A claim is judged at every complete look, and the first word it gets is its last. Every word comes
from tests of `ns_bench.verdicts.sequential` at shifts that its kind names (0, or ± the smallest
effect of interest), so a verdict depends on the results up to its look and on nothing else.

The error rate: with probability 1 - alpha no claim of the study gets a false word, at any look,
however the claims depend on each other. It is spent in two halves, tests being one-sided.

- "Reproduced" is corrected by Holm over the claims: while j of them are not reproduced, each is
  tested at alpha / (2 j). Let t claims be such that "reproduced" would be false. At the first
  false one j is t or more, so it passes at alpha / (2 t) as well (levels nest, see `rejected`), and
  that has probability alpha / 2 over the t of them. That this holds over looks is closed testing
  (Glimm, Maurer and Bretz 2010): a level grows when a claim is decided, never with the data of the
  claim itself. A claim of several contrasts needs each of them (intersection-union test), one of
  "equivalent" needs both of its margins.
- What speaks against a claim ("contradicted", and the upper side of "equivalent" on a claim of
  "greater") is corrected by Bonferroni: alpha / (2 m) for each of m claims, divided over its
  contrasts, any of which may contradict, and over both sides of a claim of "equivalent".
  The lower side of "equivalent" is false only where "reproduced" is, by the same test passing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ns_bench.design.schedule import Schedule
from ns_bench.verdicts.sequential import (
    EXACT,
    Array,
    Walk,
    lower_bound,
    rejected,
    upper_bound,
    walk,
)
from ns_bench.verdicts.statistics import Kind, Word


@dataclass(frozen=True)
class Evidence:
    """What is known of a claim.

    Attributes:
        differences: one array a contrast, each with the values of seeds 0, 1, ... as far as every
            arm of the claim is done without a gap, in the unit of `smallest_effect`.
    """

    kind: Kind
    smallest_effect: float
    differences: tuple[Array, ...]

    @property
    def seeds(self) -> int:
        return len(self.differences[0])

    @property
    def shifts(self) -> tuple[float, ...]:
        """Where its tests are, in ascending order."""
        margin = self.smallest_effect
        return {
            "greater": (-margin, 0.0, margin),
            "not worse": (-margin,),
            "equivalent": (-margin, margin),
        }[self.kind]


@dataclass(frozen=True)
class Decision:
    """The word on a claim, and where it was decided.

    Attributes:
        seeds: of the look it rests on; of an open claim the last complete one, 0 if there is none.
        open: claims of the study that shared alpha then; "reproduced" is tested at alpha / open.
        p: of the null that the claim has to beat, by this look.
        p_adjusted: the same over the claims of the study; at most alpha where it is reproduced.
    """

    word: Word
    seeds: int
    open: int
    p: float
    p_adjusted: float


def judge(claims: Sequence[Evidence], schedule: Schedule, alpha: float = 0.05) -> list[Decision]:
    """Return the decision on each claim of a study; all of its testable claims have to be there."""
    return judge_studies([claims], schedule, alpha)[0]


def judge_studies(
    studies: Sequence[Sequence[Evidence]],
    schedule: Schedule,
    alpha: float = 0.05,
    exact: int = EXACT,
) -> list[list[Decision]]:
    """Judge studies that have the same kinds of claims; their tests are run together."""
    shares = _shares(studies[0]) if studies else []
    levels = [alpha / share for share in shares]
    contrasts = [
        differences - np.array(claim.shifts)[:, None]
        for claims in studies
        for claim in claims
        for differences in claim.differences
    ]
    walks = iter(_walks(contrasts, schedule, levels, exact))
    return [
        _decide(
            [
                _Tests(
                    claim, schedule, shares, [next(walks) for _ in claim.differences], len(claims)
                )
                for claim in claims
            ]
        )
        for claims in studies
    ]


def _walks(
    contrasts: Sequence[Array], schedule: Schedule, levels: Sequence[float], exact: int
) -> list[Walk]:
    """Walk contrasts [shift, seed], those of one length in one go."""
    walks: dict[int, Walk] = {}
    for seeds in {each.shape[1] for each in contrasts}:
        mine = [i for i, each in enumerate(contrasts) if each.shape[1] == seeds]
        walked = walk(np.concatenate([contrasts[i] for i in mine]), schedule, levels, exact)
        ends = np.cumsum([len(contrasts[i]) for i in mine])
        for i, part in zip(mine, walked.split(ends[:-1].tolist()), strict=True):
            walks[i] = part
    return [walks[i] for i in range(len(contrasts))]


def _decide(tests: Sequence["_Tests"]) -> list[Decision]:
    decided: dict[int, Decision] = {}
    reproduced = 0
    for look in range(max((test.looks for test in tests), default=0)):
        before = None
        while before != reproduced:  # one more reproduced leaves more for the others
            before = reproduced
            for i, test in enumerate(tests):
                at = min(look, test.looks - 1)
                if i not in decided and (word := test.word(at, len(tests) - before)):
                    decided[i] = test.decision(word, at, len(tests) - before)
                    reproduced += word == "reproduced"
    return [
        decided.get(i) or test.decision("inconclusive", test.looks - 1, len(tests) - reproduced)
        for i, test in enumerate(tests)
    ]


def interval(
    claim: Evidence,
    contrast: int,
    decision: Decision,
    study: Sequence[Evidence],
    schedule: Schedule,
    alpha: float = 0.05,
) -> tuple[float, float]:
    """Return the repeated interval of one of a claim's contrasts, at the levels that judge it.

    The bound on the claimed side is at the level of "reproduced", the other one at that of the
    words against the claim, so that a word can be read off the interval: "reproduced" is above 0,
    above minus the smallest effect, or inside ± that effect, and "contradicted" beyond. Infinite
    where so few seeds bound nothing.
    """
    values = claim.differences[contrast][: decision.seeds]
    if not len(values):
        return -np.inf, np.inf
    against = _against(claim, len(study))
    shares = _shares(study)
    levels = [alpha / share for share in shares]
    near = levels[: shares.index(decision.open) + 1]
    far = levels[: shares.index(against) + 1]
    if claim.kind == "equivalent":
        near = far = near if decision.word == "reproduced" else far
    return (
        lower_bound(values, schedule, near, claim.shifts),
        upper_bound(values, schedule, far, claim.shifts),
    )


def _against(claim: Evidence, family: int) -> int:
    """By what alpha is divided for the words against a claim."""
    return family * len(claim.differences) * (2 if claim.kind == "equivalent" else 1)


def _shares(study: Sequence[Evidence]) -> list[int]:
    """By what alpha is divided in any of a study's tests, in ascending order."""
    family = len(study)
    return sorted({*range(1, family + 1), *(_against(claim, family) for claim in study)})


class _Tests:
    """Every test of a claim: `up` and `down` [contrast, level, shift, look] say what it rejects."""

    def __init__(
        self,
        claim: Evidence,
        schedule: Schedule,
        shares: list[int],
        walks: Sequence[Walk],
        family: int,
    ) -> None:
        self.claim, self.schedule, self.shares = claim, schedule, shares
        self.looks = schedule.complete(claim.seeds)
        self.against = shares.index(_against(claim, family))
        side = np.array([rejected(each) for each in walks])
        # Beyond a shift that is not rejected none is, so that the rest is an interval.
        self.up = np.logical_and.accumulate(side > 0, axis=2)
        self.down = np.logical_and.accumulate((side < 0)[:, :, ::-1], axis=2)[:, :, ::-1]
        self.p = np.array([each.p for each in walks])

    def word(self, look: int, share: int) -> Word | None:
        """Return the word that a look supports at alpha / `share`, None where it supports none."""
        if look < 0:
            return None
        for_it, against = self.shares.index(share), self.against
        up, down = self.up[..., look], self.down[..., look]
        if self.claim.kind == "greater":
            small = up[:, for_it, 0] & down[:, against, 2]
            if small.all():
                return "equivalent"
            claimed, beyond = up[:, for_it, 1] & ~small, down[:, against, 1]
        elif self.claim.kind == "not worse":
            claimed, beyond = up[:, for_it, 0], down[:, against, 0]
        else:
            claimed = up[:, for_it, 0] & down[:, for_it, 1]
            beyond = down[:, against, 0] | up[:, against, 1]
        if beyond.any():
            return "contradicted"
        return "reproduced" if claimed.all() else None

    def decision(self, word: Word, look: int, share: int) -> Decision:
        if look < 0:
            return Decision(word, 0, share, 1.0, 1.0)
        seeds = self.schedule.looks[look]
        last = self.shares.index(share)
        if self.claim.kind == "greater" and word == "contradicted":
            last = self.against
        adjusted = [
            share * self._p(i, look, seeds) for i, share in enumerate(self.shares[: last + 1])
        ]
        return Decision(word, seeds, share, adjusted[0], min(max(adjusted), 1.0))

    def _p(self, level: int, look: int, seeds: int) -> float:
        """Return the p of the claim: the largest of its contrasts and margins."""
        sides: dict[Kind, list[tuple[int, Literal[1, -1]]]] = {
            "greater": [(1, 1)],
            "not worse": [(0, 1)],
            "equivalent": [(0, 1), (1, -1)],
        }
        largest = 0.0
        for contrast, values in enumerate(self.claim.differences):
            for shift, sign in sides[self.claim.kind]:
                ahead = sign * (values[:seeds].mean() - self.claim.shifts[shift]) > 0
                two_sided = self.claim.kind == "greater" and len(self.claim.differences) == 1
                p = self.p[contrast, level, shift, look] if ahead or two_sided else 1.0
                largest = max(largest, float(p))
        return largest


def chance(
    claim: Evidence, decision: Decision, schedule: Schedule, alpha: float = 0.05, draws: int = 200
) -> float:
    """Return how likely an open claim is to be decided by the schedule's last look.

    Seeds to come are drawn from those that are there: their spread as it is, their mean as
    uncertain as it is (a bootstrap of both). The other claims are taken to stay as they are.
    """
    seen = np.column_stack(claim.differences)[: decision.seeds]
    draw = np.random.default_rng(0)
    residuals = seen - seen.mean(axis=0)
    futures = []
    for _ in range(draws):
        mean = seen[draw.integers(len(seen), size=len(seen))].mean(axis=0)
        more = residuals[draw.integers(len(seen), size=schedule.maximum - len(seen))]
        path = np.vstack([seen, mean + more])
        futures.append([Evidence(claim.kind, claim.smallest_effect, tuple(path.T))])
    decided = judge_studies(futures, schedule, alpha / decision.open, exact=10)
    return sum(found[0].word != "inconclusive" for found in decided) / draws
