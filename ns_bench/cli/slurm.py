"""The study command on a SLURM cluster: submit, status, cancel, logs."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ns_bench.cli.columns import aligned
from ns_bench.cli.inputs import Setting
from ns_bench.cli.options import StudyOptions
from ns_bench.design.profile import Profile
from ns_bench.errors import UserError
from ns_bench.execute.slurm.cluster import Cluster
from ns_bench.execute.slurm.queue import ALIVE, JobState, endings, largest_array, require_slurm
from ns_bench.execute.slurm.scheduler import REPORT, Scheduler, Submission, plan_arrays
from ns_bench.recipe import Recipe
from ns_bench.report.numbers import counted, rounded
from ns_bench.runs.plan import Plan, states_of
from ns_bench.runs.store import Run, Store

REFRESH_SECONDS = 5.0
_TO_DO = ("missing", "partial", "unmeasured")


def submit(
    options: StudyOptions,
    store: Store,
    look: Callable[[], Plan],
    setting: Setting,
    title: str,
    report: Callable[[], Any],
    again: Set[str],
) -> int | None:
    """Submit what is missing and return the exit code; None when nothing runs any more.

    Args:
        look: compares what is asked for with what is on disk now.
        report: what the job calls that comes after all others.
        again: runs that were done and have been taken back: their last jobs ended well.

    Raises:
        UserError: no SLURM here, or it does not answer: then nothing is submitted.
    """
    assert setting.cluster is not None
    plan, submission = dispatch(
        store,
        look,
        setting.profile.estimate,
        setting.cluster,
        settled=not options.retry_failed,
        again=again,
        report=report,
    )
    if submission is not None:
        report_too = "" if REPORT in submission.missing else " (and one for the report)"
        print(
            f"{title}: submitted {counted(submission.runs, 'run')} in "
            f"{counted(len(submission.jobs), 'sbatch call')}{report_too}; "
            "the same command shows where they stand"
        )
    rows = standing(plan, Scheduler(store).states())
    if not {state for _, state, _ in rows} & {"queued", "running", *_TO_DO}:
        return None
    print(summary(title, rows))
    bad = {"failed", "blocked"} & {state for _, state, _ in rows}
    return 1 if bad or (submission and submission.missing) else 0


def dispatch(
    store: Store,
    look: Callable[[], Plan],
    seconds: Callable[[Recipe], float],
    cluster: Cluster,
    *,
    settled: bool = True,
    again: Set[str] = frozenset(),
    report: Callable[[], Any] | None = None,
) -> tuple[Plan, Submission | None]:
    """Submit what is missing and not queued; returns the plan, and what was submitted, if anything.

    What was refused is said, and left out.

    Args:
        look: compares what is asked for with what is on disk now.
        seconds: estimated for a recipe.
        settled: first record as failed what ended without a result; see `settle`.
        again: see `submit`.
        report: what a job calls that comes after all others.

    Raises:
        UserError: no SLURM here, or it does not answer, or takes nothing.
    """
    require_slurm()
    scheduler = Scheduler(store)
    with scheduler.exclusive():
        scheduler.recover(cluster)
        states = scheduler.states()
        plan = look()
        if settled:
            settle(scheduler, plan, states, again=again)
            plan = look()
        at_work = {r for r, job in states.items() if job.state in ALIVE}
        todo = [run for run in plan.missing if run.id not in at_work]
        # A student whose teacher is queued already waits for it: it comes with the next call.
        todo = [run for run in todo if run.teacher is None or run.teacher.id not in at_work]
        if not todo:
            return plan, None
        arrays = plan_arrays(todo, seconds, cluster, largest_array())
        submission = scheduler.submit(arrays, seconds, cluster, report)
    if not submission.jobs:
        raise UserError(f"nothing was submitted: {next(iter(submission.missing.values()))}")
    for name, why in submission.missing.items():
        print(f"ns_bench: not submitted: {name}: {why}", file=sys.stderr)
    return plan, replace(submission, runs=len(todo))


def settle(
    scheduler: Scheduler, plan: Plan, states: dict[str, JobState], again: Set[str] = frozenset()
) -> None:
    """Record as failed what was submitted and has ended without a result, with SLURM's reason.

    Args:
        again: see `submit`.
    """
    full, latest = scheduler.out_of_space(), scheduler.elements()
    if stopped := [run.id for run in plan.missing if latest.get(run.id) in full]:
        print(f"ns_bench: the store's disk was full: {len(stopped)} runs go on where they were")
    taken_back = scheduler.cancelled() | full
    elements = {r: job for r, job in latest.items() if job not in taken_back}
    lost = [
        run
        for run in plan.missing
        if run.id in elements
        and (run.id not in states or states[run.id].state not in ALIVE)
        and (run.teacher is None or plan.states[run.teacher.id] == "done")
        and run.state() in ("missing", "partial")  # it may have ended well a moment ago
        and not (run.path / "result.json").exists()  # damaged since: that is no failed job
        and run.id not in again
    ]
    ended = endings([elements[run.id] for run in lost])
    for run in lost:
        element = elements[run.id]
        known = _ended(states[run.id]) if run.id in states else None
        how = ended.get(element) or known or "ended without a result"
        run.fail(f"job {element}: {how}; see --logs {run.id}", "")


def standing(plan: Plan, states: dict[str, JobState]) -> list[tuple[Run, str, JobState | None]]:
    """Return (run, state, job) for every run: the store's word first, then the scheduler's."""
    rows = []
    stored = states_of(plan.runs)
    for run_id, run in plan.runs.items():
        state, job = str(stored[run_id]), states.get(run_id)
        if state in _TO_DO and job is not None and job.state in ALIVE:
            # its lease says when it runs; until then its job is at other runs of the pack
            state = "queued"
        rows.append((run, state, job))
    return rows


def summary(title: str, rows: Sequence[tuple[Run, str, JobState | None]]) -> str:
    """Return one line: how many runs are in which state."""
    counts = Counter(state for _, state, _ in rows)
    return f"{title}: " + ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))


def ask(options: StudyOptions, store: Store, plan: Plan, title: str) -> int:
    """Answer --status, --cancel or --logs."""
    scheduler = Scheduler(store)
    if options.logs:
        run = store.find(options.logs, list(plan.runs.values()))
        logs = scheduler.logs(run.id)
        failure = run.failure()
        for path in logs:
            print(f"== {path}\n{path.read_text(errors='replace')}")
        if failure:
            print(f"== {run.path / 'failure.json'}\n{failure['error']}\n{failure['traceback']}")
        if not logs and not failure:
            raise UserError(f"{run.id} has no log: it is {run.state()} and was not submitted")
        return 0
    require_slurm()
    if options.cancel:
        cancelled = scheduler.cancel(list(plan.runs))
        print(f"{title}: cancelled {len(cancelled)} jobs")
        return 0
    console = Console(highlight=False)

    def page() -> Table:
        return status_table(title, standing(plan, scheduler.states()), console.height)

    if not console.is_terminal:
        print("\n".join(status_lines(title, standing(plan, scheduler.states()))))
        return 0
    with Live(page(), console=console, auto_refresh=False) as display:
        while True:
            time.sleep(REFRESH_SECONDS)
            display.update(page(), refresh=True)
            if not any(state in ("queued", "running") for _, state, _ in
                       standing(plan, scheduler.states())):  # fmt: skip
                return 0


COLUMNS = ("run", "state", "job", "node", "elapsed", "progress", "why")
ORDER = ("failed", "blocked", "running", "queued", "partial", "missing", "unmeasured", "done")


def status_table(
    title: str, rows: Sequence[tuple[Run, str, JobState | None]], height: int
) -> Table:
    """Return the table of --status: what needs a look first, cut to the terminal's height."""
    table = Table(title=summary(title, rows), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    ordered = _urgent_first(rows)
    shown = ordered[: max(height - 8, 5)]
    for row in shown:
        name, state, *cells = _cells(*row)
        style = {"failed": "bold red", "blocked": "bold red", "running": "green"}.get(state, "")
        table.add_row(name, Text(state, style=style), *cells)
    if len(ordered) > len(shown):
        table.add_row(f"... and {len(ordered) - len(shown)} more", *[""] * 6)
    return table


def status_lines(title: str, rows: Sequence[tuple[Run, str, JobState | None]]) -> list[str]:
    """Return --status for a pipe or a file: every run, a line each, in columns."""
    cells = [COLUMNS, *(_cells(*row) for row in _urgent_first(rows))]
    return [summary(title, rows), *aligned(cells)]


def _urgent_first(
    rows: Sequence[tuple[Run, str, JobState | None]],
) -> list[tuple[Run, str, JobState | None]]:
    return sorted(rows, key=lambda row: ORDER.index(row[1]))


def _cells(run: Run, state: str, job: JobState | None) -> tuple[str, ...]:
    """Return a run's line in the table of --status, a cell for each of `COLUMNS`."""
    why = (run.failure() or {}).get("error", "") if state == "failed" else ""
    return (
        run.id,
        state,
        job.job if job else "",
        job.node if job else "",
        job.elapsed if job else "",
        _progress(run) if state in ("running", "partial") else "",
        why or (_why(job) if job and state in ("queued", *_TO_DO) else ""),
    )


def _why(job: JobState) -> str:
    if job.state not in ALIVE:
        return f"its job ended: {_ended(job)}"
    return "its job is at other runs" if job.state == "RUNNING" else job.reason


def _ended(job: JobState) -> str:
    return job.state if job.reason in ("", "None") else f"{job.state} ({job.reason})"


def _progress(run: Run) -> str:
    steps = [record["step"] for record in run.metrics()]
    return f"{100 * steps[-1] / run.recipe.steps:.0f} %" if steps and run.recipe.steps else ""


def show_scripts(store: Store, plan: Plan, profile: Profile, cluster: Cluster) -> None:
    """Print the sbatch scripts of what is missing, how they depend, and what they cost."""
    arrays = plan_arrays(plan.missing, profile.estimate, cluster, 1000)
    for script in Scheduler(store).scripts(arrays, cluster):
        print(f"\n{script}")
    seconds = sum(profile.estimate(run.recipe) for run in plan.missing) / cluster.speed
    hours = seconds / 3600 / cluster.side_by_side
    what = "GPU-hours" if cluster.gpus else "job-hours"
    shared = f", {cluster.side_by_side} runs side by side in a job" * (cluster.side_by_side > 1)
    print(
        f"{counted(len(arrays), 'sbatch call')}, about "
        f"{rounded(max(cluster.gpus, 1) * hours)} {what}{shared}"
    )
