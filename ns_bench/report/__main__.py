"""`python -m ns_bench.report STUDY|all`: reports and the scorecard from results, training nothing.

`compare A B` and `export STUDY|all` have their own modules. Exit codes: 0 all is well, 1 a run
failed (or is below a failed one), 2 bad input, 130 stopped by Ctrl-C.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ns_bench.design.definition import Study, study_names
from ns_bench.design.profile import Profile, profile_names
from ns_bench.errors import UserError, exit_code
from ns_bench.verdicts.sources import (
    TRIAL,
    folder_name,
    from_store,
    from_tables,
    load_all,
    usual_profiles,
)

if TYPE_CHECKING:
    from ns_bench.verdicts.analysis import Analysis

LIVE_SECONDS = 5
"""How often --live renders again, unless told otherwise."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _run(words), "stopped")


def _run(words: list[str]) -> int:
    if words[:1] == ["compare"]:
        from ns_bench.report.compare import run as compare

        return compare(words[1:])
    if words[:1] == ["export"]:
        from ns_bench.report.export import run as export

        return export(words[1:])
    options = _parser().parse_args(words)
    return _live(options) if options.live else _report(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.report",
        description="Write the report of a study, or every report and the scorecard of all.",
        epilog="Also: python -m ns_bench.report compare A B, python -m ns_bench.report export "
        "STUDY|all --out DIR; each has its own --help.",
    )
    add = parser.add_argument
    add("study", help="a study, `all`, or a file that defines one")
    add_source(parser)
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of reports (default: reports in the store, or the folder of --from)",
    )
    add(
        "--live",
        nargs="?",
        type=_seconds,
        const=LIVE_SECONDS,
        metavar="SECONDS",
        help=f"render again every so often (default {LIVE_SECONDS} s) until all runs are done",
    )
    return parser


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where results are read from."""
    add = parser.add_argument
    add(
        "--profile",
        action="append",
        metavar="PROFILE",
        help="or a TOML file with a profile of your own; may be given several times (default: all "
        f"with results but {TRIAL})",
    )
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="store (default: runs)")
    add(
        "--from",
        type=Path,
        metavar="DIR",
        dest="tables",
        help="published results instead of a store: folders STUDY-PROFILE with runs.csv",
    )


def _seconds(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}': expected whole seconds of at least 1")
    return value


def chosen(options: argparse.Namespace) -> tuple[list[Study], list[Profile]]:
    """Return the studies and profiles that the options name."""
    source: Path = options.tables or options.runs
    names = study_names() if options.study == "all" else [options.study]
    found = load_all(names, dict.fromkeys(options.profile or usual_profiles()))
    if not source.is_dir():
        raise UserError(f"{source}: there is no such folder to read results from")
    return found


def analyses_of(options: argparse.Namespace, *, empty: bool = False) -> "list[Analysis]":
    """Analyse whatever there is of the studies and profiles that the options name.

    Args:
        empty: whether a study of which nothing is done yet counts, in profiles that are asked for.

    Raises:
        UserError: there is nothing, or nothing in a profile that was asked for.
    """
    studies, profiles = chosen(options)
    found = [
        from_tables(study, profile, options.tables)
        if options.tables
        else from_store(study, profile, options.runs, empty=empty and bool(options.profile))
        for study in studies
        for profile in profiles
    ]
    analyses = [analysis for analysis in found if analysis is not None]
    there = {analysis.profile.name for analysis in analyses}
    source = options.tables or options.runs
    for name in options.profile or ([] if there else [" or ".join(usual_profiles())]):
        if Path(name).name.removesuffix(".toml") not in there:
            raise UserError(f"{source}: no results of {options.study} in profile {name}")
    return analyses


def _report(options: argparse.Namespace) -> int:
    analyses = analyses_of(options)
    if options.study == "all" and options.tables:
        _point_out_strays(options.tables)
    for path in _write(options, analyses):
        print(path)
    failed = [run for a in analyses for run in a.unfinished if run.state in ("failed", "blocked")]
    return 1 if failed else 0


def _write(options: argparse.Namespace, analyses: "list[Analysis]", refresh: int = 0) -> list[str]:
    """Write every page; returns what to say of it."""
    from ns_bench.report import page, scorecard

    out: Path = options.out or options.tables or options.runs / "reports"
    said = []
    for analysis in analyses:
        folder = out / folder_name(analysis.study, analysis.profile)
        said.append(f"report: {page.write(analysis, folder, refresh=refresh)}")
    if options.study == "all":
        said.append(f"scorecard: {scorecard.write(analyses, out, refresh=refresh)}")
    return said


def _live(options: argparse.Namespace) -> int:
    """Render again and again until no run is left to be done; then once more, as usual."""
    if options.tables:
        raise UserError("--live reads a store that changes: --from has no place beside it")
    before = None
    while True:
        analyses = analyses_of(options, empty=True)
        waiting = [
            run for a in analyses for run in a.unfinished if run.state not in ("failed", "blocked")
        ]
        if not waiting:
            return _report(options)
        states = [a.runs[["run", "state"]].to_numpy().tolist() for a in analyses]
        if states != before or any(run.state == "running" for run in waiting):
            said = _write(options, analyses, refresh=options.live)
            print(f"{len(waiting)} runs to go; {said[-1]}", flush=True)
        before = states
        time.sleep(options.live)


def _point_out_strays(source: Path) -> None:
    studies, profiles = load_all(study_names(), profile_names())
    names = {folder_name(study, profile) for study in studies for profile in profiles}
    for stray in sorted(path.parent.name for path in source.glob("*/runs.csv")):
        if stray not in names:
            print(f"ns_bench: {source / stray} is of no study and profile", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
