"""What differs between two sets of results: verdicts, effects, runs, and fields of recipes.

pandas is imported where it is used: a refusal does not wait for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ns_bench.design.profile import dotted
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe
from ns_bench.verdicts.sources import Source, load_all

if TYPE_CHECKING:
    from ns_bench.verdicts.analysis import Analysis, ClaimResult
    from ns_bench.verdicts.statistics import Interval

INCOMPLETE = "incomplete"
"""In place of a verdict where seeds are missing: there is none before all are in."""


@dataclass(frozen=True)
class Change:
    """A claim in A and in B, of which one may not have it.

    Attributes:
        where: the profile, or both.
        words: the verdicts; None where there is no such claim.
        effects: A's and B's on the contrast that is compared; None where either has no data.
        difference: B's effect minus A's.
        how: how the difference was made.
    """

    study: str
    where: str
    claim: str
    words: tuple[str | None, str | None]
    effects: "tuple[Interval, Interval] | None" = None
    difference: "Interval | None" = None
    how: str = ""

    @property
    def changed(self) -> bool:
        """Whether B says otherwise than A, or nothing any more; what is new in B is no change."""
        return self.words[0] not in (None, INCOMPLETE) and self.words[0] != self.words[1]

    @property
    def state(self) -> str:
        if None in self.words:
            return "only in B" if self.words[0] is None else "only in A"
        return "changed" if self.changed else "same"


@dataclass(frozen=True)
class Fields:
    """A recipe field in which runs of one arm and seed differ, with its values in A and in B."""

    study: str
    where: str
    field: str
    values: tuple[str, str]
    arms: str


@dataclass(frozen=True)
class Only:
    """Finished runs (arm and seed) of a study that just one side has."""

    study: str
    where: str
    runs: tuple[list[str], list[str]]


@dataclass(frozen=True)
class Comparison:
    a: Path
    b: Path
    commits: tuple[str, str]
    changes: list[Change]
    only: list[Only]
    fields: list[Fields]
    unknown: int
    """Runs of another id on the other side, of which one recipe is not there to be read."""

    @property
    def common(self) -> list[Change]:
        """The claims that both sides have."""
        return [change for change in self.changes if None not in change.words]

    def alone(self, side: int) -> list[Change]:
        """Return the claims that only A (0) or only B (1) has."""
        return [change for change in self.changes if change.words[1 - side] is None]

    def runs(self, side: int) -> list[str]:
        """Return the runs that only A (0) or only B (1) has; studies may share some."""
        return list(dict.fromkeys(run for only in self.only for run in only.runs[side]))

    @property
    def changed(self) -> list[Change]:
        return [change for change in self.changes if change.changed]


def compare(
    first: Source, second: Source, names: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> Comparison:
    """Compare every study that either has: `first` (A) in the first profile of each pair.

    Raises:
        UserError: there is no study that both have.
    """
    profile_names = list(dict.fromkeys(chain.from_iterable(pairs)))
    studies, loaded = load_all(names, profile_names)
    profiles = dict(zip(profile_names, loaded, strict=True))
    changes: list[Change] = []
    only: list[Only] = []
    fields: list[Fields] = []
    unknown, common = 0, 0
    commits: tuple[set[str], set[str]] = (set(), set())
    for study in studies:
        for p, q in pairs:
            x, y = first.analysis(study, profiles[p]), second.analysis(study, profiles[q])
            where = p if p == q else f"{p} | {q}"
            for side, analysis in zip(commits, (x, y), strict=True):
                if analysis is not None and "git" in analysis.runs:
                    side.update(set(analysis.runs["git"].astype(str)) - {""})
            changes += _claims(study.name, where, x, y)
            only += _runs(study.name, where, x, y)
            if x is not None and y is not None:
                common += 1
                differing, unread = _recipes(study.name, where, (first, x), (second, y))
                fields += differing
                unknown += unread
    if not common:
        raise UserError(f"{first.root} and {second.root} have results of no study in common")
    in_a, in_b = (", ".join(sorted(commit[:12] for commit in side)) for side in commits)
    return Comparison(first.root, second.root, (in_a, in_b), changes, only, fields, unknown)


def _claims(
    study: str, where: str, first: "Analysis | None", second: "Analysis | None"
) -> list[Change]:
    sides = [
        {key: (analysis, result) for key, result in analysis.by_text.items()} if analysis else {}
        for analysis in (first, second)
    ]
    changes = []
    for key in dict.fromkeys(chain(*sides)):
        x, y = (side.get(key) for side in sides)
        words = (_word(*x) if x else None, _word(*y) if y else None)
        change = Change(study, where, key[0], words)
        changes.append(_with_difference(change, x, y) if x and y else change)
    return changes


def _word(analysis: "Analysis", result: "ClaimResult") -> str:
    missing = result.claim.contrasts and result.n < analysis.asked(result)
    return INCOMPLETE if missing else analysis.word(result)


def _with_difference(
    change: Change, first: "tuple[Analysis, ClaimResult]", second: "tuple[Analysis, ClaimResult]"
) -> Change:
    """Return the change with both effects, and B's minus A's with its interval.

    Of a claim about several contrasts the one that B shows, its weakest, is compared.
    """
    from ns_bench.verdicts.analysis import by_seed
    from ns_bench.verdicts.statistics import mean_interval, unpaired_difference

    contrasts = [
        by_seed(result.claim, analysis.values(result.claim.metric))
        for analysis, result in (first, second)
    ]
    which = second[1].verdict.shown
    if any(len(values) <= which for values in contrasts):
        return change
    x, y = (values[which] for values in contrasts)
    where = f", {second[1].label}" if second[1].label else ""
    shared = x.index.intersection(y.index)
    if len(shared) > 1:
        difference = mean_interval(y[shared] - x[shared])
        how = f"paired by {len(shared)} seeds{where}"
    else:
        difference = unpaired_difference(y, x)
        how = f"not paired, {len(x)} and {len(y)} seeds{where}"
    effects = (mean_interval(x), mean_interval(y))
    return replace(change, effects=effects, difference=difference, how=how)


def _done(analysis: "Analysis | None") -> dict[tuple[str, int], str]:
    """Return {(arm, seed): run} of what is done."""
    if analysis is None:
        return {}
    rows = analysis.runs[(analysis.runs["arm"] != "") & (analysis.runs["state"] == "done")]
    return {(arm, int(s)): run for arm, s, run in rows[["arm", "seed", "run"]].to_numpy()}


def _runs(
    study: str, where: str, first: "Analysis | None", second: "Analysis | None"
) -> list[Only]:
    x, y = _done(first), _done(second)
    missing = (
        [run for key, run in x.items() if key not in y],
        [run for key, run in y.items() if key not in x],
    )
    return [Only(study, where, missing)] if any(missing) else []


def _recipes(
    study: str, where: str, first: tuple[Source, "Analysis"], second: tuple[Source, "Analysis"]
) -> tuple[list[Fields], int]:
    """Return the fields in which runs of one arm and seed differ, and how many are not readable."""
    x, y = _done(first[1]), _done(second[1])
    shared = x.keys() & y.keys()
    designs = [
        {arm.name: arm.recipe for arm in analysis.study.in_profile(analysis.profile).arms}
        for _, analysis in (first, second)
    ]
    arms: dict[tuple[str, str, str], set[str]] = {}
    unread = 0
    for key in shared:
        if x[key] == y[key]:
            continue
        recipe = _recipe(first[0], designs[0], key, x[key])
        other = _recipe(second[0], designs[1], key, y[key])
        if recipe is None or other is None:
            unread += 1
            continue
        for field in recipe | other:
            values = (recipe.get(field, "none"), other.get(field, "none"))
            if values[0] != values[1]:
                arms.setdefault((field, *values), set()).add(key[0])
    every = {arm for arm, _ in shared}
    fields = [
        Fields(study, where, field, (v, w), "all" if some == every else ", ".join(sorted(some)))
        for (field, v, w), some in sorted(arms.items(), key=lambda item: item[0])
    ]
    return fields, unread


def _recipe(
    source: Source, design: Mapping[str, Recipe], key: tuple[str, int], run_id: str
) -> dict[str, str] | None:
    """Return a run's recipe as {dotted field: value}: as it was stored, or as the study has it."""
    stored = source.recipe(run_id)
    if stored is None:
        recipe = design[key[0]].at_seed(key[1])
        stored = recipe.to_dict() if recipe.id == run_id else None
    return None if stored is None else {name: str(v) for name, v in dotted(stored).items()}
