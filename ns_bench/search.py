"""`python -m ns_bench.search STUDY`: tune the recipes of a study's arms, each with the same chance.

Calling it again goes on: trials are rebuilt from the store, killing it loses seconds. Exit codes:
0 the search is over (or the jobs are queued), 1 every trial of an arm failed, 2 bad input or an
unusable store, 130 stopped by Ctrl-C.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ns_bench.data import catalog
from ns_bench.design.definition import load_study, study_names
from ns_bench.design.profile import Profile, load_profile
from ns_bench.errors import UserError, at_least_one, exit_code
from ns_bench.execute.execution import Execution
from ns_bench.execute.slurm.cluster import Cluster, load_cluster
from ns_bench.runs.plan import Task, make_plan
from ns_bench.runs.store import Store
from ns_bench.study import (
    add_run_options,
    find_data,
    parse_assignments,
    parse_paths,
)
from ns_bench.tuning.sampler import SAMPLERS, ask
from ns_bench.tuning.space import load_space, read_space
from ns_bench.tuning.trials import Search, Settings, Standing, State, best_of, networks
from ns_bench.tuning.tuned_arms import fingerprint, search_of

TRIALS = 20
"""How many trials an arm has where no budget is given."""

QUEUE_SECONDS = 5.0
"""How often the SLURM queue is asked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: _run(options), "stopped; the same command goes on from here")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.search",
        description="Tune the recipes of a study's arms, on validation rows of tuning seeds.",
    )
    add = parser.add_argument
    add("study", help="a study, or a file that defines one")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--arm", metavar="ARM", help="tune one arm (default: the baseline)")
    which.add_argument("--per-arm", action="store_true", help="tune every arm, each alike")
    add("--trials", type=at_least_one, metavar="N", help=f"trials an arm (default: {TRIALS})")
    add("--hours", type=_hours, metavar="H", help="ask for no more trials after H hours")
    add("--gpu-hours", type=_hours, metavar="H", help="nor after H hours of training an arm")
    add("--space", type=Path, metavar="FILE", help="fields and ranges (default: the profile's)")
    add("--sampler", choices=SAMPLERS, default="tpe", help="default: tpe")
    add("--sampler-seed", type=int, default=0, metavar="N", help="of the sampler (default: 0)")
    add("--tuning-seeds", type=at_least_one, default=4, metavar="K", help="a trial's (default: 4)")
    add("--batch", type=at_least_one, default=8, metavar="B", help="trials at once (default: 8)")
    add(
        "--pruning",
        choices=("both", "seeds", "none"),
        default="both",
        help="both (default): the worse half of a batch stops within the first seed, and what is "
        "surely worse than the best stops between seeds; seeds: the second alone",
    )
    add(
        "--objectives",
        choices=("accuracy", "accuracy,cost"),
        default="accuracy",
        help="accuracy (default), or the best of both, without pruning",
    )
    add("--storage", metavar="URL", help="show the trials in this Optuna storage, too")
    add_run_options(parser)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="show spaces and cost; do nothing")
    mode.add_argument("--retry-failed", action="store_true", help="do failed runs again, too")
    return parser


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}': expected hours, more than 0")
    return value


def searches_of(options: argparse.Namespace, store: Store, profile: Profile) -> list[Search]:
    """Return the searches that the options ask for, one an arm.

    Raises:
        UserError: unknown study, arm or field, a bad range, an arm with nothing to tune.
    """
    if options.study == "all":
        raise UserError(f"a search is of one study: one of {', '.join(study_names())}")
    study = load_study(options.study)
    design = study.design(profile)
    source = f"profile '{profile.name}'"
    space = read_space(options.space) if options.space else load_space(profile.space, source)
    objectives = tuple(options.objectives.split(","))
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
    everyone = [arm.name for arm in design.arms]
    found = []
    for name in everyone if options.per_arm else [options.arm or design.baseline]:
        search = search_of(settings, design, name, store, profile)
        if search is None:
            print(f"ns_bench: '{name}' uses nothing of the space that the study does not vary")
        else:
            catalog.check(search.recipe)
            found.append(search)
    if not found:
        raise UserError(f"{study.name} has nothing to tune in the space of {source}")
    return found


@dataclass
class Budget:
    """When an arm gets no more trials."""

    trials: int | None
    hours: float | None
    training_hours: float | None
    began: float

    def left(self, standings: Sequence[Standing]) -> int:
        """Return how many more trials an arm may have."""
        if self.hours is not None and time.monotonic() - self.began > 3600 * self.hours:
            return 0
        spent = sum(standing.seconds for standing in standings) / 3600
        if self.training_hours is not None and spent >= self.training_hours:
            return 0
        return sys.maxsize if self.trials is None else max(self.trials - len(standings), 0)


