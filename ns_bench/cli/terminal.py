"""What the terminal shows: live progress while runs are done, and the table at the end."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ns_bench.execute.local import Progress
from ns_bench.report.numbers import interval, mean_of, points, signed
from ns_bench.runs.plan import Plan
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.images import by_image
from ns_bench.verdicts.statistics import Interval, mean_interval
from ns_bench.verdicts.table import suspicions

PLAIN_SECONDS = 10.0
"""How often a line is printed where there is no terminal to repaint."""


def line(title: str, plan: Plan, progress: Progress) -> Text:
    """Return the status line: runs by state, images a second, time left."""
    counts = plan.counts()
    failed = len(progress.failed) + counts["failed"]
    text = Text(f"{title}   planned {len(plan.runs)}   running {len(progress.running)}   ")
    text.append(f"done {counts['done'] + progress.done}   ")
    text.append(f"failed {failed}", style="bold red" if failed else "")
    if progress.elsewhere:
        text.append(f"   elsewhere {len(progress.elsewhere)}")
    text.append(f"   {progress.images_per_second:,.0f} images/s   ")
    left = progress.left
    text.append("time left ?" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left")
    return text


@contextlib.contextmanager
def live(describe: Callable[[Progress], Text]) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows progress: a repainted line on a terminal, else one now and then.

    Failures and notes are printed as they come, so that none scrolls out unseen.
    """
    console = Console(highlight=False)
    printed: set[str] = set()
    last = 0.0
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(Live(console=console)) if console.is_terminal else None

        def show(progress: Progress) -> None:
            nonlocal last
            news = [f"failed: {run_id}: {why}" for run_id, why in progress.failed.items()]
            for item in [*progress.notes, *news]:
                if item not in printed:
                    printed.add(item)
                    style = "bold red" if item.startswith("failed") else "yellow"
                    console.print(Text(item, style=style), soft_wrap=True)
            now = time.monotonic()
            if display is not None:
                display.update(describe(progress))
            elif now - last >= PLAIN_SECONDS or not last:
                last = now
                print(describe(progress).plain, file=sys.stdout, flush=True)

        yield show


def table(analysis: Analysis, *, interim: bool = False) -> None:
    """Print arms, claims with their verdicts, and every run that is not done.

    Args:
        interim: runs are still on their way: no claim that waits for them, and no list of them.
    """
    console = Console(highlight=False)
    if not console.is_terminal:  # a log file or pipe: no reason to wrap at 80 columns
        console.width = 120
    if interim:
        console.print(Text("interim, runs are still on their way:", style="bold yellow"))
    arms = Table(title=Text(analysis.title), title_justify="left")
    arms.add_column("arm", overflow="fold")
    arms.add_column("n", justify="right", no_wrap=True)
    for column in ("top-1 (%), 95 % interval", "vs baseline, 95 % interval"):
        arms.add_column(column, justify="right", overflow="fold")
    for arm in analysis.arms:
        planned = analysis.planned(arm.name)
        missing = arm.n < planned and not interim
        own, difference = interval(arm.interval), interval(arm.difference, sign=True)
        if interim and arm.n == 1:
            own = f"{interval(_over_images(analysis, {arm.name: 1}))}*"
            contrast = {arm.name: 1, analysis.baseline: -1}
            difference = f"{interval(_over_images(analysis, contrast), sign=True)}*"
        arms.add_row(
            Text(arm.name),
            Text(f"{arm.n}/{planned}", style="bold red" if missing else ""),
            f"{points(mean_of(arm.interval))} {own}",
            "baseline" if arm.is_baseline else f"{signed(mean_of(arm.difference))} {difference}",
        )
    if not interim and (odd := suspicions(analysis.runs)):
        console.print(Text(f"look at these arms: {'; '.join(odd)}", style="bold yellow"))
    console.print(arms)
    if interim and any(arm.n == 1 for arm in analysis.arms):
        console.print("* over the test images of the one seed that is there, not over seeds")
    for result in analysis.claims:
        if interim and not (result.decision and result.decision.seeds):
            continue
        word = analysis.word(result)
        style = {"reproduced": "green", "contradicted": "red"}.get(word, "yellow")
        console.print(Text.assemble((word.upper(), f"bold {style}"), "  ", result.claim.text))
        if analysis.profile.verdict:
            console.print(Text(f"    {result.verdict.reason}"), soft_wrap=True)
    if not interim:
        _unfinished(console, analysis)


def _over_images(analysis: Analysis, weights: Mapping[str, float]) -> Interval | None:
    """Return the interval of a contrast over the test images of the first seed that has it."""
    by_seed = by_image(analysis.runs, weights)
    return mean_interval(by_seed[min(by_seed)][1]) if by_seed else None


def _unfinished(console: Console, analysis: Analysis) -> None:
    """Print what is not done, runs with the same reason on one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for run in analysis.unfinished:
        groups.setdefault((run.state, run.reason), []).append(run.id)
    for (state, reason), ids in groups.items():
        style = "bold red" if state in ("failed", "blocked") else "yellow"
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        console.print(Text(f"{state}: {ids[0]}{more}  {reason}", style=style), soft_wrap=True)
    if any(state == "failed" for state, _ in groups):
        note = "the traceback is in failure.json of the run's folder; --retry-failed tries again"
        console.print(Text(note, style="bold red"), soft_wrap=True)
