"""What the ± is over, what else it might be over, and the outcomes image by image behind that."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from ns_bench.data.catalog import describe
from ns_bench.design.definition import Weights, minus
from ns_bench.recipe import Recipe
from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING, effect, interval, p_value, points, share
from ns_bench.verdicts.analysis import Analysis, label
from ns_bench.verdicts.images import Spread, by_image, matrix, mcnemar, resampled, spread
from ns_bench.verdicts.statistics import Array, Interval, mean_interval

MOST = 12
"""Classes of a table, and pairs of classes: of more, those that are wrong most."""


@dataclass(frozen=True)
class _Row:
    """A contrast, maybe of two arms alone, with both of its intervals.

    values: its differences, [seeds, images].
    """

    name: str
    of_two: bool
    unit: str
    seeds: Interval
    beyond: Interval | None
    values: Array | None
    split: Spread | None


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return what the ± covers: in words, of each claim, and folded away in detail."""
    contrasts = [
        (weights, result.claim.unit)
        for result in analysis.claims
        if result.claim.metric == "top1"
        for weights in result.claim.contrasts
    ]
    claimed = {label(weights): (weights, unit) for weights, unit in contrasts}
    others = (minus(arm.name, analysis.baseline) for arm in analysis.arms if not arm.is_baseline)
    rest = {label(weights): (weights, "points") for weights in others}
    rows = _rows(analysis, claimed)
    more = _rows(analysis, {name: rest[name] for name in rest if name not in claimed})
    title = "What the ± covers"
    blocks: list[b.Block] = [b.Heading(title), b.Paragraph(over(analysis))]
    if any(row.beyond or row.split for row in rows):
        blocks.append(_table(title, rows))
    if any(row.beyond or row.split for row in more):
        blocks.append(b.Details("arms against the baseline", [_table(title, more)]))
    if any(row.split for row in [*rows, *more]):
        note = (
            "The last three columns split the variance of one seed's difference: into what is of "
            "the seed whatever the image, of the images whatever the seed, and of both together. "
            "More test images shrink the last two, more seeds shrink all."
        )
        blocks.append(b.Paragraph(note))
    return [*blocks, *_by_class(analysis), *_by_image([*rows, *more])]


def over(analysis: Analysis) -> str:
    """Say in words what the intervals over seeds are over, and what those beside them are over."""
    data = Recipe.of(analysis.profile.fields).data
    known = describe(data)
    crossed = (
        "kept apart from all rows that seeds train on: it holds for these images. Beside it the "
        "interval over new seeds and new test images, by the covariance of seeds that share images."
    )
    if known.test == data.test:
        said = f"seeds at one fixed set of {data.test:,} test images, {crossed}"
    elif known.test is not None:
        said = f"seeds, each of which draws {data.test:,} of {known.test:,} test images, {crossed}"
    elif known.images is None:
        said = (
            f"seeds, each with training images and {data.test:,} test images of its own: it is "
            "over new images, too."
        )
    else:
        said = (
            f"re-splits of the same {known.images:,} images: at each seed another {data.test:,} "
            f"are test images and {known.images - data.test - data.validation:,} may be trained "
            "on, so that two seeds share some of both. Beside it the corrected resampled "
            "t-interval (Nadeau and Bengio 2003), for images beyond these, which is on the safe "
            "side: as if all that two seeds share were of their images."
        )
    return f"The ± is over {said} Verdicts rest on the interval over seeds."


def _rows(analysis: Analysis, contrasts: dict[str, tuple[Weights, str]]) -> list[_Row]:
    data = Recipe.of(analysis.profile.fields).data
    known = describe(data)
    rows = []
    for name, (weights, unit) in contrasts.items():
        done = analysis.top1[list(weights)].dropna()
        if len(done) < 2:
            continue
        plain = mean_interval(done.to_numpy() @ np.array(list(weights.values())))
        found = by_image(analysis.runs, weights)
        whole = data.test > 1 and set(found) == set(done.index)  # old runs have no outcomes
        values = matrix(found) if whole else None
        split = None if values is None else spread(values)
        beyond = split.new_images if split and (known.images or known.test) else None
        if known.images and known.test is None:
            trained = known.images - data.test - data.validation
            beyond = resampled(plain, data.test, trained)
        of_two = sorted(weights.values()) == [-1, 1]
        rows.append(_Row(name, of_two, unit, plain, beyond, values, split))
    return rows


