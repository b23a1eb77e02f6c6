"""Pseudo-labels against the hidden truth: coverage, accuracy, balance and calibration."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ns_bench.report import blocks as b
from ns_bench.report import multiples
from ns_bench.report.numbers import MISSING, points, share
from ns_bench.verdicts.analysis import Analysis

ArmRuns = tuple[str, pd.DataFrame]
"""An arm's name and its runs."""


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return the diagnostics of every arm that has pseudo-labels."""
    if "pseudo_accuracy_used" not in analysis.runs:
        return []
    labeled = analysis.by_arm(analysis.runs[analysis.runs["pseudo_accuracy_used"].notna()])
    if not labeled:
        return []
    title = "Pseudo-labels (diagnostic, against the hidden truth)"
    balance = {
        "classes in the pool": "pseudo_per_class_pool",
        "classes where used": "pseudo_per_class_used",
    }
    table = b.tabulate(
        title,
        labeled.items(),
        ("arm", lambda item: item[0]),
        ("teacher's top-1 (%)", _mean("teacher_test_top1", points)),
        ("pool used", _mean("pseudo_coverage")),
        ("right in the pool", _mean("pseudo_accuracy_pool")),
        ("right where used", _mean("pseudo_accuracy_used")),
        ("mean confidence", _mean("pseudo_confidence")),
        *((heading, _balance(column)) for heading, column in balance.items()),
    )
    note = (
        " The last two columns are the shares of the rarest and of the most frequent predicted "
        "class: in the whole pool, then after selection and balancing."
    )
    if all(row[-1] == MISSING for row in table.rows):  # results from before it was stored
        table, note = table.without(*balance), ""
    return [
        b.Heading(title),
        table,
        b.Paragraph(f"Means over seeds.{note}"),
        *_calibration(analysis),
    ]


def _mean(column: str, show: Callable[[float | None], str] = share) -> Callable[[ArmRuns], str]:
    return lambda item: show(item[1][column].mean() if column in item[1] else math.nan)


def _balance(column: str) -> Callable[[ArmRuns], str]:
    """Return the mean shares of a run's rarest and most frequent class, e.g. `6 to 14 %`."""

    def cell(item: ArmRuns) -> str:
        counts = [_counts(text) for text in item[1].get(column, default=())]
        shares = [run / run.sum() for run in counts if run.sum()]
        if not shares:
            return MISSING
        low, high = (float(np.mean([end(run) for run in shares])) for end in (np.min, np.max))
        return f"{100 * low:.0f} to {share(high)}"

    return cell


def _counts(text: str) -> NDArray[np.int64]:
    return np.array(text.split(), dtype=np.int64)


def _calibration(analysis: Analysis) -> list[b.Block]:
    """Return how often the teacher is right, by its confidence; arms of one teacher together."""
    title = "Teacher's labels that are right, by its confidence"
    teachers = multiples.tenths(analysis)
    if not teachers:
        return []
    header = ["confidence", *map(", ".join, teachers)]
    rows: list[list[b.Text]] = [[f"{i / 10:.1f} to {(i + 1) / 10:.1f}"] for i in range(10)]
    for images, right in teachers.values():
        for row, n, k in zip(rows, images, right, strict=True):
            row.append(f"{share(k / n)} of {n:,}" if n else MISSING)
    note = (
        "Over the pools of all seeds, before selection, by tenths of confidence, drawn at their "
        "middle; of less than 1 % of the labels none is drawn. Dashed: a teacher that is right as "
        "often as its confidence says."
    )
    table = b.Details("the same in numbers", [b.Table(title, header, rows)])
    return [*multiples.blocks(analysis, "calibration", note), table]
