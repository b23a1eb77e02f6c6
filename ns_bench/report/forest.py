"""The scorecard's figure: every finding's effect in each profile, and the paper's."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ns_bench.report import figure as figures
from ns_bench.report import style
from ns_bench.report.findings import Finding, findings, profiles_of
from ns_bench.report.sections.claims import seeds_of
from ns_bench.report.style import BAND, INK, LINE, PAPER, RULE, SERIES, plain, wrap
from ns_bench.verdicts.analysis import Analysis

_BOLD = ("reproduced", "contradicted")
_WIDTH, _TOP, _BOTTOM = 11.5, 0.8, 0.6
"""Inches: width of the figure, and its margins above and below the axes."""
_LEFT, _RIGHT = 0.40, 0.76
"""Shares of the width between which the axes are: words stand left and right of them."""
_GAP, _HEAD = 0.9, 1.7
"""Lines of text: below each finding, and for the name of a study."""


def draw(analyses: Sequence[Analysis]) -> Figure:
    """Return a forest plot: a block a finding, with a row a profile and one for the paper."""
    style.theme(top=True)
    rows = findings(analyses)
    styles = {p: SERIES[i % len(SERIES)][:2] for i, p in enumerate(profiles_of(analyses))}
    texts = [wrap(_words(finding), 66) for finding in rows]
    heights = [
        max(text.count("\n") + 1, len(f.results) + (f.first.paper is not None)) + _GAP
        for text, f in zip(texts, rows, strict=True)
    ]
    studies = len({finding.study for finding in rows})
    figure, axes = _axes(max(sum(heights) + _HEAD * studies, 3.0))
    y, study = 0.0, None
    for finding, text, height in zip(rows, texts, heights, strict=True):
        if finding.study != study:
            study = finding.study
            axes.axhline(y + 0.35, color=RULE, lw=0.6)
            _write(axes, 0.01, y + 1.0, plain(study), va="center", weight="bold")
            y += _HEAD
        _write(axes, 0.01, y, text, va="top")
        _effects(axes, y + 0.5, finding, styles)
        y += height
    axes.axvline(0, color=INK, lw=0.8, zorder=1)
    figure.legend(
        handles=_legend(styles), loc="upper right", ncols=len(styles) + 2, frameon=False, fontsize=8
    )
    return figure


def _axes(total: float) -> tuple[Figure, Axes]:
    """Return a figure whose axes have room for so many lines of text, counted from the top."""
    height = LINE * total + _TOP + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes(
        (_LEFT, _BOTTOM / height, _RIGHT - _LEFT, (height - _TOP - _BOTTOM) / height)
    )
    axes.set_ylim(total, 0)
    axes.set_yticks([])
    axes.tick_params(top=True, labeltop=True)
    axes.set_xlabel("effect on test top-1 (points, or points a step where it says so)")
    axes.spines["left"].set_visible(False)
    figure.text(0.01, 1 - 0.3 / height, "Scorecard", fontsize=12, weight="bold", color=INK)
    return figure, axes


def _write(axes: Axes, x: float, y: float, text: str, **font: Any) -> None:
    """Write beside the axes: x is a share of the figure's width, y a line."""
    axes.annotate(
        text,
        (x, y),
        xycoords=("figure fraction", "data"),
        fontsize=8,
        color=INK,
        annotation_clip=False,
        **font,
    )


def _effects(
    axes: Axes, row: float, finding: Finding, styles: Mapping[str, tuple[str, str]]
) -> None:
    """Draw a finding's effect in each profile, and the paper's below them."""
    for profile, (analysis, result) in finding.results.items():
        word = analysis.word(result)
        words = f"{profile}: {word}"
        if not result.claim.untestable:
            figures.effect(axes, row, result, *styles[profile])
            words += f", n = {seeds_of(analysis, result)}"
        weight = "bold" if word in _BOLD else "normal"
        _write(axes, _RIGHT + 0.01, row, plain(words), va="center", weight=weight)
        row += 1
    if (paper := finding.first.paper) is not None:
        axes.plot(paper.value, row, "D", mfc=PAPER, mec=INK, ms=5, zorder=3)
        _write(axes, _RIGHT + 0.01, row, f"the paper: {paper}", va="center", style="italic")


def _words(finding: Finding) -> str:
    unit = "" if finding.claim.unit == "points" else f" ({finding.claim.unit})"
    return f"{finding.text}{unit}"


def _legend(styles: Mapping[str, tuple[str, str]]) -> list[Line2D]:
    profiles = [
        Line2D([], [], color=color, marker=marker, ms=5, label=plain(profile))
        for profile, (color, marker) in styles.items()
    ]
    return [
        *profiles,
        Line2D([], [], color=BAND, lw=7, label="too small to matter"),
        Line2D([], [], ls="", marker="D", mfc=PAPER, mec=INK, label="the paper, on ImageNet"),
    ]
