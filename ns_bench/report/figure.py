"""The figures of a study: every seed by arm, the effect of each claim, and curves by arm."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ns_bench.report import multiples, style
from ns_bench.report.blocks import Page, Picture
from ns_bench.report.style import BAND, GRID, INK, LINE, MEAN, PAPER, POINT, RULE, wrap
from ns_bench.verdicts.analysis import Analysis, ClaimResult
from ns_bench.verdicts.statistics import Contrast

FORMATS = ("png", "svg", "pdf")

WIDTH = 11.0
"""Of the figure, in inches."""
NARROW = 4.6
"""Width of a panel of an HTML page: its letters can still be read on a phone."""
UPRIGHT = 6
"""With more arms than these their names stand on the y axis, where they have room."""
DPI = 160


def draw(analysis: Analysis) -> Figure:
    """Return the figure: arms on the left (one line a seed), claims' contrasts on the right."""
    style.theme()
    texts = _texts(analysis, 60)
    arms = sum(_rows(analysis, 34)) if _lying(analysis) else 2.4
    height = 1.2 + max(2.2, arms, LINE * _lines(analysis, texts))
    # Names beside the axes take up to a tenth more room at the resolution they are saved with.
    figure = Figure(figsize=(WIDTH, height), dpi=DPI if _lying(analysis) else None)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _arms(left, analysis, 66, 34)
    _claims(right, analysis, texts)
    style.title(figure, analysis.title)
    return style.lay_out(figure)


def inline(analysis: Analysis, page: Page) -> dict[str, str]:
    """Return {panel: <svg>} for every panel of `page`, each narrow enough for a phone."""
    style.theme()
    curves = multiples.found(analysis)
    drawn = {}
    for picture in page.blocks:
        for panel in picture.panels if isinstance(picture, Picture) else []:
            kind, _, number = panel.name.partition("-")
            if kind in curves:
                figure = multiples.draw_one(curves[kind], int(number))
            elif kind == "looks":
                figure = _looks(analysis, [looked_at(analysis)[int(number)]], 3.0)
            else:
                figure = style.lay_out(_PANELS[kind](analysis))
            drawn[panel.name] = style.inline(figure, panel.name, panel.alt)
    return drawn


def stems(analysis: Analysis) -> list[str]:
    """Return the names of the figures' files, without suffix."""
    kinds = [*multiples.found(analysis), *(["looks"] if looked_at(analysis) else [])]
    return [analysis.study.name, *(f"{analysis.study.name}_{kind}" for kind in kinds)]


def looked_at(analysis: Analysis) -> list[ClaimResult]:
    """Return the claims that have a path of looks."""
    return [result for result in analysis.claims if result.path]


