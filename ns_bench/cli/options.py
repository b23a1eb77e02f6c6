"""What the commands are asked, typed; see `ns_bench.arguments`. Nothing heavy is imported here:
--help is shown by what this module knows."""

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from ns_bench.arguments import option, path, positional, text, whole_number
from ns_bench.execute.execution import PLAIN, Execution
from ns_bench.robustness import GROUPS
from ns_bench.tuning import Objective, Pruning, Sampler

TRIALS = 20
"""How many trials an arm has where no budget is given."""

OBJECTIVES: dict[str, tuple[Objective, ...]] = {
    "accuracy": ("accuracy",),
    "accuracy,cost": ("accuracy", "cost"),
}


def above_zero(text: str) -> float:
    """Read a number of hours above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}': expected hours, more than 0")
    return value


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every command that trains takes: at which scale, where, and by what."""

    profile: str = option(
        "scale at which to run (default: digits), or a TOML file with a profile of your own",
        default="digits",
    )
    cluster: str = option("local (default), or a file slurm/NAME.toml", default="local")
    assignments: tuple[str, ...] = option(
        "a recipe's field, for all arms", default=(), flag="--set", metavar="FIELD=VALUE"
    )
    data: tuple[str, ...] = option(
        "a local copy of a data set (save_to_disk, parquet, or SPLIT/CLASS/image.png)",
        default=(),
        metavar="NAME=PATH",
    )
    runs: Path = option("store (default: runs)", default=Path("runs"), type=path, metavar="DIR")
    out: Path | None = option("folder of reports (default: in the store)", type=path, metavar="DIR")
    workers: int | None = option(
        "processes (default: one a GPU, or a core)", type=whole_number, metavar="N"
    )
    hang_seconds: int = option(
        "kill a silent run after S", default=600, type=whole_number, metavar="S"
    )
    json: bool = option("print results as JSON, and all else on stderr", default=False)
    execution: Execution = PLAIN


@dataclass(frozen=True, kw_only=True)
class StudyOptions(RunOptions):
    """What `python -m ns_bench.study` is asked."""

    study: str | None = positional(
        "a study (see --list), `all`, or a file that defines one", nargs="?"
    )
    list: bool = option("list studies and profiles", default=False)
    init: Path | None = option(
        "look at a folder of images, and write a profile that describes it",
        type=path,
        metavar="FOLDER",
    )
    seeds: int | None = option(
        "seeds 0 to N-1 (default: the profile's)", type=whole_number, metavar="N"
    )
    until_decided: bool = option(
        "go on from look to look of the schedule, with the claims that are open", default=False
    )
    max_seeds: int | None = option(
        "stop --until-decided there (default: the schedule's last look)",
        type=whole_number,
        metavar="N",
    )
    pilot: int | None = option(
        "run K tuning seeds: how many do claims need?", type=whole_number, metavar="K"
    )
    metrics: str = option(
        f"measure the networks of all arms, too: {','.join(GROUPS)},mine.py:NAME",
        default="",
        metavar="GROUPS",
    )
    recipe: Path | None = option(
        "fields from a TOML file, as --set would", type=path, metavar="FILE"
    )
    tuned: str | None = option(
        "each arm with the best recipe of its search, beside the study as it is",
        nargs="?",
        const="",
        metavar="SEARCH",
    )
    dry_run: bool = option(
        "show runs, dependencies and cost; do nothing", default=False, exclusive="mode"
    )
    list_runs: bool = option("with --dry-run of `all`: every run, too", default=False)
    retry_failed: bool = option("do failed runs again, too", default=False, exclusive="mode")
    verify: bool = option(
        "read every byte of what is done, and do again what is damaged", default=False
    )
    force: str | None = option(
        "do this finished run again", type=text, exclusive="mode", metavar="RUN"
    )
    read_only: bool = option(
        "train nothing: report what the store has", default=False, exclusive="mode"
    )
    status: bool = option("SLURM: where every run stands", default=False, exclusive="mode")
    cancel: bool = option(
        "SLURM: cancel what is still queued of the study", default=False, exclusive="mode"
    )
    logs: str | None = option(
        "SLURM: print the log of a run's last job", type=text, exclusive="mode", metavar="RUN"
    )


def report_only(options: StudyOptions) -> StudyOptions:
    """Return the options of a command that trains nothing and writes the same report.

    Files and folders are absolute, so that it can be called anywhere. Data sets are left out: a
    report reads results, and the machine that writes it may not have the images.
    """

    def absolute(name: str, suffix: str) -> str:
        return str(Path(name).resolve()) if name.endswith(suffix) else name

    modes: dict[str, Any] = {
        field.name: field.default
        for field in fields(options)
        if field.metadata.get("exclusive") == "mode"
    }
    return replace(
        options,
        verify=False,
        study=absolute(options.study or "", ".py"),
        profile=absolute(options.profile, ".toml"),
        recipe=options.recipe and options.recipe.resolve(),
        runs=options.runs.resolve(),
        out=(options.out or options.runs / "reports").resolve(),
        cluster="local",
        data=(),
        json=False,
        **{**modes, "read_only": True},
    )


@dataclass(frozen=True, kw_only=True)
class SearchOptions(RunOptions):
    """What `python -m ns_bench.search` is asked."""

    study: str = positional("a study, or a file that defines one")
    arm: str | None = option(
        "tune one arm (default: the baseline)", exclusive="arms", metavar="ARM"
    )
    per_arm: bool = option("tune every arm, each alike", default=False, exclusive="arms")
    trials: int | None = option(
        f"trials an arm (default: {TRIALS})", type=whole_number, metavar="N"
    )
    hours: float | None = option(
        "ask for no more trials after H hours", type=above_zero, metavar="H"
    )
    gpu_hours: float | None = option(
        "nor after H hours of training an arm", type=above_zero, metavar="H"
    )
    space: Path | None = option(
        "fields and ranges (default: the profile's)", type=path, metavar="FILE"
    )
    sampler: Sampler = option("default: tpe", default="tpe", choices=get_args(Sampler))
    sampler_seed: int = option("of the sampler (default: 0)", default=0, type=int, metavar="N")
    tuning_seeds: int = option("a trial's (default: 4)", default=4, type=whole_number, metavar="K")
    batch: int = option("trials at once (default: 8)", default=8, type=whole_number, metavar="B")
    pruning: Pruning = option(
        "both (default): the worse half of a batch stops within the first seed, and what is "
        "surely worse than the best stops between seeds; seeds: the second alone",
        default="both",
        choices=get_args(Pruning),
    )
    objectives: str = option(
        "accuracy (default), or the best of both, without pruning",
        default="accuracy",
        choices=tuple(OBJECTIVES),
    )
    storage: str | None = option("show the trials in this Optuna storage, too", metavar="URL")
    dry_run: bool = option("show spaces and cost; do nothing", default=False, exclusive="mode")
    retry_failed: bool = option("do failed runs again, too", default=False, exclusive="mode")
