"""What the search command does: ask for trials, have them trained, until the budget is spent."""

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from ns_bench.cli.inputs import Setting, check_networks, find_inputs, read_setting
from ns_bench.cli.options import OBJECTIVES, TRIALS, SearchOptions
from ns_bench.data import catalog
from ns_bench.design.cost import check_labels
from ns_bench.design.definition import TUNING_SEEDS, load_study, study_names
from ns_bench.design.profile import Profile
from ns_bench.errors import UserError
from ns_bench.execute.slurm.cluster import Cluster
from ns_bench.report.numbers import counted
from ns_bench.runs.plan import Task, make_plan
from ns_bench.runs.store import Store
from ns_bench.tuning.driver import Budget, Driver
from ns_bench.tuning.space import load_space, read_space
from ns_bench.tuning.trials import Search, Settings, Standing, best_of, networks
from ns_bench.tuning.tuned_arms import fingerprint, search_of

QUEUE_SECONDS = 5.0
"""How often the SLURM queue is asked."""


def tune(options: SearchOptions) -> int:
    """Tune the arms that the options name; returns the exit code.

    With --json stdout has the results alone, and what else is said goes to stderr.

    Raises:
        UserError: bad input, or an unusable store.
    """
    if not options.json:
        return _tune(options)[0]
    from ns_bench.report import results

    if options.dry_run:
        raise UserError("--json shows results: --dry-run has none")
    with contextlib.redirect_stdout(sys.stderr):
        code, searches = _tune(options)
    print(results.of_searches(searches))
    return code


def _tune(options: SearchOptions) -> tuple[int, list[tuple[Search, list[Standing]]]]:
    setting = read_setting(options)
    store = Store(options.runs, read_only=True)
    searches = _searches(options, store, setting)
    limits = (options.hours, options.gpu_hours)
    trials = options.trials or (None if any(limits) else TRIALS)
    if options.dry_run:
        _show_cost(searches, trials)
        return 0, []
    driver = _driver(options, searches, Budget(trials, *limits, began=time.monotonic()))
    Store(options.runs)  # only here one is made
    if options.retry_failed:
        for search in searches:
            search.forgive()
    seen: set[str] = set()

    def advance() -> list[Task]:
        tasks = driver.advance()
        new = [task.run for task in tasks if task.run.id not in seen]
        find_inputs([run.recipe for run in new], options.runs, setting.paths)
        seen.update(run.id for run in new)
        return tasks

    title = f"search {options.study} · {setting.profile.name}"
    if setting.cluster is not None:
        _on_cluster(title, store, setting.profile, setting.cluster, driver, advance)
    elif advance():
        _locally(options, title, setting, driver, advance)
    return _finish(options, driver)


def _searches(options: SearchOptions, store: Store, setting: Setting) -> list[Search]:
    """Return the searches that the options ask for, one an arm.

    Raises:
        UserError: unknown study, arm or field, a bad range, an arm with nothing to tune.
    """
    if options.study == "all":
        raise UserError(f"a search is of one study: one of {', '.join(study_names())}")
    if options.tuning_seeds > TUNING_SEEDS:
        raise UserError(f"--tuning-seeds {options.tuning_seeds}: expected at most {TUNING_SEEDS}")
    study, profile = load_study(options.study), setting.profile
    design = study.in_profile(profile)
    source = f"profile '{profile.name}'"
    space = read_space(options.space) if options.space else load_space(profile.space, source)
    objectives = OBJECTIVES[options.objectives]
    settings = Settings(
        study=study.name,
        profile=profile.name,
        design=fingerprint(design),
        space=tuple(space),
        sampler=options.sampler,
        seed=options.sampler_seed,
        seeds=options.tuning_seeds,
        batch=options.batch,
        pruning=options.pruning if len(objectives) == 1 else "none",
        objectives=objectives,
    )
    names = [arm.name for arm in design.arms]
    searches = []
    for name in names if options.per_arm else [options.arm or design.baseline]:
        search = search_of(settings, study, design, name, store, profile, setting.changed)
        if search is None:
            print(f"ns_bench: '{name}' uses nothing of the space that the study does not vary")
        else:
            catalog.check(search.recipe)
            check_labels(search.recipe)
            if not search.recipe.data.validation:
                raise UserError("data.validation=0: a search tells its trials apart by such rows")
            check_networks([search.recipe])
            searches.append(search)
    if not searches:
        raise UserError(f"{study.name} has nothing to tune in the space of {source}")
    return searches


