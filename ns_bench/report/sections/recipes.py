"""What each arm is: its data, its networks, the fields of the recipe in which arms differ, and when
it was made and its claims were stated."""

from collections.abc import Iterable, Mapping
from typing import Any

from ns_bench.data.catalog import describe
from ns_bench.design.cost import network, shape_of
from ns_bench.fields import declared
from ns_bench.recipe import Recipe, idle_fields
from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING
from ns_bench.report.sections import methods
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
        b.Items([_data(arms, differing), *_made(analysis), *methods.stated(analysis)]),
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


def _data(arms: Mapping[str, Recipe], differing: Iterable[str]) -> str:
    """Return the data of the first arm, which others share or the table says how they do not."""
    name, recipe = next(iter(arms.items()))
    data, known = recipe.data, describe(recipe.data)
    others = any(field.startswith("data.") for field in differing)
    return (
        f"Data: {data.name}, images of {known.side} x {known.side} pixels in {known.classes} "
        f"classes; {data.labeled:,} labels, {data.validation:,} validation and {data.test:,} test "
        f"rows, {known.pool:,} images in the pool"
        + (f" ({name}; others differ as the table says)." if others else ".")
    )


def _made(analysis: Analysis) -> list[str]:
    """Return when and at which commit the runs were made; old tables do not know the day."""
    done = analysis.runs[analysis.runs["test_top1"].notna()]
    days = sorted({time[:10] for time in done.get("time", ())} - {""})
    commits = sorted({str(commit)[:12] for commit in done.get("git", ())} - {"", "None"})
    if not commits:
        return []
    when = f"{' to '.join(dict.fromkeys([days[0], days[-1]]))}, at" if days else "at"
    more = f" and {len(commits) - 3} more" if len(commits) > 3 else ""
    which = f"commit{'s' * (len(commits) > 1)} {', '.join(commits[:3])}{more}"
    return [f"Runs made {when} {which}."]


def _used(recipe: Recipe, names: Iterable[str]) -> dict[str, Any]:
    idle = {*idle_fields(recipe), *_SHOWN_APART}
    return {name: recipe.field(name) for name in names if name not in idle}


def _networks(recipe: Recipe) -> str:
    return ", then ".join(map(_network, recipe.generations))


def _network(recipe: Recipe) -> str:
    """Return a network with its parameters, where they were counted."""
    counted = network(shape_of(recipe))
    return recipe.model + (f" ({counted.parameters:,} parameters)" if counted else "")


def _own(recipe: Recipe, differing: Iterable[str]) -> str:
    used = _used(recipe, differing)
    return ", ".join(f"{name} = {value}" for name, value in used.items()) or MISSING