class Driver:
    """Asks for trials and says what they need next."""

    def __init__(
        self,
        searches: Sequence[Search],
        budget: Budget,
        changed: Callable[[Search, list[Standing]], None] = lambda search, standings: None,
    ) -> None:
        self.searches, self.budget, self.changed = searches, budget, changed
        self.seconds = 0.0
        self.standings: dict[str, list[Standing]] = {}

    def wanted(self) -> list[Task]:
        """Return what there is to do now, teachers first; nothing once the search is over."""
        began = time.monotonic()
        tasks = [task for search in self.searches for task in self._advance(search)]
        plan = make_plan(self.searches[0].store, (task.run.recipe for task in tasks))
        # What another trial needs whole, or is taught by, is not stopped at a rung.
        until = {task.run.id: task.until for task in tasks if task.until is not None}
        whole = {task.run.id for task in tasks if task.until is None}
        whole |= {run.teacher.id for run in plan.runs.values() if run.teacher is not None}
        found = [Task(run, None if run.id in whole else until.get(run.id)) for run in plan.missing]
        self.seconds += time.monotonic() - began
        return found

    def _advance(self, search: Search) -> list[Task]:
        while True:
            trials = search.trials()
            standings = search.standings(trials)
            if standings != self.standings.get(search.arm):
                self.standings[search.arm] = standings
                self.changed(search, standings)
            if any(standing.state == "running" for standing in standings):
                return [task for standing in standings for task in standing.wanted]
            left = self.budget.left(standings)
            asked = ask(search, standings, left) if left else []
            if not asked:
                return []
            search.keep([*trials, *asked])

    def line(self) -> str:
        """Return one line: trials by state, and the best score so far."""
        said = []
        for arm, standings in self.standings.items():
            counts = Counter(standing.state for standing in standings)
            best = best_of(standings)
            words = [f"{counts[state]} {state}" for state in get_args(State) if counts[state]]
            words += [f"best {best.score:.2f} %"] if best else []
            said.append(f"{arm}: {', '.join(words)}")
        return "   ".join(said)


def _run(options: argparse.Namespace) -> int:
    execution = Execution(options.compile, options.accumulate)
    cluster = None if options.cluster == "local" else load_cluster(options.cluster).using(execution)
    profile = load_profile(options.profile, parse_assignments(options.assignments))
    paths = parse_paths(options.data, profile)
    store = Store(options.runs, read_only=options.dry_run)
    searches = searches_of(options, store, profile)
    limits = (options.hours, options.gpu_hours)
    trials = options.trials or (None if any(limits) else TRIALS)
    budget = Budget(trials, *limits, began=time.monotonic())
    if options.dry_run:
        _show_cost(searches, trials)
        return 0
    if options.storage:
        from ns_bench.tuning.mirror import Mirror

        driver = Driver(searches, budget, Mirror(options.storage, searches).show)
    else:
        driver = Driver(searches, budget)
    title = f"search {options.study} · {profile.name}"
    if options.retry_failed:
        for search in searches:
            search.forgive()
    find_data([task.run.recipe for task in driver.wanted()], options.runs, paths)
    if cluster is None:
        _locally(options, title, profile, driver)
    else:
        _on_cluster(title, store, profile, cluster, driver)
    return _finish(options, driver, profile)


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


def _locally(options: argparse.Namespace, title: str, profile: Profile, driver: Driver) -> None:
    from rich.text import Text

    from ns_bench.cli.terminal import live
    from ns_bench.execute.local import Progress, execute

    def describe(progress: Progress) -> Text:
        speed = f"{progress.images_per_second:,.0f} images/s"
        return Text(f"{title}   {driver.line()}   {speed}")

    if not driver.wanted():
        return
    with live(describe) as show:
        execute(
            [],
            profile.estimate,
            workers=options.workers,
            execution=Execution(options.compile, options.accumulate),
            hang_seconds=options.hang_seconds,
            show=show,
            more=driver.wanted,
        )


def _on_cluster(
    title: str, store: Store, profile: Profile, cluster: Cluster, driver: Driver
) -> None:
    """Submit what is wanted, wait, and go on. Stopped, it leaves its jobs in the queue.

    Runs are done to their end there: a wait in the queue at every rung costs more than it saves.
    """
    from ns_bench.cli.slurm import dispatch

    said = ""
    while tasks := driver.wanted():
        recipes = [task.run.recipe for task in tasks]
        _, submission = dispatch(store, recipes, profile, cluster)
        if submission is not None:
            calls = f"{len(submission.jobs)} sbatch calls"
            print(f"{title}: submitted {submission.runs} runs in {calls}", flush=True)
        if driver.line() != said:
            said = driver.line()
            print(f"{title}   {said}", flush=True)
        time.sleep(QUEUE_SECONDS)


def _finish(options: argparse.Namespace, driver: Driver, profile: Profile) -> int:
    from ns_bench.report.search import write

    code = 0
    out = options.out or options.runs / "reports"
    for search in driver.searches:
        standings = search.standings(search.trials())
        folder = out / f"search-{search.settings.id}" / search.slug
        page = write(search, standings, folder)
        if best_of(standings) is None:
            first = next((s.reason for s in standings if s.reason), "none was asked for")
            print(f"ns_bench: no trial of '{search.arm}' is complete: {first}", file=sys.stderr)
            code = 1
        print(f"report: {page}")
    print(f"{driver.line()}   {driver.seconds:.1f} s went into asking and reading trials")
    return code


if __name__ == "__main__":
    sys.exit(main())
