"""How figures and pages look, in one place: colours, sizes, and their names in the style sheet."""

import re
import textwrap
from io import StringIO

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, POINT, MEAN, BAND = "#333333", "#8da9c4", "#134074", "#f2d492"
GRID, RULE, PAPER = "#e6e6e6", "#bbbbbb", "#ffffff"

SERIES = [
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "v", ":"),
    ("#56b4e9", "P", (0, (6, 1.5))),
    ("#e69f00", "X", (0, (3, 1, 1, 1, 1, 1))),
    ("#7f7f7f", "D", (0, (1, 1))),
    ("#5b3a8c", "*", (0, (8, 2, 2, 2))),
]
"""Colour, marker and line of each series: Okabe and Ito's colours, which colour-blind eyes tell
apart, and a grey and a violet; the shapes and dashes do without colour."""

LINE = 0.155
"""Height of a line of text at 8 points, in inches."""

VARIABLES = {
    INK: "--ink",
    POINT: "--point",
    MEAN: "--mean",
    BAND: "--band",
    GRID: "--grid",
    RULE: "--rule",
    PAPER: "--paper",
    **{color: f"--series-{i}" for i, (color, _, _) in enumerate(SERIES)},
}
"""{colour: its variable in reports/templates/style.css}, where a dark page has another value."""


def theme(*, top: bool = False) -> None:
    """Set matplotlib's style for what is drawn next; `top` draws the upper edge of the axes."""
    import seaborn as sns  # with scipy.stats: a second, that a page without a figure does not need

    ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    sns.set_theme(
        style="ticks",
        context="paper",
        rc={**ink, "axes.edgecolor": INK, "axes.spines.top": top, "axes.spines.right": False},
    )


def plain(text: str) -> str:
    """Keep a name from being read as mathematics."""
    return text.replace("$", r"\$")


def wrap(text: str, width: int) -> str:
    """Break `text` into lines of at most `width` characters, 8 at least."""
    return plain("\n".join(textwrap.wrap(text, max(width, 8))))


def title(figure: Figure, text: str) -> None:
    """Write a figure's title over all of its plots."""
    figure.suptitle(
        wrap(text, int(9 * figure.get_figwidth())),
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )


def lay_out(figure: Figure) -> Figure:
    """Give everything in the figure its room, once: not again for every format it is saved in."""
    ConstrainedLayoutEngine().execute(figure)
    return figure


def inline(figure: Figure, name: str, alt: str) -> str:
    """Return the figure as an <svg> for a page: its colours are variables, its ids begin with name.

    Letters are drawn as paths, so that they are as wide everywhere as they were measured here.
    """
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        file = StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(
        r"#[0-9a-f]{6}\b",
        lambda hit: f"var({VARIABLES[hit[0]]})" if hit[0] in VARIABLES else hit[0],
        svg,
    )
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    width = float(box[1].split()[2])
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'class="plot" role="img" aria-label="{_attribute(alt)}" viewBox="{box[1]}" '
        f'style="max-width: {1.35 * width:.0f}pt">'
    )
    body = re.sub(r"\n\s*", "\n", svg[svg.index(">") + 1 :])
    return start + body.strip()


def _attribute(text: str) -> str:
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return text
