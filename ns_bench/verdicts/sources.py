"""Where results come from: a store of runs, or the tidy tables that a report was made of."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ns_bench.arguments import option, positional
from ns_bench.errors import UserError
from ns_bench.robustness import groups

if TYPE_CHECKING:  # --help of a report needs the options alone
    import pandas as pd

    from ns_bench.design.definition import Study
    from ns_bench.design.profile import Profile
    from ns_bench.verdicts.analysis import Analysis

TRIAL = "smoke"
"""The profile that is reported only where it is asked for."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Which results a command is asked for, and where they are read from."""

    study: str = positional("a study, `all`, or a file that defines one")
    profile: tuple[str, ...] = option(
        "or a TOML file with a profile of your own; may be given several times (default: all with "
        f"results but {TRIAL})",
        default=(),
        metavar="PROFILE",
    )
    runs: Path = option("store (default: runs)", default=Path("runs"), type=Path, metavar="DIR")
    tables: Path | None = option(
        "published results instead of a store: folders STUDY-PROFILE with runs.csv",
        flag="--from",
        type=Path,
        metavar="DIR",
    )

    @property
    def folder(self) -> Path:
        return self.tables or self.runs


def folder_name(study: "Study", profile: "Profile") -> str:
    """Return the name of the folder that a study's report in a profile is in."""
    return f"{study.name}-{profile.name}"


def usual_profiles() -> list[str]:
    from ns_bench.design.profile import profile_names

    return [name for name in profile_names() if name != TRIAL]


def from_store(
    study: "Study",
    profile: "Profile",
    root: Path,
    *,
    empty: bool = False,
    changed: dict[str, str] | None = None,
) -> "Analysis | None":
    """Analyse a study's runs in a store; None if none is done or failed, unless `empty`.

    Args:
        changed: {recipe field: value} that --set said, which are in `profile`.
    """
    from ns_bench.runs.plan import make_plan
    from ns_bench.runs.store import Store
    from ns_bench.verdicts import looks
    from ns_bench.verdicts.analysis import analyse
    from ns_bench.verdicts.table import collect

    design, store = study.in_profile(profile), Store(root, read_only=True)
    if lines := looks.scheduled(root, study, profile, changed or {}):
        last = max(line["look"] for line in lines)
        measured = groups(study.metrics)
        standing = looks.follow(study, profile, design, store, measured, last, changed)
        if standing.path:
            return looks.with_record(standing.path[-1], design, store)
    seeds = study.seeds.get(profile.name, profile.seeds)
    recipes = design.recipes(range(seeds)).values()
    wanted = {recipe.id: groups(study.metrics) for recipe in recipes}
    plan = make_plan(store, recipes, wanted)
    if not empty and not plan.counts().keys() & {"done", "unmeasured", "failed"}:
        return None
    runs, curves = collect(design, plan, seeds)
    analysis = analyse(study, profile, design, runs, curves, seeds, changed)
    return looks.with_record(analysis, design, store)


def from_tables(study: "Study", profile: "Profile", root: Path) -> "Analysis | None":
    """Analyse a study's published tables; None if there is no folder of it."""
    from ns_bench.verdicts import record
    from ns_bench.verdicts.analysis import analyse
    from ns_bench.verdicts.table import read

    folder = root / folder_name(study, profile)
    if not folder.is_dir():
        return None
    runs, curves = read(folder)
    design, held = study.in_profile(profile), int(runs["seed"].max()) + 1
    if protocol := record.read(folder):
        schedule, known = protocol
        fixed = len(schedule.looks) == 1
        seeds = max(schedule.maximum, held) if fixed else held
        _require_whole(folder, runs, seeds if fixed else 0)
        analysis = analyse(study, profile, design, runs, curves, seeds, None, schedule)
        return replace(analysis, record=known)
    seeds = max(study.seeds.get(profile.name, profile.seeds), held)
    _require_whole(folder, runs, held)
    analysis = analyse(study, profile, design, runs, curves, seeds)
    return replace(analysis, record=record.Record(stated=record.stated(study, runs)))


