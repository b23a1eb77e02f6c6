"""`python -m ns_bench.search STUDY`: tune the recipes of a study's arms, each with the same chance.

Calling it again goes on: trials are rebuilt from the store, killing it loses seconds. Exit codes:
0 the search is over (or the jobs are queued), 1 every trial of an arm failed, 2 bad input or an
unusable store, 130 stopped by Ctrl-C.
"""

import sys
from collections.abc import Sequence

from ns_bench.arguments import parse
from ns_bench.cli.options import SearchOptions
from ns_bench.errors import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        SearchOptions,
        arguments,
        prog="python -m ns_bench.search",
        description="Tune the recipes of a study's arms, on validation rows of tuning seeds.",
    )
    return exit_code(lambda: _run(options), "stopped; the same command goes on from here")


def _run(options: SearchOptions) -> int:
    from ns_bench.cli.tune import tune  # not needed by --help

    return tune(options)


if __name__ == "__main__":
    sys.exit(main())
