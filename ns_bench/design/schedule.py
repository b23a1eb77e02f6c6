"""When a study is looked at: stated before any run, by the study or its profile."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ns_bench.errors import UserError

ALPHA = 0.05
"""The error rate of all words on the claims of a study together."""


def least_seeds(claims: int) -> int:
    """Return how many seeds it takes to decide the first of so many claims, at one look.

    With n seeds no p of a sign-flip test is below 2^(1 - n); Holm asks the first for alpha divided
    by their number.
    """
    return 1 + math.ceil(math.log2(claims / ALPHA))


@dataclass(frozen=True)
class Schedule:
    """When a study is looked at, in seeds, and which share of alpha may be spent by each look."""

    looks: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64)
    spending: tuple[float, ...] = (0.16, 0.25, 0.35, 0.5, 0.65, 0.85, 1.0)

    def __post_init__(self) -> None:
        looks, shares = self.looks, self.spending
        if not looks or looks[0] < 1 or any(b <= a for a, b in pairwise(looks)):
            raise UserError(f"looks {_listed(looks)}: expected ascending numbers of seeds")
        if len(shares) != len(looks):
            raise UserError(f"spending {_listed(shares)}: expected {len(looks)} shares, one a look")
        ascends = all(a < b for a, b in pairwise((0.0, *shares)))
        if not ascends or shares[-1] != 1:
            raise UserError(f"spending {_listed(shares)}: expected shares that ascend to 1")

    @classmethod
    def fixed(cls, seeds: int) -> "Schedule":
        """Return the schedule of one look, after a number of seeds that is fixed beforehand."""
        return cls((seeds,), (1.0,))

    @property
    def maximum(self) -> int:
        return self.looks[-1]

    def complete(self, seeds: int) -> int:
        """Return how many looks are over when seeds 0 to `seeds` - 1 are done."""
        return sum(look <= seeds for look in self.looks)

    def require_reach(self, alpha: float, family: int = 1) -> None:
        """Raise UserError if the first look cannot reach alpha, or no look alpha / `family`."""
        if self.first_decision(alpha) != self.looks[0]:
            raise UserError(
                f"looks {_listed(self.looks)}: no result of {self.looks[0]} seeds has a p below "
                f"2^{1 - self.looks[0]} = {2.0 ** (1 - self.looks[0]):.2g}, but the first look may "
                f"spend {alpha * self.spending[0]:.2g}"
            )
        if self.first_decision(alpha, family) is None:
            raise UserError(
                f"looks {_listed(self.looks)}: no result of {self.maximum} seeds has a p below "
                f"{2.0 ** (1 - self.maximum):.2g}, but {family} claims leave each "
                f"{alpha / family:.2g}"
            )

    def first_decision(self, alpha: float, family: int = 1) -> int | None:
        """Return the first look, in seeds, that can decide one of `family` claims, None if none
        can: no p of n seeds is below 2^(1 - n), and by a look its share of alpha may be spent."""
        for seeds, share in zip(self.looks, self.spending, strict=True):
            if 2.0 ** (1 - seeds) <= alpha * share / family:
                return seeds
        return None


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
