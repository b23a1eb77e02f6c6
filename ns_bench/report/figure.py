"""The main figure of a study: every seed, paired lines, means with intervals, and the claims."""

import math
import textwrap
from pathlib import Path

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ns_bench.report.analysis import Analysis

INK, POINT, MEAN, BAND = "#333333", "#8da9c4", "#134074", "#f2d492"
FORMATS = ("png", "svg")

WIDTH = 11.0
"""Of the figure, in inches."""
LINE = 0.155
"""Height of a line of text at 8 points, in inches."""
UPRIGHT = 6
"""With more arms than these their names stand on the y axis, where they have room."""


def draw(analysis: Analysis) -> Figure:
    """Return the figure: arms on the left (one line a seed), claims' contrasts on the right."""
    sns.set_theme(style="ticks", context="paper", rc={"axes.spines.top": False})
    texts = [_text(analysis, i) for i in range(len(analysis.claims))]
    lines = sum(text.count("\n") + 1 + _BAR for text in texts)
    arms = 0.3 * len(analysis.arms) if _lying(analysis) else 2.4
    height = 1.2 + max(2.2, arms, LINE * lines)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _arms(left, analysis)
    _claims(right, analysis, texts)
    title = "\n".join(textwrap.wrap(analysis.title, 100))
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def save(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the figure in every format; the same results give the same bytes."""
    return write(draw(analysis), folder / analysis.study.name)


def write(figure: Figure, stem: Path) -> list[Path]:
    """Write `figure` to `stem` with the suffix of every format."""
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        for suffix in FORMATS:
            path = stem.with_name(f"{stem.name}.{suffix}")
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(path, dpi=160, metadata=metadata)
            paths.append(path)
    return paths


def plain(text: str) -> str:
    """Keep a name from being read as mathematics."""
    return text.replace("$", r"\$")


def _lying(analysis: Analysis) -> bool:
    return len(analysis.arms) > UPRIGHT


def _arms(axes: Axes, analysis: Analysis) -> None:
    names = [arm.name for arm in analysis.arms]
    places = list(range(len(names)))
    lying = _lying(analysis)
    done = analysis.runs[analysis.runs["arm"] != ""].dropna(subset=["test_top1"])
    for _, seed in done.groupby("seed"):
        values = seed.set_index("arm")["test_top1"].reindex(names).to_numpy()
        line = (values, places) if lying else (places, values)
        axes.plot(*line, color=POINT, lw=0.8, alpha=0.4 if lying else 0.7, zorder=1)
        axes.plot(*line, "o", color=POINT, ms=4, zorder=2)
    for i, arm in enumerate(analysis.arms):
        if arm.interval is None:
            continue
        mean, low, high = arm.interval.mean, arm.interval.low, arm.interval.high
        error = None if math.isnan(low) else [[mean - low], [high - mean]]
        x, y = (mean, i + 0.28) if lying else (i + 0.14, mean)
        axes.errorbar(
            x,
            y,
            xerr=error if lying else None,
            yerr=None if lying else error,
            fmt="D",
            color=MEAN,
            ms=5,
            capsize=3,
            zorder=3,
        )
        # Lying, the mean is written at the edge, where no point can be.
        axes.annotate(
            f"{mean:.1f}",
            (1, i) if lying else (x, y),
            xycoords=("axes fraction", "data") if lying else "data",
            xytext=(4, 0) if lying else (7, 0),
            textcoords="offset points",
            va="center",
            color=MEAN,
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            zorder=4,
        )
    label = "test top-1 (%)"
    if lying:
        axes.set_yticks(places, [wrap(name, 34) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.5)
        axes.set_xlabel(label)
        axes.xaxis.grid(True, color="#e6e6e6")
    else:
        axes.set_xticks(places, [wrap(name, 66 // len(names)) for name in names])
        axes.set_xlim(-0.35, len(names) - 0.4)
        axes.set_ylabel(label)
        axes.yaxis.grid(True, color="#e6e6e6")
    axes.set_title("every seed; mean with 95 % t-interval", loc="left", fontsize=9, color=INK)
    sns.despine(ax=axes)


def wrap(text: str, width: int) -> str:
    """Break `text` into lines of at most `width` characters, 8 at least."""
    return plain("\n".join(textwrap.wrap(text, max(width, 8))))


_BAR = 2.2
"""Room below a claim's text for its interval, in lines."""


def _text(analysis: Analysis, i: int) -> str:
    result = analysis.claims[i]
    parts = [result.claim.text]
    if result.label:
        parts.append(f"weakest contrast: {result.label}")
    parts.append(f"{analysis.word(result)} ({result.claim.unit})")
    return "\n".join(wrap(part, 60) for part in parts)


def _claims(axes: Axes, analysis: Analysis, texts: list[str]) -> None:
    """Draw claims from top to bottom; y counts lines of text, each claim's above its interval."""
    top = 0.0
    for result, text in zip(analysis.claims, texts, strict=True):
        axes.annotate(
            text,
            (0, -top),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            color=INK,
            va="top",
            annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0},
        ).set_in_layout(False)
        y = -(top + text.count("\n") + 1 + _BAR / 3)
        top += text.count("\n") + 1 + _BAR
        smallest = result.claim.smallest_effect
        axes.plot([-smallest, smallest], [y, y], color=BAND, lw=9, zorder=0, solid_capstyle="butt")
        if result.contrast is not None:
            c = result.contrast
            if not math.isnan(c.low):
                axes.plot([c.low, c.high], [y, y], color=MEAN, lw=1.6, zorder=2)
            axes.plot(c.mean, y, "D", color=MEAN, ms=5, zorder=3)
    axes.axvline(0, color="#bbbbbb", lw=0.8, zorder=-1)
    axes.set_ylim(-max(top, 1), 0.3)
    axes.set_yticks([])
    axes.set_xlabel("effect on test top-1; shaded: too small to matter")
    sns.despine(ax=axes, left=True)
