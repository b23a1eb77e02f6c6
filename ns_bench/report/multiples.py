"""Small plots of one kind on the same axes, a curve each: learning curves, top-1 by severity of the
corruptions, and how often a teacher is right by its confidence."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ns_bench.report import style
from ns_bench.report.blocks import Block, Panel, Paragraph, Picture
from ns_bench.report.style import GRID, INK, LINE, MEAN, POINT, wrap
from ns_bench.robustness import SEVERITIES
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.statistics import mean_interval

Array = NDArray[np.float64]

LEAST = 0.01
"""Share of the labels that a tenth of confidence needs to be drawn."""


@dataclass(frozen=True)
class Multiples:
    """A small plot for each of several curves.

    Attributes:
        each: {name: (x, mean, low, high)}; the bounds are nan where there is no interval.
        dashed: (x, y) of the line that is dashed in all plots but in the one of its own name.
        of: that name, or what the line is.
        y, x: what the axes are.
        limits: of y, which all plots share; learning curves climb into them from below.
    """

    each: dict[str, tuple[Array, Array, Array, Array]]
    dashed: tuple[Array, Array]
    of: str
    y: str
    x: str
    limits: tuple[float, float]


def learning(analysis: Analysis) -> Multiples | None:
    """Return validation top-1 of each arm by step; None where no run stored it."""
    table = analysis.curves
    if "validation_top1" not in table or table["validation_top1"].isna().all():
        return None
    each = {}
    for arm, rows in analysis.by_arm(table.dropna(subset=["validation_top1"])).items():
        by_step = rows.groupby("step")["validation_top1"].agg(mean_interval)
        bounds = np.array([(i.mean, i.low, i.high) for i in by_step])
        each[arm] = (by_step.index.to_numpy(), *bounds.T)
    late = [mean[steps >= steps[-1] / 4] for steps, mean, _, _ in each.values()]
    return _beside_baseline(analysis, each, np.concatenate(late), "validation top-1 (%)", "step")


def severities(analysis: Analysis) -> Multiples | None:
    """Return top-1 on corrupted images of each arm by severity, 0 being clean; None unmeasured."""
    if "corruption" not in analysis.metrics:
        return None
    tables = [analysis.top1, *(analysis.values(f"corruption_severity_{s}") for s in SEVERITIES)]
    each = {}
    for arm in (arm.name for arm in analysis.arms):
        values = [table[arm].dropna().to_numpy() for table in tables]
        if all(map(len, values)):
            bounds = np.array([(i.mean, i.low, i.high) for i in map(mean_interval, values)])
            each[arm] = (np.array([0, *SEVERITIES]), *bounds.T)
    means = np.concatenate([mean for _, mean, _, _ in each.values()])
    x = "severity of the corruptions, 0: clean"
    return _beside_baseline(analysis, each, means, "test top-1 (%)", x)


def calibration(analysis: Analysis) -> Multiples | None:
    """Return how many of a teacher's labels are right by its confidence; None where not stored."""
    each = {}
    for names, (images, right) in tenths(analysis).items():
        shown = images >= max(LEAST * images.sum(), 1)
        middle, none = np.arange(5.0, 100, 10)[shown], np.full(shown.sum(), np.nan)
        each[", ".join(names)] = (middle, 100 * right[shown] / images[shown], none, none)
    if not each:
        return None
    ends = np.array([0.0, 100.0])
    what = "labels of the pool that are right (%)"
    return Multiples(each, (ends, ends), "calibrated", what, "teacher's confidence (%)", (0, 100))


def tenths(analysis: Analysis) -> dict[tuple[str, ...], tuple[NDArray[np.int64], ...]]:
    """Return the pool's images by tenth of the teacher's confidence, and those labeled right.

    Both are int64 [10], sums over seeds; arms whose labels are of one teacher are together.
    """
    columns = ["pseudo_per_tenth", "pseudo_per_tenth_right"]
    if not set(columns) <= set(analysis.runs):  # results from before it was stored
        return {}
    arms: dict[tuple[int, ...], list[str]] = {}
    for name, runs in analysis.by_arm(analysis.runs[analysis.runs[columns[0]] != ""]).items():
        counts = [np.array([*map(str.split, runs[c])], dtype=np.int64).sum(0) for c in columns]
        arms.setdefault(tuple(np.concatenate(counts)), []).append(name)
    return {tuple(names): tuple(np.split(np.array(n), 2)) for n, names in arms.items()}


