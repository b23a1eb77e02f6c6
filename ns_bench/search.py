"""`python -m ns_bench.search STUDY`: tune the recipes of a study's arms, each with equal chances.

Trials are scored by validation top-1 of the last averaged weights, mean over tuning seeds (1000,
1001, ...): never on test rows, never at reporting seeds. Calling it again goes on where it was.
Exit codes: 0 every search is finished, 1 all trials of one failed, 2 bad input, 130 Ctrl-C.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ns_bench.data import catalog
from ns_bench.definition import Profile, load_profile, load_study, study_names
from ns_bench.errors import UserError, unknown
from ns_bench.execute.cluster import load_cluster
from ns_bench.plan import make_plan
from ns_bench.recipe import Recipe
from ns_bench.store import Store
from ns_bench.study import _assignments, _count, _execute
from ns_bench.tuning.space import for_arm, load_space, read_space, varied_fields
from ns_bench.tuning.trials import SAMPLERS, Search, Standing, best_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _search(options)
    except (UserError, OSError) as error:
        print(f"ns_bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nns_bench: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.search",
        description="Tune the recipes of a study's arms on validation rows of tuning seeds.",
    )
    add = parser.add_argument
    add("study", help="a study, or a file that defines one")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--arm", metavar="ARM", help="tune one arm (default: the baseline)")
    which.add_argument("--per-arm", action="store_true", help="tune every arm alike")
    add("--trials", type=_count, default=20, metavar="N", help="trials an arm (default: 20)")
    add(
        "--hours", type=float, metavar="H", help="ask for no more after H hours"
    )
    add("--gpu-hours", type=float, metavar="H", help="nor after H hours of training, all in all")
    add("--profile", default="digits", help="scale at which to run (default: digits)")
    add("--space", type=Path, metavar="FILE", help="fields and ranges (default: the profile's)")
    add("--sampler", choices=SAMPLERS, default="tpe", help="default: tpe")
    add("--sampler-seed", type=int, default=0, metavar="N", help="of the sampler (default: 0)")
    add("--tuning-seeds", type=_count, default=4, metavar="K", help="seeds a trial (default: 4)")
    add(
        "--batch", type=_count, default=4, metavar="B", help="trials asked for at once (4)"
    )
    add("--no-pruning", action="store_true", help="run every trial at every seed")
    add("--storage", metavar="URL", help="mirror the trials to this Optuna storage")
    add("--cluster", default="local", help="local (default), or a file slurm/NAME.toml")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", dest="assignments")
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="store (default: runs)")
    add("--out", type=Path, metavar="DIR", help="folder of reports (default: in the store)")
    add("--workers", type=_count, metavar="N", help="processes (default: one a GPU, or a core)")
    add("--hang-seconds", type=_count, default=600, metavar="S", help="kill a silent run after S")
    return parser


def searches_of(options: argparse.Namespace, store: Store, profile: Profile) -> list[Search]:
    """Return the searches that the options ask for, one an arm.

    Raises:
        UserError: unknown study, arm or field, a bad range, an arm with nothing to tune.
    """
    study = load_study(options.study)
    design = study.design(profile)
    names = [arm.name for arm in design.arms]
    chosen = names if options.per_arm else [options.arm or design.baseline]
    if options.space:
        space = read_space(options.space)
    else:
        space = load_space(profile.space, f"profile '{profile.name}'")
    varied = varied_fields([arm.recipe for arm in design.arms])
    searches = []
    for name in chosen:
        if name not in names:
            raise unknown("arm", name, names)
        arm = next(arm for arm in design.arms if arm.name == name)
        catalog.check(arm.recipe)
        dimensions, left = for_arm(space, arm.recipe, varied)
        for field, why in left.items():
            print(f"{name}: {field} is left as it is: {why}")
        searches.append(
            Search(
                store=store,
                study=study.name,
                profile=profile.name,
                arm=name,
                recipe=arm.recipe,
                space=tuple(dimensions),
                sampler=options.sampler,
                seed=options.sampler_seed,
                seeds=options.tuning_seeds,
                batch=options.batch,
                prune=not options.no_pruning,
            )
        )
    return searches


@dataclass
class Budget:
    """When to ask for no more trials."""

    trials: int
    hours: float | None
    training_hours: float | None
    began: float

    def left(self, standings: Sequence[Standing]) -> int:
        """Return how many more trials an arm may have."""
        if self.hours is not None and time.monotonic() - self.began > 3600 * self.hours:
            return 0
        spent = sum(standing.seconds for standing in standings) / 3600
        if self.training_hours is not None and spent > self.training_hours:
            return 0
        return max(self.trials - len(standings), 0)


def _search(options: argparse.Namespace) -> int:
    if options.study == "all":
        raise UserError(f"a search is of one study: one of {', '.join(study_names())}")
    cluster = None if options.cluster == "local" else load_cluster(options.cluster)
    profile = load_profile(options.profile, _assignments(options.assignments))
    store = Store(options.runs)
    searches = searches_of(options, store, profile)
    budget = Budget(options.trials, options.hours, options.gpu_hours, time.monotonic())
    title = f"search {options.study} · {profile.name}"
    while wanted := [recipe for search in searches for recipe in advance(search, budget)]:
        plan = make_plan(store, wanted)
        if cluster is None:
            _execute(options, f"{title} · {progress(searches)}", profile, plan)
        else:
            raise UserError("--cluster is not there yet for a search")
    return _finish(options, searches, profile)


def advance(search: Search, budget: Budget) -> list[Recipe]:
    """Return the runs that a search needs next, asking for trials as needed; none at its end."""
    while True:
        standings = search.standings(search.trials())
        wanted = [recipe for standing in standings for recipe in standing.wanted]
        if wanted:
            return wanted
        left = budget.left(standings)
        if not left:
            return []
        search.ask(standings, left)


def progress(searches: Sequence[Search]) -> str:
    """Return one line: trials by state, and the best score so far."""
    standings = [s for search in searches for s in search.standings(search.trials())]
    counts = Counter(standing.state for standing in standings)
    best = best_of(standings)
    said = ", ".join(f"{n} {state}" for state, n in counts.items())
    return said + (f", best {best.value:.2f} %" if best else "")


def _finish(options: argparse.Namespace, searches: Sequence[Search], profile: Profile) -> int:
    from ns_bench.report.search import write_search

    code = 0
    for search in searches:
        standings = search.standings(search.trials())
        folder = (options.out or options.runs / "reports") / f"search-{search.id}"
        page = write_search(search, standings, folder)
        best = best_of(standings)
        print(f"{search.arm}: {progress([search])}")
        if best is None:
            first = next((s.reason for s in standings if s.reason), "")
            print(f"ns_bench: every trial of '{search.arm}' failed: {first}", file=sys.stderr)
            code = 1
        print(f"report: {page}")
        if options.storage:
            from ns_bench.tuning.mirror import mirror

            mirror(search, standings, options.storage)
    return code


if __name__ == "__main__":
    sys.exit(main())
