"""The figure of `test_bench_scaling.py`: cost against work, from a benchmark's JSON.

A benchmark notes panels in `extra_info["scaling"]`: {"title", "x", "y", "log", "series": {name:
[[x, y], ...]}}, where `log` names the axes that are logarithmic: "", "x" or "xy".
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ns_bench.report import figure, style

COLUMNS = 3


def save(contents: Iterable[Mapping[str, Any]], folder: Path) -> str:
    """Write the figure into `folder`, of the newest run that has anything to draw.

    Returns its path beside `folder`, or "".
    """
    panels: list[dict[str, Any]] = []
    for content in sorted(contents, key=lambda content: str(content["datetime"])):
        noted = (entry["extra_info"].get("scaling", []) for entry in content["benchmarks"])
        panels = [panel for several in noted for panel in several] or panels
    if not panels:
        return ""
    folder.mkdir(exist_ok=True)
    figure.write(draw(panels), folder / "scaling")
    return f"{folder.name}/scaling.svg"


def draw(panels: list[dict[str, Any]]) -> Figure:
    """Return the figure, a plot a panel."""
    style.theme()
    rows = math.ceil(len(panels) / COLUMNS)
    plots = Figure(figsize=(figure.WIDTH, 2.7 * rows))
    grid = plots.subplots(rows, COLUMNS, squeeze=False).flat
    for panel, axes in zip(panels, grid, strict=False):
        series, log = panel["series"], panel["log"]
        for (name, points), (color, marker, dash) in zip(
            series.items(), style.SERIES, strict=False
        ):
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, ls=dash, label=name)
        if "x" in log:
            axes.set_xscale("log")
        else:
            axes.set_xticks(sorted({round(x, 1) for points in series.values() for x, _ in points}))
        if "y" in log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.1 * max(y for points in series.values() for _, y in points))
        if len(series) > 1:
            low, high = axes.get_ylim()
            axes.set_ylim(low, high * (5 ** len(series) if "y" in log else 1.3))  # room for names
            axes.legend(frameon=False, fontsize=7, handlelength=3, loc="upper left", ncols=2)
        axes.set_title(panel["title"], loc="left", fontsize=9, color=style.INK)
        axes.set_xlabel(panel["x"])
        axes.set_ylabel(panel["y"])
        axes.grid(True, color=style.GRID)
    for axes in grid:
        axes.set_visible(False)
    return style.lay_out(plots)