def _show_cost(searches: Sequence[Search], trials: int | None) -> None:
    """Print what each arm is tuned over, and what its trials cost if none fails."""
    total = 0.0
    for search in searches:
        settings, seconds = search.settings, search.estimate(search.recipe)
        fields = ", ".join(dimension.name for dimension in search.space)
        print(f"{search.arm}: {len(search.space)} parameters: {fields}")
        if trials is None:
            continue
        trained = seconds * networks(settings, trials)
        total += trained
        print(
            f"    {trials} trials by {settings.sampler}, {settings.seeds} seeds: at most "
            f"{networks(settings, trials):.0f} trainings of about {seconds:.0f} s, "
            f"{trained / 60:.1f} minutes on one worker"
        )
    if total:
        print(f"all: {total / 60:.1f} minutes, and teachers, divided by the number of workers")


def _driver(options: SearchOptions, searches: Sequence[Search], budget: Budget) -> Driver:
    if options.storage is None:
        return Driver(searches, budget)
    from ns_bench.tuning.mirror import Mirror

    return Driver(searches, budget, Mirror(options.storage, searches).show)


def _locally(
    options: SearchOptions,
    title: str,
    setting: Setting,
    driver: Driver,
    advance: Callable[[], list[Task]],
) -> None:
    from rich.text import Text

    from ns_bench.cli.terminal import live
    from ns_bench.execute.local import Progress, execute

    def describe(progress: Progress) -> Text:
        speed = f"{progress.images_per_second:,.0f} images/s"
        return Text(f"{title}   {driver.line()}   {speed}")

    with live(describe) as show:
        execute(
            [],
            setting.profile.estimate,
            workers=options.workers,
            execution=options.execution,
            hang_seconds=options.hang_seconds,
            show=show,
            more=advance,
        )


def _on_cluster(
    title: str,
    store: Store,
    profile: Profile,
    cluster: Cluster,
    driver: Driver,
    advance: Callable[[], list[Task]],
) -> None:
    """Submit what is due, wait, and go on. Stopped, it leaves its jobs in the queue.

    Runs are done to their end there: a wait in the queue at every rung costs more than it saves.
    """
    from ns_bench.cli.slurm import dispatch

    shown = ""
    while tasks := advance():
        recipes = [task.run.recipe for task in tasks]
        look = partial(make_plan, store, recipes)
        _, submission = dispatch(store, look, profile.estimate, cluster)
        if submission is not None:
            calls = counted(len(submission.jobs), "sbatch call")
            print(f"{title}: submitted {counted(submission.runs, 'run')} in {calls}", flush=True)
        if driver.line() != shown:
            shown = driver.line()
            print(f"{title}   {shown}", flush=True)
        time.sleep(QUEUE_SECONDS)


def _finish(
    options: SearchOptions, driver: Driver
) -> tuple[int, list[tuple[Search, list[Standing]]]]:
    """Write the page of each search; returns 1 where no trial of an arm is complete."""
    from ns_bench.report.search import write

    code, found = 0, []
    out = options.out or options.runs / "reports"
    for search in driver.searches:
        standings = search.standings(search.trials())
        found.append((search, standings))
        page = write(search, standings, out / f"search-{search.settings.id}" / search.slug)
        if best_of(standings) is None:
            first = next((s.reason for s in standings if s.reason), "none was asked for")
            print(f"ns_bench: no trial of '{search.arm}' is complete: {first}", file=sys.stderr)
            code = 1
        print(f"report: {page}")
    print(f"{driver.line()}   {driver.seconds:.1f} s went into asking and reading trials")
    return code, found
