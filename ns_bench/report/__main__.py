"""`python -m ns_bench.report STUDY|all`: reports and the scorecard from results, training nothing.

Exit codes: 0 all is well, 1 a run failed (or is below a failed one), 2 bad input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ns_bench.definition import (
    Profile,
    Study,
    load_profile,
    load_study,
    profile_names,
    study_names,
)
from ns_bench.errors import UserError

if TYPE_CHECKING:
    from ns_bench.report.analysis import Analysis

TRIAL = "smoke"
"""The profile that is reported only where it is asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _report(options)
    except (UserError, OSError) as error:
        print(f"ns_bench: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.report",
        description="Write the report of a study, or every report and the scorecard of all.",
    )
    add = parser.add_argument
    add("study", help="a study, `all`, or a file that defines one")
    add(
        "--profile",
        action="append",
        metavar="PROFILE",
        help=f"may be given several times (default: all with results but {TRIAL})",
    )
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="store (default: runs)")
    add(
        "--from",
        type=Path,
        metavar="DIR",
        dest="tables",
        help="published results instead of a store: folders STUDY-PROFILE with runs.csv",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of reports (default: reports in the store, or the folder of --from)",
    )
    return parser


def _report(options: argparse.Namespace) -> int:
    everything = options.study == "all"
    studies = [load_study(name) for name in (study_names() if everything else [options.study])]
    usual = [name for name in profile_names() if name != TRIAL]
    profiles = [load_profile(name) for name in dict.fromkeys(options.profile or usual)]
    source: Path = options.tables or options.runs
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder to read results from")
    out: Path = options.out or options.tables or options.runs / "reports"

    found = [_analyse(s, p, options) for s in studies for p in profiles]
    analyses = [analysis for analysis in found if analysis is not None]
    there = {analysis.profile.name for analysis in analyses}
    for name in options.profile or ([] if there else [" or ".join(usual)]):
        if name not in there:
            raise UserError(f"{source}: no results of {options.study} in profile {name}")

    from ns_bench.report import page, scorecard

    if everything and options.tables:
        names = {
            page.folder_name(s, p) for s in studies for p in map(load_profile, profile_names())
        }
        for stray in sorted(p.parent.name for p in source.glob("*/runs.csv")):
            if stray not in names:
                print(f"ns_bench: {source / stray} is of no study and profile", file=sys.stderr)
    for analysis in analyses:
        folder = out / page.folder_name(analysis.study, analysis.profile)
        print(f"report: {page.write(analysis, folder)}")
    if everything:
        print(f"scorecard: {scorecard.write(analyses, out)}")
    failed = [run for a in analyses for run in a.unfinished if run.state in ("failed", "blocked")]
    return 1 if failed else 0


def _analyse(study: Study, profile: Profile, options: argparse.Namespace) -> "Analysis | None":
    """Analyse what there is of a study in a profile, or return None if there is nothing."""
    from ns_bench.plan import make_plan
    from ns_bench.report import page
    from ns_bench.report.analysis import analyse, collect, read
    from ns_bench.store import Store

    seeds = study.seeds.get(profile.name, profile.seeds)
    design = study.design(profile)
    if options.tables:
        folder = options.tables / page.folder_name(study, profile)
        if not folder.is_dir():
            return None
        runs, curves = read(folder)
        seeds = max(seeds, int(runs["seed"].max()) + 1)  # made with --seeds
    else:
        store = Store(options.runs, read_only=True)
        plan = make_plan(store, design.recipes(range(seeds)).values())
        if not plan.counts().keys() & {"done", "failed"}:
            return None
        runs, curves = collect(design, plan, seeds)
    return analyse(study, profile, design, runs, curves, seeds)


if __name__ == "__main__":
    sys.exit(main())