def _table(title: str, rows: Iterable[_Row]) -> b.Table:
    table = b.tabulate(
        title,
        rows,
        ("difference", lambda row: row.name),
        ("n", lambda row: str(row.seeds.n)),
        ("95 % t-interval over seeds", lambda row: effect(row.seeds, row.unit)),
        ("beyond these images", lambda row: interval(row.beyond, sign=True)),
        ("seeds", lambda row: _share(row.split, "seeds")),
        ("images", lambda row: _share(row.split, "images")),
        ("both", lambda row: _share(row.split, "rest")),
    )
    columns = range(3, len(table.header))
    empty = [table.header[i] for i in columns if all(row[i] == MISSING for row in table.rows)]
    return table.without(*empty)


def _share(split: Spread | None, part: str) -> str:
    if split is None:
        return MISSING
    whole = np.nansum([split.seeds, split.images, split.rest])
    return share(getattr(split, part) / whole if whole else None)


def _by_class(analysis: Analysis) -> list[b.Block]:
    """Return each arm's top-1 by class, and which classes it takes for which, over all seeds."""
    if "outcomes_per_class" not in analysis.runs:
        return []
    known = analysis.runs[analysis.runs["outcomes_per_class"] != ""]
    arms = {name: _confusion(runs) for name, runs in analysis.by_arm(known).items()}
    if not arms:
        return []
    shares = {name: _shares(table) for name, table in arms.items()}
    total = sum(shares.values(), np.zeros(1))
    worst = np.sort(np.argsort(np.diag(total), kind="stable")[:MOST])
    pairs = np.dstack(np.unravel_index(np.argsort(-total, axis=None, kind="stable"), total.shape))
    wrong = [(int(a), int(b)) for a, b in pairs[0] if a != b and total[a, b] > 0][:MOST]
    by_class = b.tabulate(
        "Top-1 by class (%)",
        shares.items(),
        ("arm", lambda item: item[0]),
        *((str(c), partial(_cell, at=(c, c))) for c in map(int, worst)),
    )
    confusions = b.tabulate(
        "Confusions (%)",
        wrong,
        ("class", lambda pair: str(pair[0])),
        ("taken for", lambda pair: str(pair[1])),
        *((arm, partial(_cell, (arm, table))) for arm, table in shares.items()),
    )
    which = f"the {MOST} that are wrong most often, " if len(total) > MOST else ""
    note = f"By class, {which}and what is taken for what, both of 100 test images of the class."
    return [b.Details("classes and confusions", [b.Paragraph(note), by_class, confusions])]


def _cell(item: tuple[str, Array], at: tuple[int, int]) -> str:
    return points(float(item[1][at]))


def _confusion(runs: pd.DataFrame) -> Array:
    """Return how many test images of each class [row] are said to be of each class [column]."""
    per_class = [np.array(text.split(), dtype=float) for text in runs["outcomes_per_class"]]
    table = np.diag(np.sum(per_class, axis=0))
    for text in runs["outcomes_confused"]:
        for pair in text.split():
            label, said, count = map(int, pair.replace(">", ":").split(":"))
            table[label, label] -= count
            table[label, said] += count
    return table


def _shares(table: Array) -> Array:
    """Return counts as percent of their row; nan in that of a class without test images."""
    images = table.sum(axis=1, keepdims=True)
    return 100 * table / np.where(images, images, np.nan)


def _by_image(rows: Iterable[_Row]) -> list[b.Block]:
    """Return the paired test by image of each difference of two arms, at its first seed."""
    tests = [
        (row.name, int((row.values[0] > 0).sum()), int((row.values[0] < 0).sum()))
        for row in rows
        if row.values is not None and row.of_two
    ]
    table = b.tabulate(
        "By image, first seed",
        tests,
        ("difference", lambda test: test[0]),
        ("right by the first alone", lambda test: str(test[1])),
        ("right by the second alone", lambda test: str(test[2])),
        ("p", lambda test: p_value(mcnemar(test[1], test[2]))),
    )
    note = (
        "Two networks of one seed, image by image (McNemar's exact test). It is about these two "
        "networks: of the methods it says nothing, since no seed varies."
    )
    return [b.Details("images, at the first seed", [b.Paragraph(note), table])] if tests else []
