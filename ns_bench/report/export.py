"""`python -m ns_bench.report export STUDY|all --out DIR`: results for those with their own tools.

Tidy tables (runs, curves, findings) as Parquet; with --timm, and a run instead of a study, its
network; with --track finished runs to a tracker of experiments. Exit codes: 0, 2 bad input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ns_bench.arguments import option, parse
from ns_bench.errors import UserError
from ns_bench.verdicts.sources import SourceOptions, analyses_of

if TYPE_CHECKING:
    import pandas as pd

    from ns_bench.verdicts.analysis import Analysis


@dataclass(frozen=True, kw_only=True)
class ExportOptions(SourceOptions):
    """What `python -m ns_bench.report export` is asked."""

    out: Path | None = option("folder to write to", type=Path, metavar="DIR")
    timm: bool = option(
        "the network of a run, whose folder or id is said instead of a study, as timm loads it",
        default=False,
    )
    track: str | None = option(
        "show the store's finished runs in a tracker instead, where that is set to keep them",
        choices=("mlflow", "trackio"),
    )


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        ExportOptions,
        arguments,
        prog="python -m ns_bench.report export",
        description="Write results as Parquet tables, or a run's network for timm.",
    )
    if options.track:
        return _track(options.track, options)
    if options.out is None:
        raise UserError("export needs --out DIR, the folder to write to")
    if options.timm:
        from ns_bench.execute import timm_folder, trained

        timm_folder.write(trained.load(options.study, options.runs), options.out)
        print(f"timm: {options.out}")
        return 0
    for path in parquet(analyses_of(options), options.out):
        print(f"parquet: {path}")
    return 0


def _track(tracker: str, options: ExportOptions) -> int:
    from ns_bench.report.track import track
    from ns_bench.verdicts.tidy import curves_of, runs_of

    if options.tables or options.out or options.timm:
        raise UserError("--track reads a store: --from, --out and --timm have no place beside it")
    analyses = analyses_of(options)
    for line in track(tracker, analyses, runs_of(options.runs), curves_of(options.runs)):
        print(line)
    return 0


def tables(analyses: "Sequence[Analysis]") -> "dict[str, pd.DataFrame]":
    """Return the tidy tables by name, each row with its study and profile."""
    import pandas as pd

    from ns_bench.report.findings import frame

    def together(name: str) -> pd.DataFrame:
        parts = []
        for analysis in analyses:
            part: pd.DataFrame = getattr(analysis, name).copy()
            if not part.empty:
                part.insert(0, "study", analysis.study.name)
                part.insert(1, "profile", analysis.profile.name)
                parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    runs, findings = together("runs"), frame(analyses)
    # A column of words that one study has may be one that another lacks.
    words = runs.columns[[runs[column].dtype == object for column in runs]]
    runs[words] = runs[words].fillna("").astype(str)
    if "paper_verified" in findings:
        findings["paper_verified"] = findings["paper_verified"].astype(str)
    return {"runs": runs, "curves": together("curves"), "findings": findings}


def parquet(analyses: "Sequence[Analysis]", folder: Path) -> list[Path]:
    """Write runs, curves and findings as Parquet; the same results give the same bytes."""
    from io import BytesIO

    from ns_bench.files import publish

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in tables(analyses).items():
        file = BytesIO()
        table.to_parquet(file, index=False)
        paths.append(folder / f"{name}.parquet")
        publish(paths[-1], file.getvalue())
    return paths
