"""`python -m ns_bench.study NAME`: plan, do what is missing, show the table, write the report.

Calling it twice costs nothing; killing it loses seconds. Exit codes: 0 all runs done (or submitted,
or only looked at), 1 a run failed (or is below a failed one), 2 bad input or an unusable store, 130
stopped by Ctrl-C.
"""

import sys
from collections.abc import Sequence

from ns_bench.arguments import parse
from ns_bench.cli.options import StudyOptions
from ns_bench.errors import UserError, exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        StudyOptions,
        arguments,
        prog="python -m ns_bench.study",
        description="Run a study: plan, do what is missing, show the table, write the report.",
    )
    return exit_code(lambda: _run(options), "stopped; the same command goes on from here")


def _run(options: StudyOptions) -> int:
    # What --help does not need is imported once it is known that more was asked.
    from ns_bench.design.definition import study_names

    if options.list and options.json:
        raise UserError("--json shows results: --list has none")
    if options.list:
        from ns_bench.cli.listing import list_studies

        return list_studies()
    if options.init:
        from ns_bench.cli.init import init

        return init(options.init)
    if not options.study:
        raise UserError(f"which study? One of {', '.join(study_names())} (or --list)")
    from ns_bench.cli.reconcile import reconcile

    return reconcile(options)


if __name__ == "__main__":
    sys.exit(main())