def _require_whole(folder: Path, runs: "pd.DataFrame", seeds: int) -> None:
    """Refuse a table without a row of an arm at each of so many seeds, or up to the arm's last."""
    for arm, rows in runs[runs["arm"] != ""].groupby("arm", sort=False):
        found = {int(seed) for seed in rows["seed"]}
        if lacking := set(range(max(seeds, 1 + max(found)))) - found:
            raise UserError(
                f"{folder / 'runs.csv'}: it has no row of arm '{arm}' at seed {min(lacking)}; a "
                "report writes one whether a run is done or not, so rows have been cut"
            )


@dataclass(frozen=True)
class Source:
    """A folder of results, whichever kind it is.

    A store may hold runs that today's studies do not ask for, made with --set or by another
    version: where it has none that they do ask for, the tables of its own reports count.
    """

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise UserError(f"{self.root}: there is no such folder to read results from")
        if not self.is_store and not any(self.root.glob("*/runs.csv")):
            raise UserError(
                f"{self.root}: neither a store of runs (store.json) nor a folder of published "
                "results (STUDY-PROFILE/runs.csv)"
            )

    @property
    def is_store(self) -> bool:
        return (self.root / "store.json").is_file()

    def analysis(self, study: "Study", profile: "Profile") -> "Analysis | None":
        if not self.is_store:
            return from_tables(study, profile, self.root)
        analysis = from_store(study, profile, self.root)
        return analysis or from_tables(study, profile, self.root / "reports")

    def recipe(self, run_id: str) -> dict[str, Any] | None:
        """Return a run's recipe as plain data, or None where there is none to be read."""
        if not self.is_store or Path(run_id).name != run_id:
            return None
        try:
            recipe = json.loads((self.root / run_id / "recipe.json").read_bytes())
        except (OSError, ValueError):
            return None
        return recipe if isinstance(recipe, dict) else None


def load_all(
    names: Iterable[str], profiles: Iterable[str], changed: dict[str, str] | None = None
) -> "tuple[list[Study], list[Profile]]":
    """Load studies and profiles by name; `changed` are recipe fields set in all of them.

    Raises:
        UserError: one of them is not known.
    """
    from ns_bench.design.definition import load_study
    from ns_bench.design.profile import load_profile

    return [load_study(name) for name in names], [load_profile(name, changed) for name in profiles]


def analyses_of(
    options: SourceOptions, *, empty: bool = False, changed: dict[str, str] | None = None
) -> "list[Analysis]":
    """Analyse whatever there is of the studies and profiles that the options name.

    Args:
        empty: whether a study of which nothing is done yet counts, in profiles that are asked for.
        changed: {recipe field: value} as --set has them; not of tables.

    Raises:
        UserError: there is nothing, or nothing in a profile that was asked for.
    """
    from ns_bench.design.definition import study_names

    names = study_names() if options.study == "all" else [options.study]
    wanted = dict.fromkeys(options.profile or usual_profiles())
    studies, profiles = load_all(names, wanted, changed)
    if not options.folder.is_dir():
        raise UserError(f"{options.folder}: there is no such folder to read results from")
    empty = empty and bool(options.profile)
    sought = [
        from_tables(study, profile, options.tables)
        if options.tables
        else from_store(study, profile, options.runs, empty=empty, changed=changed)
        for study in studies
        for profile in profiles
    ]
    analyses = [analysis for analysis in sought if analysis is not None]
    there = {analysis.profile.name for analysis in analyses}
    for name in options.profile or ([] if there else [" or ".join(usual_profiles())]):
        if Path(name).name.removesuffix(".toml") not in there:
            raise UserError(f"{options.folder}: no results of {options.study} in profile {name}")
    return analyses
