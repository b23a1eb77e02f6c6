"""What --dry-run says of studies and claims: what so many seeds can decide, and what it takes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ns_bench.cli.columns import aligned
from ns_bench.cli.prices import time_of
from ns_bench.design.definition import Claim, Design
from ns_bench.design.schedule import ALPHA, Schedule, least_seeds
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import Plan


def claim_lines(design: Design, schedule: Schedule) -> Iterator[str]:
    """Yield a line a claim: decidable, with too few seeds, or not testable and why."""
    rows = []
    for claim in design.claims:
        why = f" ({claim.untestable})" if claim.untestable else ""
        rows.append((_standing(claim, design, schedule), f"{claim.text}{why}"))
    if rows:
        yield from aligned(rows)


def study_lines(
    studies: Sequence[tuple[str, Design, Schedule, Sequence[Recipe]]],
    plan: Plan,
    seconds: Callable[[Recipe], float],
) -> Iterator[str]:
    """Yield a table with a row a study; a run that several share is counted in the row of each.

    Args:
        studies: name, design, schedule and recipes of each.
        seconds: that a run takes.
    """
    missing = {run.id for run in plan.missing}
    rows: list[tuple[str, ...]] = [
        ("study", "arms", "decidable", "too few seeds", "not testable", "runs", "to do", "time")
    ]
    for name, design, schedule, recipes in studies:
        words = Counter(_standing(claim, design, schedule).split()[0] for claim in design.claims)
        runs = {link.id: link for recipe in recipes for link in recipe.generations}
        left = [recipe for run_id, recipe in runs.items() if run_id in missing]
        claims = [str(words[word]) for word in ("decidable", "needs", "not")]
        time = time_of(sum(map(seconds, left)))
        rows.append((name, str(len(design.arms)), *claims, str(len(runs)), str(len(left)), time))
    yield from aligned(rows, numbers=True)


def _standing(claim: Claim, design: Design, schedule: Schedule) -> str:
    """Return in a few words what the seeds of a schedule can say of a claim."""
    if claim.untestable:
        return "not testable"
    claims = sum(not each.untestable for each in design.claims)
    if seeds := schedule.first_decision(ALPHA, claims):
        return f"decidable at {seeds} seeds"
    return f"needs {least_seeds(claims)} seeds, has {schedule.maximum}"
