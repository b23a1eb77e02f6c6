"""What each arm is: its networks, and the fields of the recipe in which arms differ."""

from collections.abc import Iterable
from typing import Any

from ns_bench.fields import declared
from ns_bench.recipe import Recipe, idle_fields
from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING
from ns_bench.verdicts.analysis import Analysis

_SHOWN_APART = ("seed", "model")


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return a table of the arms, and what all runs that use a field have in common."""
    tuned = analysis.tuning
    design = tuned.tuned.design if tuned else analysis.study.in_profile(analysis.profile)
    arms = {arm.name: arm.recipe for arm in design.arms}
    values: dict[str, list[Any]] = {}
    links = [link for recipe in arms.values() for link in recipe.generations]
    # A field that no run has set is left out, so that one that is new changes no old page.
    said = [name for name in declared(Recipe) if any(name in link.explicit for link in links)]
    for link in links:
        for name, value in _used(link, said).items():
            if value not in values.setdefault(name, []):
                values[name].append(value)
    differing = [name for name, found in values.items() if len(found) > 1]
    shared = {name: found[0] for name, found in values.items() if len(found) == 1}
    return [
        b.Heading("Recipes"),
        b.tabulate(
            "Recipes",
            arms.items(),
            ("arm", lambda item: item[0]),
            ("networks, the first teacher's first", lambda item: _networks(item[1])),
            ("where arms or their teachers differ", lambda item: _own(item[1], differing)),
        ),
        b.Details(
            "What they share, in the runs that use it; the rest is at its default",
            [b.Code("\n".join(f"{name} = {value}" for name, value in shared.items()))],
        ),
    ]


def _used(recipe: Recipe, names: Iterable[str]) -> dict[str, Any]:
    idle = {*idle_fields(recipe), *_SHOWN_APART}
    return {name: recipe.field(name) for name in names if name not in idle}


def _networks(recipe: Recipe) -> str:
    return ", then ".join(link.model for link in recipe.generations)


def _own(recipe: Recipe, differing: Iterable[str]) -> str:
    used = _used(recipe, differing)
    return ", ".join(f"{name} = {value}" for name, value in used.items()) or MISSING
