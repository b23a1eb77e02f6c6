"""The paper's own numbers, and the independent reproductions, as data: `reports/paper.csv`.

A row with `verified=False` was not read in a source; whoever shows it says so.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ns_bench.errors import unknown
from ns_bench.files import folder

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

    @property
    def where(self) -> str:
        """The source, and whether the number was not read there."""
        return self.source + ("" if self.verified else " (unverified)")


def rows(study: str | None = None) -> list[PaperRow]:
    """Every row of the table in its order, or only the rows of one study."""
    with (folder("reports") / "paper.csv").open(newline="", encoding="utf-8") as file:
        table = [_row(record) for record in csv.DictReader(file, strict=True)]
    return [row for row in table if study is None or row.study == study]


@dataclass(frozen=True)
class Effect:
    """A contrast of the paper's numbers and the versions of the paper it is from."""

    value: float
    versions: tuple[str, ...]
    verified: bool

    def __str__(self) -> str:
        doubt = "" if self.verified else ", unverified"
        return f"{self.value:+.2f} [{', '.join(self.versions)}{doubt}]"


def effect(
    study: str, weights: Mapping[str, float], metric: str = "top1", *, logarithm: bool = False
) -> Effect:
    """Return the weighted sum of the paper's top-1, or another metric, of some arms of `study`.

    With `logarithm` it is of the logarithms to base 2. Of several versions of an arm v4 counts,
    else v2, else the first in the table.

    Raises:
        UserError: an arm has no such metric in the table.
    """
    versions: dict[str, list[PaperRow]] = {}
    for row in rows(study):
        if row.metric == metric and row.value is not None:
            versions.setdefault(row.arm, []).append(row)
    chosen = {}
    for arm in weights:
        if arm not in versions:
            raise unknown(f"arm of the paper's {study}", arm, versions)
        chosen[arm] = min(
            versions[arm], key=lambda row: _PREFERRED.get(row.version, len(_PREFERRED))
        )
    numbers = {arm: float(row.value or 0) for arm, row in chosen.items()}
    if logarithm:
        numbers = {arm: math.log2(number) for arm, number in numbers.items()}
    value = sum(weight * numbers[arm] for arm, weight in weights.items())
    return Effect(
        value=round(value, 6) + 0.0,  # 78.8 - 78.1 is .7, and nothing is -0
        versions=tuple(sorted({row.version for row in chosen.values()}, reverse=True)),
        verified=all(row.verified for row in chosen.values()),
    )


_PREFERRED = {"v4": 0, "v2": 1}


def _row(record: dict[str, str]) -> PaperRow:
    words = {name: text for name, text in record.items() if name not in ("value", "verified")}
    value = float(record["value"]) if record["value"] else None
    return PaperRow(**words, value=value, verified=_TRUTH[record["verified"]])
