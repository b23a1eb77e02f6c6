"""The figures of a study: every seed by arm, the effect of each claim, and learning curves."""

import math
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ns_bench.report import style
from ns_bench.report.blocks import Page, Picture
from ns_bench.report.style import BAND, GRID, INK, LINE, MEAN, PAPER, POINT, RULE, SERIES
from ns_bench.verdicts.analysis import Analysis, ClaimResult
from ns_bench.verdicts.statistics import mean_interval

FORMATS = ("png", "svg", "pdf")

WIDTH = 11.0
"""Of the figure, in inches."""
NARROW = 4.6
"""Width of a panel of an HTML page: its letters can still be read on a phone."""
UPRIGHT = 6
"""With more arms than these their names stand on the y axis, where they have room."""
DPI = 160
TOGETHER = 8
"""With more arms than these each has a small plot of its learning curve for itself."""


def draw(analysis: Analysis) -> Figure:
    """Return the figure: arms on the left (one line a seed), claims' contrasts on the right."""
    style.theme()
    texts = _texts(analysis, 60)
    arms = 0.3 * len(analysis.arms) if _lying(analysis) else 2.4
    height = 1.2 + max(2.2, arms, LINE * _lines(analysis, texts))
    # Names beside the axes take up to a tenth more room at the resolution they are saved with.
    figure = Figure(figsize=(WIDTH, height), dpi=DPI if _lying(analysis) else None)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _arms(left, analysis, 66, 34)
    _claims(right, analysis, texts)
    _title(figure, analysis.title)
    return style.lay_out(figure)


def curves(analysis: Analysis) -> Figure:
    """Return the learning curves: mean validation top-1 of each arm, with its t-interval."""
    style.theme()
    means = _means(analysis)
    columns = 1 if len(means) <= TOGETHER else 4
    figure = _curves(analysis, means, columns, 9.0 if columns == 1 else WIDTH)
    _title(figure, f"{analysis.title}: validation")
    return style.lay_out(figure)


def inline(analysis: Analysis, page: Page) -> dict[str, str]:
    """Return {panel: <svg>} for every panel of `page`, each narrow enough for a phone."""
    style.theme()
    drawn = {}
    for picture in page.blocks:
        for panel in picture.panels if isinstance(picture, Picture) else []:
            drawn[panel.name] = style.inline(
                style.lay_out(_PANELS[panel.name](analysis)), panel.name, panel.alt
            )
    return drawn


def stems(analysis: Analysis) -> list[str]:
    """Return the names of the figures' files, without suffix."""
    more = [curves_stem(analysis)] if has_curves(analysis) else []
    more += [looks_stem(analysis)] if has_looks(analysis) else []
    return [analysis.study.name, *more]


def curves_stem(analysis: Analysis) -> str:
    return f"{analysis.study.name}_curves"


def has_curves(analysis: Analysis) -> bool:
    table = analysis.curves
    return "validation_top1" in table and bool(table["validation_top1"].notna().any())


def looks_stem(analysis: Analysis) -> str:
    return f"{analysis.study.name}_looks"


def has_looks(analysis: Analysis) -> bool:
    return any(result.path for result in analysis.claims)


