"""`python -m ns_bench.study NAME`: plan, do what is missing, show the table, write the report.

Calling it twice costs nothing; killing it loses seconds. Exit codes: 0 all runs done, 1 a run
failed (or is below a failed one), 2 bad input or an unusable store, 130 stopped by Ctrl-C.
"""

import argparse
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ns_bench.data import catalog
from ns_bench.design import cost
from ns_bench.design.definition import TUNING_SEEDS, Design, Study, load_study, study_names
from ns_bench.design.profile import Profile, dotted, load_profile, profile_names
from ns_bench.errors import UserError, at_least_one, exit_code, unknown
from ns_bench.execute.execution import Execution, add_execution
from ns_bench.execute.slurm.cluster import load_cluster
from ns_bench.files import Corrupt
from ns_bench.recipe import NO_FILES, Recipe
from ns_bench.robustness import GROUPS, groups
from ns_bench.runs.plan import Plan, Wanted, make_plan
from ns_bench.runs.store import Store

if TYPE_CHECKING:
    from ns_bench.tuning.tuned_arms import Tuned


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _run(options), "stopped; the same command goes on from here")


def _run(options: argparse.Namespace) -> int:
    if options.list:
        return _list()
    if not options.study:
        raise UserError(f"which study? One of {', '.join(study_names())} (or --list)")
    return _reconcile(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.study",
        description="Run a study: plan, do what is missing, show the table, write the report.",
    )
    add = parser.add_argument
    add("study", nargs="?", help="a study (see --list), `all`, or a file that defines one")
    add("--list", action="store_true", help="list studies and profiles")
    add("--seeds", type=at_least_one, metavar="N", help="seeds 0 to N-1 (default: the profile's)")
    add(
        "--pilot",
        type=at_least_one,
        metavar="K",
        help="run K tuning seeds: how many do claims need?",
    )
    add(
        "--metrics",
        default="",
        metavar="GROUPS",
        help=f"measure the networks of all arms, too: {','.join(GROUPS)}",
    )
    add("--recipe", type=Path, metavar="FILE", help="fields from a TOML file, as --set would")
    add(
        "--tuned",
        nargs="?",
        const="",
        metavar="SEARCH",
        help="each arm with the best recipe of its search, beside the study as it is",
    )
    add_run_options(parser)
    mode = parser.add_mutually_exclusive_group()
    flag = mode.add_argument
    flag("--dry-run", action="store_true", help="show runs, dependencies and cost; do nothing")
    flag("--retry-failed", action="store_true", help="do failed runs again, too")
    flag("--force", metavar="RUN", help="do this finished run again")
    flag("--read-only", action="store_true", help="train nothing: report what the store has")
    flag("--status", action="store_true", help="SLURM: where every run stands")
    flag("--cancel", action="store_true", help="SLURM: cancel what is still queued of the study")
    flag("--logs", metavar="RUN", help="SLURM: print the log of a run's last job")
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that trains takes: at which scale, where, and by what."""
    add = parser.add_argument
    add(
        "--profile",
        default="digits",
        help="scale at which to run (default: digits), or a TOML file with a profile of your own",
    )
    add("--cluster", default="local", help="local (default), or a file slurm/NAME.toml")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", dest="assignments")
    add(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a local copy of a data set (save_to_disk, parquet, or SPLIT/CLASS/image.png)",
    )
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="store (default: runs)")
    add("--out", type=Path, metavar="DIR", help="folder of reports (default: in the store)")
    add(
        "--workers",
        type=at_least_one,
        metavar="N",
        help="processes (default: one a GPU, or a core)",
    )
    add(
        "--hang-seconds",
        type=at_least_one,
        default=600,
        metavar="S",
        help="kill a silent run after S",
    )
    add_execution(parser)


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (_, equals, value) in zip(texts, pairs, strict=True):
        if not equals or not value:
            raise UserError(f"--set {text}: expected FIELD=VALUE, for example train.lr=0.1")
    return {field.strip(): value.strip() for field, _, value in pairs}


def parse_paths(texts: Sequence[str], profile: Profile) -> dict[str, str]:
    """Return {data set: where its files are} of a profile and of `--data`, which goes first.

    Raises:
        UserError: --data is not NAME=PATH, or of a set that the profile does not use.
    """
    data = Recipe.of(profile.fields).data
    used, pools = data.name, {data.source, profile.other_pool} - {"", *NO_FILES}
    known = [*catalog.sources_of(data), *sorted(pools)]
    paths = dict(profile.paths)
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UserError(f"--data {text}: expected NAME=PATH, for example {used}=data/{used}")
        if not known:
            raise UserError(f"--data {text}: '{used}' of profile '{profile.name}' has no files")
        if name not in known:
            raise unknown(f"data set of profile '{profile.name}'", name, known)
        if not Path(path).expanduser().is_dir():
            raise UserError(f"--data {text}: there is no such folder")
        paths[name] = path
    return paths


def read_recipe(path: Path | None) -> dict[str, Any]:
    """Return {field: value} of a TOML file of recipe fields; {} without one."""
    if path is None:
        return {}
    try:
        return dotted(tomllib.loads(path.read_text()))
    except OSError as error:
        raise UserError(f"--recipe {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--recipe {path} is not TOML: {error}") from None


def _list() -> int:
    print("studies:")
    for name in study_names():
        print(f"  {name:<20} {load_study(name).question}")
    print("profiles:")
    for name in profile_names():
        profile = load_profile(name)
        ladder = ", ".join(f"{rung} = {model}" for rung, model in profile.ladder.items())
        print(f"  {name:<20} {profile.title}; {profile.seeds} seeds; {ladder}")
    return 0


@dataclass(frozen=True)
class _Item:
    """A study in the chosen profile, with its recipes by arm and seed."""

    study: Study
    design: Design
    recipes: dict[tuple[str, int], Recipe]
    seeds: int
    metrics: tuple[str, ...]
    tuned: "Tuned | None" = None

    @property
    def every(self) -> list[Recipe]:
        """Recipes of the report: with --tuned those of the study as it is, too."""
        before = self.tuned.before.recipes(range(self.seeds)) if self.tuned else {}
        return [*self.recipes.values(), *before.values()]


def _reconcile(options: argparse.Namespace) -> int:
    execution = Execution(options.compile, options.accumulate)
    cluster = None if options.cluster == "local" else load_cluster(options.cluster).using(execution)
    assignments = {**read_recipe(options.recipe), **parse_assignments(options.assignments)}
    if options.pilot and options.tuned is not None:
        raise UserError("--pilot is of the study as it is: --tuned has no place beside it")
    if (options.seeds or 0) > TUNING_SEEDS:
        raise UserError(f"--seeds {options.seeds}: seeds from {TUNING_SEEDS} on are for tuning")
    profile = load_profile(options.profile, assignments)
    paths = parse_paths(options.data, profile)
    metrics = groups(filter(None, map(str.strip, options.metrics.split(","))))
    if options.read_only and not options.runs.is_dir():
        raise UserError(f"store {options.runs}: there is no such folder to read from")
    looks_only = options.dry_run or options.read_only or options.status or options.logs
    store = Store(options.runs, read_only=bool(looks_only))
    items = []
    for name in study_names() if options.study == "all" else [options.study]:
        study = load_study(name)
        design = study.design(profile)
        for arm in design.arms:
            catalog.check(arm.recipe)
        seeds = options.seeds or study.seeds.get(profile.name, profile.seeds)
        asked = range(TUNING_SEEDS, TUNING_SEEDS + options.pilot) if options.pilot else range(seeds)
        found = None
        if options.tuned is not None:
            from ns_bench.tuning.tuned_arms import tuned

            found = tuned(study, profile, design, store, options.tuned)
            design = found.design
        mine = groups([*study.metrics, *metrics])
        items.append(_Item(study, design, design.recipes(asked), seeds, mine, found))
    recipes = [recipe for item in items for recipe in item.every]
    wanted = _wanted(items)
    plan = make_plan(store, recipes, wanted)
    title = f"{options.study} · {profile.name}"
    if options.dry_run:
        _show_plan(title, profile, plan, items)
        if cluster is not None:
            from ns_bench.cli import slurm

            slurm.show_scripts(store, plan, profile, cluster)
        return 0
    if options.status or options.cancel or options.logs:
        from ns_bench.cli import slurm

        return slurm.ask(options, store, plan, title)
    if not options.read_only:
        _prepare(options, store, plan)
        plan = make_plan(store, recipes, wanted)
        if plan.missing:
            find_data([run.recipe for run in plan.missing], options.runs, paths)
        if plan.missing and cluster is None:
            _execute(options, title, profile, plan)
        elif cluster is not None:
            from ns_bench.cli import slurm

            waiting = slurm.reconcile(options, store, recipes, profile, cluster, title, wanted)
            if waiting is not None:
                return waiting
    code = 0
    for item in items:
        plan = make_plan(store, item.every, _wanted([item]))
        report = _pilot if options.pilot else _report
        code = max(code, report(options, item, profile, plan, assignments))
    return code


def _wanted(items: Sequence[_Item]) -> Wanted:
    """Return which metrics each run needs: what any study asks for of its arms."""
    found: dict[str, tuple[str, ...]] = {}
    for item in items:
        for recipe in item.every:
            found[recipe.id] = groups([*found.get(recipe.id, ()), *item.metrics])
    return found


def find_data(recipes: Sequence[Recipe], store: Path, paths: dict[str, str]) -> None:
    """Have the data sets in files that recipes need ready, before any run starts.

    Raises:
        UserError: one is not there, or not as it is described.
    """
    data = [recipe.data for recipe in recipes]
    data += [catalog.source_spec(spec) for spec in data if spec.source]
    specs = [spec for spec in data if spec.name not in NO_FILES]
    if specs:
        from ns_bench.data.sets import prepare

        prepare(specs, store, paths)


def _prepare(options: argparse.Namespace, store: Store, plan: Plan) -> None:
    """Say what is damaged, and take back what is to be done again."""
    for run in plan.runs.values():
        try:
            run.result()
        except Corrupt as damage:
            print(f"ns_bench: {run.id} is not usable: {damage}; it counts as missing")
    if options.force:
        run = store.find(options.force, list(plan.runs.values()))
        run.discard()
        run.forgive()
    if options.retry_failed:
        for run_id, state in plan.states.items():
            if state == "failed":
                plan.runs[run_id].forgive()


def _execute(options: argparse.Namespace, title: str, profile: Profile, plan: Plan) -> None:
    from ns_bench.cli.terminal import line, live
    from ns_bench.execute.local import execute

    with live(lambda progress: line(title, plan, progress)) as show:
        execute(
            plan.missing,
            profile.estimate,
            workers=options.workers,
            execution=Execution(options.compile, options.accumulate),
            hang_seconds=options.hang_seconds,
            show=show,
        )


def _report(
    options: argparse.Namespace,
    item: _Item,
    profile: Profile,
    plan: Plan,
    assignments: dict[str, Any],
) -> int:
    from ns_bench.cli import terminal
    from ns_bench.report.page import write
    from ns_bench.verdicts.analysis import Tuning, analyse
    from ns_bench.verdicts.sources import folder_name
    from ns_bench.verdicts.table import collect

    runs, curves = collect(item.design, plan, item.seeds)
    changed = {name: str(value) for name, value in assignments.items()}
    analysis = analyse(item.study, profile, item.design, runs, curves, item.seeds, changed)
    if item.tuned is not None:
        before = item.tuned.before
        tables = collect(before, plan, item.seeds)
        plain = analyse(item.study, profile, before, *tables, item.seeds, changed)
        analysis = replace(analysis, tuning=Tuning(item.tuned, plain))
    terminal.table(analysis)
    name = folder_name(item.study, profile) + ("-tuned" if item.tuned else "")
    folder = options.out / name if options.out else options.runs / "reports" / name
    if options.out or not options.read_only:  # read-only leaves the store alone
        try:
            print(f"report: {write(analysis, folder)}")
        except OSError as error:
            raise UserError(f"report {folder} cannot be written: {error.strerror}") from None
    return _code(plan)


def _pilot(
    options: argparse.Namespace,
    item: _Item,
    profile: Profile,
    plan: Plan,
    assignments: dict[str, Any],
) -> int:
    from ns_bench.verdicts.pilot import lines, needs, table_of

    metrics = {claim.metric for claim in item.design.claims}
    tables = {metric: table_of(plan, item.recipes, metric) for metric in metrics}
    found = needs(item.design, tables, item.seeds)
    print(f"{item.study.name} · {profile.name}, pilot of {options.pilot} tuning seeds:")
    print("\n".join(lines(found, item.seeds) or ["no claim has two seeds with all of its runs"]))
    return _code(plan)


def _code(plan: Plan) -> int:
    return 1 if plan.counts().keys() & {"failed", "blocked"} else 0


def _show_plan(title: str, profile: Profile, plan: Plan, items: list[_Item]) -> None:
    """Print every run with its state and teacher, what is left to do, and what it costs."""
    for run in plan.runs.values():
        teacher = f"  <- {run.teacher.id}" if run.teacher else ""
        seconds = profile.estimate(run.recipe)
        print(f"{plan.states[run.id]:<8} {run.id}  {seconds:.0f} s{teacher}")
    train = [run for run in plan.missing if plan.states[run.id] != "unmeasured"]
    images = sum(run.recipe.images for run in train)
    minutes = sum(profile.estimate(run.recipe) for run in train) / 60
    counts = ", ".join(f"{n} {state}" for state, n in sorted(plan.counts().items()))
    asked = [len({seed for _, seed in item.recipes}) for item in items]
    seeds = " to ".join(str(n) for n in sorted({min(asked), max(asked)}))
    print(
        f"\n{title}, {seeds} seeds: {len(plan.runs)} trainings planned, {plan.asked} without "
        f"sharing, ratio {len(plan.runs) / plan.asked:.2f}: {counts}"
    )
    print(
        f"to do: {len(train)} runs, {images:,} images, about {minutes:,.1f} minutes on "
        f"{profile.machine or 'one worker'}, divided by the number of workers"
    )
    for line in cost.lines(train, profile):
        print(line)
    measure = Counter(group for run in plan.missing for group in run.unmeasured)
    if measure:
        counts = ", ".join(f"{group} of {measure[group]} runs" for group in measure)
        print(f"to measure: {counts}")


if __name__ == "__main__":
    sys.exit(main())
