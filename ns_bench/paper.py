"""The paper's own numbers, and the independent reproductions, as data: `reports/paper.csv`.

A row with `verified=False` was not read in a source; whoever shows it says so.
"""

import csv
from dataclasses import dataclass

from ns_bench.resources import folder

_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class PaperRow:
    """One published number, with the version of the paper and the place where it was read."""

    study: str
    arm: str
    metric: str
    value: float | None  # None: the source prints a dash
    unit: str
    version: str
    source: str
    verified: bool
    note: str


def rows(study: str | None = None) -> list[PaperRow]:
    """Every row of the table in its order, or only the rows of one study."""
    with (folder("reports") / "paper.csv").open(newline="", encoding="utf-8") as file:
        table = [_row(record) for record in csv.DictReader(file, strict=True)]
    return [row for row in table if study is None or row.study == study]


def _row(record: dict[str, str]) -> PaperRow:
    return PaperRow(
        study=record["study"],
        arm=record["arm"],
        metric=record["metric"],
        value=float(record["value"]) if record["value"] else None,
        unit=record["unit"],
        version=record["version"],
        source=record["source"],
        verified=_TRUTH[record["verified"]],
        note=record["note"],
    )
