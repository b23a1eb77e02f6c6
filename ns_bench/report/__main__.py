"""`python -m ns_bench.report STUDY|all`: reports and the scorecard from results, training nothing.

`compare A B` and `export STUDY|all` have their own modules. Exit codes: 0 all is well, 1 a run
failed (or is below a failed one), 2 bad input, 130 stopped by Ctrl-C.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ns_bench.arguments import option, parse, whole_number
from ns_bench.errors import UserError, exit_code
from ns_bench.verdicts.sources import SourceOptions, analyses_of, folder_name, load_all

if TYPE_CHECKING:
    from ns_bench.verdicts.analysis import Analysis

LIVE_SECONDS = 5
"""How often --live renders again, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions(SourceOptions):
    """What `python -m ns_bench.report` is asked."""

    out: Path | None = option(
        "folder of reports (default: reports in the store, or the folder of --from)",
        type=Path,
        metavar="DIR",
    )
    live: int | None = option(
        f"render again every so often (default {LIVE_SECONDS} s) until all runs are done",
        nargs="?",
        type=whole_number,
        const=LIVE_SECONDS,
        metavar="SECONDS",
    )
    json: bool = option("print results as JSON, and all else on stderr", default=False)


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
    options = parse(
        ReportOptions,
        words,
        prog="python -m ns_bench.report",
        description="Write the report of a study, or every report and the scorecard of all.",
        epilog="Also: python -m ns_bench.report compare A B, python -m ns_bench.report export "
        "STUDY|all --out DIR; each has its own --help.",
    )
    return _live(options, options.live) if options.live else _report(options)


def _report(options: ReportOptions) -> int:
    analyses = analyses_of(options)
    if options.study == "all" and options.tables:
        _point_out_strays(options.tables)
    for path in _write(options, analyses):
        print(path, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        from ns_bench.report import results

        print(results.of_studies("report", analyses))
    failed = [run for a in analyses for run in a.unfinished if run.state in ("failed", "blocked")]
    return 1 if failed else 0


def _write(options: ReportOptions, analyses: "list[Analysis]", refresh: int = 0) -> list[str]:
    """Write every page; returns a line for each."""
    from ns_bench.report import page, scorecard

    out: Path = options.out or options.tables or options.runs / "reports"
    lines = []
    for analysis in analyses:
        folder = out / folder_name(analysis.study, analysis.profile)
        lines.append(f"report: {page.write(analysis, folder, refresh=refresh)}")
    if options.study == "all":
        lines.append(f"scorecard: {scorecard.write(analyses, out, refresh=refresh)}")
    return lines


def _live(options: ReportOptions, seconds: int) -> int:
    """Render every few seconds until no run is left to be done; then once more, as usual."""
    if options.json:
        raise UserError("--json shows results once: --live has no place beside it")
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
            lines = _write(options, analyses, refresh=seconds)
            print(f"{len(waiting)} runs to go; {lines[-1]}", flush=True)
        before = states
        time.sleep(seconds)


def _point_out_strays(source: Path) -> None:
    from ns_bench.design.definition import study_names
    from ns_bench.design.profile import profile_names

    studies, profiles = load_all(study_names(), profile_names())
    names = {folder_name(study, profile) for study in studies for profile in profiles}
    for stray in sorted(path.parent.name for path in source.glob("*/runs.csv")):
        if stray not in names:
            print(f"ns_bench: {source / stray} is of no study and profile", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
