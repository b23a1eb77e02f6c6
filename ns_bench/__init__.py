"""Which parts of self-training matter: the findings of Noisy Student (arXiv 1911.04252) as studies.

The functions here are for notebooks and scripts (docs/how-to/python.md); commands do the same.
Importing this package imports neither torch nor pandas: each function imports what it needs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from ns_bench.execute.trained import Trained

__version__ = "0.1.0"
__all__ = ["load", "read_curves", "read_findings", "read_runs", "run_study"]


def read_runs(folder: Path | str = "runs") -> "pd.DataFrame":
    """Return every run of a store that is done, a row each, in the order of their ids.

    Columns are those of a report's runs.csv (`test_top1` in %, `seconds`, `pseudo_coverage`, ...),
    without arms, and the fields of the recipe by their dotted names (`train.lr`), `seed`,
    `generation`, and `teacher`, the id of the run that it learned from. What was measured beside
    top-1 is in columns `test_GROUP_...`.

    Raises:
        UserError: there is no store.
    """
    from ns_bench.verdicts.tidy import runs_of

    return runs_of(Path(folder))


def read_curves(folder: Path | str = "runs") -> "pd.DataFrame":
    """Return what these runs logged while they trained, a row a look: `run`, `step`, `loss` (nats),
    `lr`, `validation_top1` (%), `seconds`, ..."""
    from ns_bench.verdicts.tidy import curves_of

    return curves_of(Path(folder))


def read_findings(
    study: str = "all",
    profiles: Sequence[str] = (),
    *,
    folder: Path | str = "runs",
    published: bool = False,
) -> "pd.DataFrame":
    """Return every claim and what became of it, a row a claim and profile: verdict, effect,
    interval, p, n, the paper's number.

    Args:
        study: a name, a file that defines one, or `all`.
        profiles: names or files; without any all that have results.
        folder: a store, or where tables are `published` (`reports/published`).

    Raises:
        UserError: an unknown name, or no results.
    """
    from ns_bench.report.export import tables
    from ns_bench.verdicts.sources import SourceOptions, analyses_of

    place = {"tables": Path(folder)} if published else {"runs": Path(folder)}
    options = SourceOptions(study=study, profile=tuple(profiles), **place)
    return tables(analyses_of(options))["findings"]


def load(run: Path | str, folder: Path | str = "runs") -> "Trained":
    """Return what a finished run trained: `network`, `transform` of a PIL image, `classes`.

    Args:
        run: its folder, or its id in the store `folder`.

    Raises:
        UserError: there is no such run, it is not done, or its data set is not to be found.
    """
    from ns_bench.execute.trained import load

    return load(run, folder)


def run_study(name: str, *options: str) -> int:
    """Run a study as `python -m ns_bench.study NAME OPTIONS` does; returns its exit code.

    Example:
        run_study("teacher_size", "--profile", "smoke", "--workers", "1")
    """
    from ns_bench.study import main

    try:
        return main([name, *options])
    except SystemExit as end:  # of options that cannot be read
        return int(end.code or 0)