def save(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the figures in every format; the same results give the same bytes."""
    paths = write(draw(analysis), folder / analysis.study.name)
    if has_curves(analysis):
        paths += write(curves(analysis), folder / curves_stem(analysis))
    if has_looks(analysis):
        paths += write(_looks(analysis, WIDTH), folder / looks_stem(analysis))
    return paths


def write(figure: Figure, stem: Path) -> list[Path]:
    """Write `figure` to `stem` with the suffix of every format."""
    paths = []
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        for suffix in FORMATS:
            path = stem.with_name(f"{stem.name}.{suffix}")
            figure.savefig(path, dpi=DPI, metadata=undated[suffix])
            paths.append(path)
    return paths


def _title(figure: Figure, text: str) -> None:
    title = "\n".join(textwrap.wrap(text, 100))
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=11, fontweight="bold")


def plain(text: str) -> str:
    """Keep a name from being read as mathematics."""
    return text.replace("$", r"\$")


def _lying(analysis: Analysis) -> bool:
    return len(analysis.arms) > UPRIGHT


def _arms(axes: Axes, analysis: Analysis, upright: int, lying_width: int) -> None:
    """Draw every seed by arm; names have so many characters in all, or each where they lie."""
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
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            zorder=4,
        )
    label = "test top-1 (%)"
    if lying:
        axes.set_yticks(places, [wrap(name, lying_width) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.5)
        axes.set_xlabel(label)
        axes.xaxis.grid(True, color=GRID)
    else:
        axes.set_xticks(places, [wrap(name, upright // len(names)) for name in names])
        axes.set_xlim(-0.35, len(names) - 0.4)
        axes.set_ylabel(label)
        axes.yaxis.grid(True, color=GRID)
    axes.set_title("every seed; mean with 95 % t-interval", loc="left", fontsize=9, color=INK)


def wrap(text: str, width: int) -> str:
    """Break `text` into lines of at most `width` characters, 8 at least."""
    return plain("\n".join(textwrap.wrap(text, max(width, 8))))


_BAR, _BESIDE = 2.2, 0.8
"""Room below a claim's text for its interval, and for the paper's effect below that, in lines."""


def _texts(analysis: Analysis, width: int) -> list[str]:
    """Return the words above each claim's interval, in lines of at most `width` characters."""
    texts = []
    for result in analysis.claims:
        parts = [result.claim.text]
        if result.label:
            parts.append(f"weakest contrast: {result.label}")
        paper = "" if result.paper is None else f"; the paper {result.paper}"
        parts.append(f"{analysis.word(result)} ({result.claim.unit}){paper}")
        texts.append("\n".join(wrap(part, width) for part in parts))
    return texts


def _lines(analysis: Analysis, texts: list[str]) -> float:
    papers = sum(result.paper is not None for result in analysis.claims)
    return sum(text.count("\n") + 1 + _BAR for text in texts) + _BESIDE * papers


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
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0},
        ).set_in_layout(False)
        y = -(top + text.count("\n") + 1 + _BAR / 3)
        top += text.count("\n") + 1 + _BAR
        if result.paper is not None:
            top += _BESIDE
            paper = y - _BESIDE
            axes.plot(result.paper.value, paper, "D", mfc=PAPER, mec=INK, ms=4.5, zorder=3)
        effect(axes, y, result, MEAN, "D")
    axes.axvline(0, color=RULE, lw=0.8, zorder=-1)
    axes.set_ylim(-max(top, 1), 0.3)
    axes.set_yticks([])
    top1 = all(result.claim.metric == "top1" for result in analysis.claims)
    what = "test top-1" if top1 else "what it is about"
    label = f"against the claim \u2190 effect on {what} \u2192 for it\nshaded: too small to matter"
    if any(result.claim.kind == "equivalent" for result in analysis.claims):
        label += ", which is for a claim of no difference"
    if any(result.paper is not None for result in analysis.claims):
        label += "\nopen: the paper's, " + (
            "in points of ImageNet top-1" if top1 else "on ImageNet"
        )
    axes.set_xlabel(label)
    axes.spines["left"].set_visible(False)


def effect(axes: Axes, y: float, result: ClaimResult, color: str, marker: str) -> None:
    """Draw a claim's effect with its interval, over a band of what is too small to matter."""
    smallest, contrast = result.claim.smallest_effect, result.contrast
    axes.plot([-smallest, smallest], [y, y], color=BAND, lw=9, zorder=0, solid_capstyle="butt")
    if contrast is not None:
        if not math.isnan(contrast.low):
            axes.plot([contrast.low, contrast.high], [y, y], color=color, lw=1.6, zorder=2)
        axes.plot(contrast.mean, y, marker, color=color, ms=5, zorder=3)


def _narrow_arms(analysis: Analysis) -> Figure:
    height = max(3.2, 0.34 * len(analysis.arms)) if _lying(analysis) else 3.2
    figure = Figure(figsize=(NARROW, height + 0.4))
    _arms(figure.subplots(), analysis, 60, 20)
    return figure


def _narrow_claims(analysis: Analysis) -> Figure:
    texts = _texts(analysis, 56)
    height = 0.9 + LINE * _lines(analysis, texts)
    figure = Figure(figsize=(NARROW, max(height, 2.0)))
    _claims(figure.subplots(), analysis, texts)
    return figure


def _narrow_curves(analysis: Analysis) -> Figure:
    means = _means(analysis)
    return _curves(analysis, means, 1 if len(means) <= TOGETHER else 2, NARROW)