def save(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the figures in every format; the same results give the same bytes."""
    stem = folder / analysis.study.name
    paths = write(draw(analysis), stem)
    for kind, curves in multiples.found(analysis).items():
        figure = multiples.draw(curves, f"{analysis.title}: {curves.y}", WIDTH)
        paths += write(style.lay_out(figure), folder / f"{stem.name}_{kind}")
    if looks := looked_at(analysis):
        paths += write(_looks(analysis, looks, WIDTH), folder / f"{stem.name}_looks")
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


def _lying(analysis: Analysis) -> bool:
    return len(analysis.arms) > UPRIGHT


def _rows(analysis: Analysis, width: int) -> list[float]:
    """Return the height of each arm's row where names lie, in inches: all of its lines fit."""
    return [
        max(0.31, 0.06 + LINE * (wrap(arm.name, width).count("\n") + 1)) for arm in analysis.arms
    ]


def _arms(axes: Axes, analysis: Analysis, upright: int, lying_width: int) -> None:
    """Draw every seed by arm; names have so many characters in all, or each where they lie."""
    names = [arm.name for arm in analysis.arms]
    lying = _lying(analysis)
    rows = _rows(analysis, lying_width) if lying else [1.0] * len(names)
    places = [sum(rows[:i]) + row / 2 for i, row in enumerate(rows)]
    done = analysis.runs[analysis.runs["arm"] != ""].dropna(subset=["test_top1"])
    for _, seed in done.groupby("seed"):
        values = seed.set_index("arm")["test_top1"].reindex(names).to_numpy()
        line = (values, places) if lying else (places, values)
        axes.plot(*line, color=POINT, lw=0.8, alpha=0.4 if lying else 0.7, zorder=1)
        axes.plot(*line, "o", color=POINT, ms=4, zorder=2)
    for place, arm in zip(places, analysis.arms, strict=True):
        if arm.interval is None:
            continue
        mean, low, high = arm.interval.mean, arm.interval.low, arm.interval.high
        error = None if math.isnan(low) else [[mean - low], [high - mean]]
        x, y = (mean, place + 0.09) if lying else (place + 0.14, mean)
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
            (1, place) if lying else (x, y),
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
        axes.set_ylim(sum(rows), 0)
        axes.set_xlabel(label)
        axes.xaxis.grid(True, color=GRID)
    else:
        axes.set_xticks(places, [wrap(name, upright // len(names)) for name in names])
        axes.set_xlim(0.15, len(names) + 0.1)
        axes.set_ylabel(label)
        axes.yaxis.grid(True, color=GRID)
    axes.set_title("every seed; mean with 95 % t-interval", loc="left", fontsize=9, color=INK)


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


_FAR = 1e6
"""Beyond every plot."""


def effect(axes: Axes, y: float, result: ClaimResult, color: str, marker: str) -> None:
    """Draw a claim's effect with its interval, over a band of what is too small to matter."""
    smallest, contrast = result.claim.smallest_effect, result.contrast
    axes.plot([-smallest, smallest], [y, y], color=BAND, lw=9, zorder=0, solid_capstyle="butt")
    if contrast is not None:
        bounds = [bound for bound in (contrast.low, contrast.high) if math.isfinite(bound)]
        axes.plot(bounds, [y] * len(bounds), color=color, lw=1.6, zorder=2)
        axes.plot(contrast.mean, y, marker, color=color, ms=5, zorder=3)
        if bounds:
            _whole(axes, _ends(contrast), [y, y], color, 1.6)


def _ends(contrast: Contrast) -> list[float]:
    return [max(contrast.low, -_FAR), min(contrast.high, _FAR)]


def _whole(axes: Axes, x: list[float], y: list[float], color: str, lw: float) -> None:
    """Draw an interval to both ends without scaling: one that has no bound leaves the plot."""
    axes.add_artist(Line2D(x, y, color=color, lw=lw, zorder=2))


def _narrow_arms(analysis: Analysis) -> Figure:
    height = sum(_rows(analysis, 20)) if _lying(analysis) else 3.2
    figure = Figure(figsize=(NARROW, height + 0.8))
    _arms(figure.subplots(), analysis, 60, 20)
    return figure


def _narrow_claims(analysis: Analysis) -> Figure:
    texts = _texts(analysis, 56)
    height = 0.9 + LINE * _lines(analysis, texts)
    figure = Figure(figsize=(NARROW, max(height, 2.0)))
    _claims(figure.subplots(), analysis, texts)
    return figure


def _looks(analysis: Analysis, drawn: Sequence[ClaimResult], width: float) -> Figure:
    """Draw each claim's path: estimate and repeated interval at every look, by seeds.

    A claim is decided where its interval leaves the line at 0 behind, or the shaded band.
    """
    style.theme()
    columns = min(len(drawn), 3)
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
            bounds = [bound for bound in (contrast.low, contrast.high) if math.isfinite(bound)]
            axes.plot([contrast.n] * len(bounds), bounds, color=MEAN, lw=1.4)
            if bounds:
                _whole(axes, [contrast.n] * 2, _ends(contrast), MEAN, 1.4)
        title = f"{wrap(result.claim.text, 44)}\n{analysis.word(result)}"
        axes.set_title(title, fontsize=8, color=INK, loc="left")
        axes.set_xticks(looks := analysis.schedule.looks)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_xlim(looks[0] - 0.04 * looks[-1], 1.02 * looks[-1])
        axes.set_ylabel(result.claim.unit, fontsize=8)
    for axes in grid.flat[max(0, len(drawn) - columns) : len(drawn)]:
        axes.tick_params(labelbottom=True)  # nothing stands below it
    figure.supxlabel("seeds at each look; shaded: too small to matter", fontsize=9)
    return style.lay_out(figure)


_PANELS = {
    "arms": _narrow_arms,
    "claims": _narrow_claims,
}
