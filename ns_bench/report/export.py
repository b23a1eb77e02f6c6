"""`python -m ns_bench.report export STUDY|all --out DIR`: results for those with their own tools.

Tidy Parquet tables (runs, curves, findings) and the learning curves as TensorBoard event files,
one folder a run. Exit codes: 0, 2 bad input.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ns_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from ns_bench.verdicts.analysis import Analysis

FORMATS = ("parquet", "tensorboard")


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from ns_bench.report.__main__ import analyses_of

    options = _parser().parse_args(arguments)
    analyses = analyses_of(options)
    for name in options.format or FORMATS:
        if name == "parquet":
            for path in parquet(analyses, options.out):
                print(f"parquet: {path}")
        elif (count := tensorboard(analyses, options.out / "tensorboard")) is not None:
            print(f"tensorboard: {options.out / 'tensorboard'} ({count} runs)")
        elif options.format:
            raise UserError(_MISSING)
        else:
            print(f"ns_bench: {_MISSING}", file=sys.stderr)
    return 0


_MISSING = "no event files: pip install tensorboard writes them, too"


def _parser() -> argparse.ArgumentParser:
    from ns_bench.report.__main__ import add_source

    parser = argparse.ArgumentParser(
        prog="python -m ns_bench.report export",
        description="Write results as Parquet tables and TensorBoard event files.",
    )
    parser.add_argument("study", help="a study, `all`, or a file that defines one")
    add_source(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--format", action="append", choices=FORMATS, help="only this one (default: both)"
    )
    return parser


def tables(analyses: "Sequence[Analysis]") -> "dict[str, pd.DataFrame]":
    """Return the tidy tables by name, each row with its study and profile."""
    import pandas as pd

    from ns_bench.report.scorecard import frame

    found = {}
    for name in ("runs", "curves"):
        parts = []
        for analysis in analyses:
            part: pd.DataFrame = getattr(analysis, name).copy()
            if not part.empty:
                part.insert(0, "study", analysis.study.name)
                part.insert(1, "profile", analysis.profile.name)
                parts.append(part)
        found[name] = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    for column in found["runs"].columns:
        if found["runs"][column].dtype == object:  # a column that one study has and another lacks
            found["runs"][column] = found["runs"][column].fillna("").astype(str)
    findings = frame(analyses)
    if "paper_verified" in findings:
        findings["paper_verified"] = findings["paper_verified"].astype(str)
    return {**found, "findings": findings}


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


def tensorboard(analyses: "Sequence[Analysis]", folder: Path) -> int | None:
    """Write every learning curve as an event file STUDY-PROFILE/ARM/seed-N/events...; count them.

    Wall time is that of training, from 0 on: the same results give the same bytes. None if
    tensorboard is not installed.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return None
    from ns_bench.verdicts.sources import folder_name

    count = 0
    for analysis in analyses:
        curves = analysis.curves
        if curves.empty:
            continue
        names = _folders([arm.name for arm in analysis.arms])
        scores = [str(c) for c in curves if c not in ("arm", "seed", "step", "seconds")]
        for key, rows in curves.groupby(["arm", "seed"], sort=False):
            arm, seed = tuple(key)
            place = folder / folder_name(analysis.study, analysis.profile)
            place = place / names[str(arm)] / f"seed-{seed}"
            place.mkdir(parents=True, exist_ok=True)
            with (place / "events.out.tfevents.0.ns_bench").open("wb") as file:
                writer = RecordWriter(file)
                writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
                for row in rows.to_dict("records"):
                    event = _event(Event, Summary, row, scores)
                    writer.write(event.SerializeToString(deterministic=True))
                writer.flush()
            count += 1
    return count


def _event(event: Any, summary: Any, row: Mapping[Any, Any], scores: list[str]) -> Any:
    values = [
        summary.Value(tag=re.sub("^(validation|test)_", r"\1/", name), simple_value=row[name])
        for name in scores
        if row[name] == row[name]  # not a gap
    ]
    seconds = row.get("seconds", 0.0)
    return event(
        wall_time=seconds if seconds == seconds else 0.0,
        step=int(row["step"]),
        summary=summary(value=values),
    )


def _folders(arms: Sequence[str]) -> dict[str, str]:
    """Return a folder's name for each arm: its own name where that can be one, never two alike."""
    found: dict[str, str] = {}
    for arm in arms:
        name = base = re.sub(r"[^\w.+=, -]+", "_", arm).strip(". ") or "arm"
        number = 2
        while name in found.values():
            name, number = f"{base}-{number}", number + 1
        found[arm] = name
    return found