def _looks(analysis: Analysis, width: float = NARROW) -> Figure:
    """Draw each claim's path: estimate and repeated interval at every look, by seeds.

    A claim is decided where its interval leaves the line at 0 behind, or the shaded band.
    """
    style.theme()
    drawn = [result for result in analysis.claims if result.path]
    columns = 1 if width == NARROW else min(len(drawn), 3)
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(width, 2.1 * rows + 0.5))
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axes in list(grid.flat)[len(drawn) :]:
        axes.set_visible(False)
    for axes, result in zip(grid.flat, drawn, strict=False):
        smallest = result.claim.smallest_effect
        axes.axhspan(-smallest, smallest, color=BAND, lw=0, zorder=0)
        axes.axhline(0, color=RULE, lw=0.8, zorder=1)
        seeds = [contrast.n for contrast in result.path]
        axes.plot(seeds, [contrast.mean for contrast in result.path], "D-", color=MEAN, ms=4)
        for contrast in result.path:
            if math.isfinite(contrast.high - contrast.low):
                ends = [contrast.low, contrast.high]
                axes.plot([contrast.n] * 2, ends, color=MEAN, lw=1.4)
        title = f"{textwrap.fill(result.claim.text, 44)}\n{analysis.word(result)}"
        axes.set_title(title, fontsize=8, color=INK, loc="left")
        axes.set_xticks(analysis.schedule.looks)
        axes.set_ylabel(result.claim.unit, fontsize=8)
    for axes in grid.flat[max(0, len(drawn) - columns) : len(drawn)]:
        axes.tick_params(labelbottom=True)  # nothing stands below it
    figure.supxlabel("seeds at each look; shaded: too small to matter", fontsize=9)
    return style.lay_out(figure)


_PANELS = {
    "arms": _narrow_arms,
    "claims": _narrow_claims,
    "curves": _narrow_curves,
    "looks": _looks,
}

_Curve = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _means(analysis: Analysis) -> dict[str, _Curve]:
    """Return {arm: (step, mean, low, high)} of validation top-1, in the arms' order."""
    means = {}
    table = analysis.curves.dropna(subset=["validation_top1"])
    for arm, rows in analysis.by_arm(table).items():
        by_step = rows.groupby("step")["validation_top1"].agg(mean_interval)
        bounds = np.array([(i.mean, i.low, i.high) for i in by_step])
        means[arm] = (by_step.index.to_numpy(), *bounds.T)
    return means


def _curves(analysis: Analysis, means: dict[str, _Curve], columns: int, width: float) -> Figure:
    """Draw all arms in one plot, or with more columns each in its own, beside the baseline."""
    if columns == 1:
        names = [wrap(name, 34) for name in means]
        legend = LINE * sum(name.count("\n") + 1.3 for name in names)
        beside = width > NARROW
        figure = Figure(
            figsize=(width, max(3.7, legend + 0.8) if beside else 3.0 + legend),
        )
        axes = figure.subplots()
        for i, (name, curve) in enumerate(zip(names, means.values(), strict=True)):
            color, marker, dash = SERIES[i]
            _curve(axes, curve, color, dash, marker, label=name)
        figure.legend(
            loc="outside right upper" if beside else "outside lower left",
            frameon=False,
            fontsize=8,
            handlelength=3.5,
        )
        axes.set_xlabel("step")
        axes.set_ylabel("validation top-1 (%)")
        axes.set_title("mean with 95 % t-interval", loc="left", fontsize=9, color=INK)
        plots = [axes]
    else:
        rows = math.ceil(len(means) / columns)
        figure = Figure(figsize=(width, 1.75 * rows + 0.5))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        plots = list(grid.flat)
        base = analysis.baseline
        for axes, (name, curve) in zip(plots, means.items(), strict=False):
            if base in means and name != base:
                axes.plot(*means[base][:2], color=POINT, ls="--", lw=1.2, zorder=1)
            _curve(axes, curve, MEAN, "-", "")
            axes.set_title(wrap(name, 26 if width > NARROW else 30), fontsize=8, color=INK)
        for axes in plots[len(means) :]:
            axes.set_visible(False)
        figure.supxlabel(f"step; dashed: {wrap(base, 60)}", fontsize=9)
        figure.supylabel("validation top-1 (%)", fontsize=9)
    _focus(plots, list(means.values()))
    for axes in plots:
        axes.yaxis.grid(True, color=GRID)
    return figure


def _curve(
    axes: Axes, curve: _Curve, color: str, dash: object, marker: str, label: str = ""
) -> None:
    steps, mean, low, high = curve
    axes.plot(
        steps, mean, color=color, ls=dash, lw=1.6, marker=marker, ms=4, label=label or None,
        markevery=max(len(steps) // 6, 1), zorder=3,
    )  # fmt: skip
    if not np.isnan(low).any():
        axes.fill_between(steps, low, high, color=color, alpha=0.15, lw=0, zorder=2)


def _focus(plots: list[Axes], curves: list[_Curve]) -> None:
    """Show what differs: the first steps, which climb from chance, may leave the plot below."""
    late = [mean[steps >= steps[-1] / 4] for steps, mean, _, _ in curves]
    low, high = min(m.min() for m in late), max(m.max() for m in late)
    margin = max(0.15 * (high - low), 0.5)
    for axes in plots:
        axes.set_ylim(max(low - 2 * margin, 0), min(high + 2 * margin, 100))
