"""When a study is looked at: stated before any run, by the study or its profile."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ns_bench.errors import UserError


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
        least = [2.0 ** (1 - n) for n in self.looks]
        if least[0] > alpha * self.spending[0]:
            raise UserError(
                f"looks {_listed(self.looks)}: no result of {self.looks[0]} seeds has a p below "
                f"2^{1 - self.looks[0]} = {least[0]:.2g}, but the first look may spend "
                f"{alpha * self.spending[0]:.2g}"
            )
        budgets = [alpha * share / family for share in self.spending]
        if all(p > budget for p, budget in zip(least, budgets, strict=True)):
            raise UserError(
                f"looks {_listed(self.looks)}: no result of {self.maximum} seeds has a p below "
                f"{least[-1]:.2g}, but {family} claims leave each {budgets[-1]:.2g}"
            )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
