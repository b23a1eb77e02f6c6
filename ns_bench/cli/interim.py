"""What a study shows long before its end: a first table, and its first verdict."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ns_bench.design.definition import Design
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import Plan, makespan

COST = 1.03
"""What the time of a whole study may be multiplied by."""


def first_runs(
    design: Design,
    recipes: dict[tuple[str, int], Recipe],
    plan: Plan,
    seconds: Callable[[Recipe], float],
    workers: int,
) -> list[set[str]]:
    """Return ids of missing runs to begin with: those of every arm's first seed, then those of the
    claim that needs the least time; as far as the whole takes no more than `COST` longer."""
    missing = {run.id: seconds(run.recipe) for run in plan.missing}

    def needed(wanted: Iterable[Recipe]) -> set[str]:
        return {link.id for recipe in wanted for link in recipe.generations} & missing.keys()

    least = min((seed for _, seed in recipes), default=0)
    groups = [needed(recipe for (_, seed), recipe in recipes.items() if seed == least)]
    by_claim = [
        needed(recipe for (arm, _), recipe in recipes.items() if arm in claim.arms) - groups[0]
        for claim in design.claims
        if not claim.untestable
    ]
    if by_claim := list(filter(None, by_claim)):
        groups.append(min(by_claim, key=lambda ids: sum(missing[run_id] for run_id in ids)))
    longest = COST * makespan(plan.missing, seconds, workers)
    while groups and makespan(plan.missing, seconds, workers, groups) > longest:
        groups.pop()
    return list(filter(None, groups))  # of seeds that are done there is nothing to begin with


@dataclass
class Interim:
    """Calls `show` once a group of runs is done, as long as there is more to do then."""

    groups: list[set[str]]
    plan: Plan
    show: Callable[[], None]
    done: int = 0

    def look(self, done: int) -> None:
        """See whether the next group is done, after as many runs as `done` have ended."""
        if done == self.done or not self.groups:
            return
        self.done = done
        if all(self.plan.runs[run_id].state() == "done" for run_id in self.groups[0]):
            self.groups.pop(0)
            if done < len(self.plan.missing):
                self.show()
