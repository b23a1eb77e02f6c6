"""The main figure of a study: every seed, paired lines, means with intervals, and the claims."""

import math
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ns_bench.report.analysis import Analysis

INK, POINT, MEAN, BAND = "#333333", "#8da9c4", "#134074", "#f2d492"
FORMATS = ("png", "svg")


def draw(analysis: Analysis) -> Figure:
    """Return the figure: arms on the left (one line a seed), claims' contrasts on the right."""
    sns.set_theme(style="ticks", context="paper", rc={"axes.spines.top": False})
    height = max(3.4, 0.55 * len(analysis.claims) + 1.6)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.5, height), width_ratios=(1.15, 1), layout="constrained"
    )
    _arms(left, analysis)
    _claims(right, analysis)
    figure.suptitle(analysis.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def save(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the figure in every format; the same results give the same bytes."""
    matplotlib.use("agg")
    figure = draw(analysis)
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": analysis.study.name, "svg.fonttype": "none"}):
        for suffix in FORMATS:
            path = folder / f"{analysis.study.name}.{suffix}"
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(path, dpi=160, metadata=metadata)
            paths.append(path)
    plt.close(figure)
    return paths


def _arms(axes: Axes, analysis: Analysis) -> None:
    names = [arm.name for arm in analysis.arms]
    done = analysis.runs.dropna(subset=["test_top1"])
    for _, seed in done.groupby("seed"):
        ordered = seed.set_index("arm")["test_top1"].reindex(names)
        axes.plot(range(len(names)), ordered, color=POINT, lw=0.8, alpha=0.7, zorder=1)
        axes.plot(range(len(names)), ordered, "o", color=POINT, ms=4, zorder=2)
    for i, arm in enumerate(analysis.arms):
        if arm.interval is None:
            continue
        mean, low, high = arm.interval.mean, arm.interval.low, arm.interval.high
        error = None if math.isnan(low) else [[mean - low], [high - mean]]
        axes.errorbar(i + 0.14, mean, error, fmt="D", color=MEAN, ms=5, capsize=3, zorder=3)
        axes.annotate(
            f"{mean:.1f}",
            (i + 0.14, mean),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=MEAN,
            fontsize=8,
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.35, len(names) - 0.4)
    axes.set_ylabel("test top-1 (%)")
    axes.set_title("every seed; mean with 95 % t-interval", loc="left", fontsize=9, color=INK)
    axes.yaxis.grid(True, color="#e6e6e6")
    sns.despine(ax=axes)


def _claims(axes: Axes, analysis: Analysis) -> None:
    count = len(analysis.claims)
    for i, result in enumerate(analysis.claims):
        y = count - 1 - i
        smallest = result.claim.smallest_effect
        axes.plot([-smallest, smallest], [y, y], color=BAND, lw=9, zorder=0, solid_capstyle="butt")
        if result.contrast is not None:
            c = result.contrast
            if not math.isnan(c.low):
                axes.plot([c.low, c.high], [y, y], color=MEAN, lw=1.6, zorder=2)
            axes.plot(c.mean, y, "D", color=MEAN, ms=5, zorder=3)
        words = f"{result.claim.text}\n{analysis.word(result)} ({result.claim.unit})"
        axes.annotate(
            words,
            (0, y),
            xycoords=("axes fraction", "data"),
            xytext=(0, 9),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_ylim(-0.5, count - 0.1)
    axes.set_yticks([])
    axes.set_xlabel("effect on test top-1; shaded: too small to matter")
    sns.despine(ax=axes, left=True)
