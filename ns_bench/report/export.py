"""`python -m ns_bench.report export STUDY|all --out DIR`: results for those with their own tools.

Tidy tables (runs, curves, findings) as Parquet. Exit codes: 0, 2 bad input.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from ns_bench.verdicts.analysis import Analysis


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from ns_bench.report.__main__ import analyses_of

    options = _parser().parse_args(arguments)
    for path in parquet(analyses_of(options), options.out):
        print(f"parquet: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    from ns_bench.report.__main__ import add_source

    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.report export", description="Write results as Parquet tables."
    )
    parser.add_argument("study", help="a study, `all`, or a file that defines one")
    add_source(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    return parser


def tables(analyses: "Sequence[Analysis]") -> "dict[str, pd.DataFrame]":
    """Return the tidy tables by name, each row with its study and profile."""
    import pandas as pd

    from ns_bench.report.scorecard import frame

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