KINDS: dict[str, Callable[[Analysis], Multiples | None]] = {
    "curves": learning,
    "severities": severities,
    "calibration": calibration,
}


def found(analysis: Analysis) -> dict[str, Multiples]:
    """Return the kinds of curves that a study's tables have."""
    drawn = {kind: make(analysis) for kind, make in KINDS.items()}
    return {kind: curves for kind, curves in drawn.items() if curves is not None}


def blocks(analysis: Analysis, kind: str, note: str) -> list[Block]:
    """Return a kind's picture under a line that says what is drawn; nothing where there is none."""
    curves = KINDS[kind](analysis)
    if curves is None:
        return []
    what = f"{curves.y[0].upper()}{curves.y[1:]} by {curves.x}"
    panels = [
        Panel(f"{kind}-{i}", f"{what}: {name}, {mean[-1]:.1f} at {x[-1]:g}")
        for i, (name, (x, mean, _, _)) in enumerate(curves.each.items())
    ]
    return [
        Paragraph(f"{what}. {note}"),
        Picture(f"{analysis.study.name}_{kind}", f"{what}, a plot each", panels, rem=10.5),
    ]


def draw(curves: Multiples, title: str, width: float) -> Figure:
    """Return all plots as one figure, at most `width` inches wide."""
    many = 4 if len(curves.each) <= 12 else 6
    columns = min(len(curves.each), many)
    rows = math.ceil(len(curves.each) / columns)
    names = [wrap(name, 104 // many) for name in curves.each]
    height = rows * (1.5 + LINE * max(name.count("\n") + 1 for name in names)) + 0.8
    figure = Figure(figsize=(width * max(columns, 2) / many, height))
    plots = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, name, text in zip(plots, curves.each, names, strict=False):
        _plot(axes, curves, name)
        axes.set_title(text, fontsize=8, color=INK, loc="left")
    for i, axes in enumerate(plots):
        axes.set_visible(i < len(names))
        axes.tick_params(labelbottom=i + columns >= len(names))  # nothing stands below it
    figure.supxlabel(f"{curves.x}; dashed: {wrap(curves.of, 60)}", fontsize=9)
    figure.supylabel(curves.y, fontsize=9)
    style.title(figure, title)
    return figure


def draw_one(curves: Multiples, number: int) -> Figure:
    """Return one plot, so small that two stand side by side on a phone and six on a screen."""
    names = [wrap(name, 20) for name in curves.each]
    plot = 1.25
    height = plot + LINE * max(name.count("\n") + 1 for name in names)
    figure = Figure(figsize=(1.5, height))
    axes = figure.add_axes((0.19, 0.2 / height, 0.72, (plot - 0.25) / height))
    _plot(axes, curves, list(curves.each)[number])
    axes.tick_params(labelsize=7, length=2.5, pad=2)
    below = (plot + 0.03) / height
    figure.text(0.02, below, names[number], va="bottom", fontsize=7.5, color=INK)
    return figure


def _beside_baseline(
    analysis: Analysis,
    each: dict[str, tuple[Array, Array, Array, Array]],
    shown: Array,
    y: str,
    x: str,
) -> Multiples:
    """Return curves beside the baseline's, on a scale on which the values of `shown` differ."""
    margin = max(0.3 * (shown.max() - shown.min()), 1.0)
    limits = (max(shown.min() - margin, 0), min(shown.max() + margin, 100))
    base = each.get(analysis.baseline)
    dashed = (base[0], base[1]) if base else (np.empty(0), np.empty(0))
    return Multiples(each, dashed, analysis.baseline, y, x, limits)


def _plot(axes: Axes, curves: Multiples, name: str) -> None:
    x, mean, low, high = curves.each[name]
    if name != curves.of:
        axes.plot(*curves.dashed, color=POINT, ls="--", lw=1.2, zorder=1)
    marker = "o" if len(x) <= 10 else ""
    axes.plot(x, mean, color=MEAN, lw=1.6, marker=marker, ms=3, zorder=3)
    if not np.isnan(low).any():
        axes.fill_between(x, low, high, color=MEAN, alpha=0.15, lw=0, zorder=2)
    axes.set_ylim(curves.limits)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.grid(True, color=GRID)
