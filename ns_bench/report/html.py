"""A page as one HTML file that needs nothing else: style, script and drawings are inside it.

The templates in `reports/templates/` lay the blocks out; whatever they are given is escaped.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ns_bench.files import folder
from ns_bench.report.blocks import Forest, Page, Span, Table, plain, spans
from ns_bench.report.numbers import MISSING


def render(page: Page, drawings: Mapping[str, str], *, refresh: int = 0, poll: float = 0.0) -> str:
    """Return the page; `drawings` are {panel: <svg>}, and a panel without one is left out.

    Args:
        refresh: seconds after which the page loads itself again, from a file.
        poll: the same of a page that a server makes: what is on it stays where the server is gone.
    """
    template = _environment().get_template("page.html.j2")
    text = template.render(
        page=page,
        drawings={name: Markup(svg) for name, svg in drawings.items()},
        refresh=refresh,
        poll=poll,
    )
    return re.sub(r"\n\s*\n+", "\n", text).lstrip()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    templates = folder("reports") / "templates"
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(
        style=Markup((templates / "style.css").read_text(encoding="utf-8")),
        script=Markup((templates / "table.js").read_text(encoding="utf-8")),
        live=Markup((templates / "live.js").read_text(encoding="utf-8")),
    )
    environment.filters.update(
        kind=lambda block: type(block).__name__,
        spans=spans,
        target=_target,
        width=lambda text: "long" if len(plain(text)) > _SHORT else "short",
        slug=lambda text: re.sub(r"[^a-z]+", "-", text.lower()),
        options=_options,
        numbers=_numbers,
        unbroken=_unbroken,
        breakable=_breakable,
        cards=_cards,
        forest=_forest,
    )
    environment.globals.update(shape=lambda i: _SHAPES[i % len(_SHAPES)])
    return environment


_SHORT = 24
"""Letters of a cell that is not wrapped."""


def _breakable(name: str) -> str:
    """Return the name of a field with places where a line may end."""
    return re.sub(r"([._])(?=\w)", "\\1\u200b", name) if "." in name else name


def _cards(table: Table) -> bool:
    """Whether a phone shows rows as cards: those with verdicts, and claims with their study."""
    verdicts = any(span.verdict for row in table.rows for cell in row for span in spans(cell))
    return verdicts or table.header[:2] == ["study", "claim"]


def _target(span: Span) -> str:
    return quote(f"{span.page}.html" if span.page else span.file)


def _options(table: Table) -> list[dict[str, Any]]:
    """Return a table's filters: their names, values, and the numbers of the values in each row."""
    options = []
    for name, rows in table.filters.items():
        values = sorted(set().union(*rows))
        numbers = [" ".join(str(i) for i, v in enumerate(values) if v in row) for row in rows]
        options.append({"name": name, "options": values, "rows": numbers})
    return options


_TOGETHER = re.compile(r"\[[^\]]{1,24}\]|\bn = [\d/]+|\d %")


def _unbroken(text: str) -> Markup:
    """Return text whose intervals and numbers of seeds stay in one line."""
    return Markup(_TOGETHER.sub(r'<span class="short">\g<0></span>', str(escape(text))))


_BOUND = r"[+\-±]?(\d[\d,]*\.?\d*(e[+\-]\d+)?|\.\d+|∞)"
_NUMBER = re.compile(
    rf"<?{_BOUND}( (%|to|of|±) {_BOUND}| [\[(].*[\])])?( %| [a-zA-Z-]+)?|\d+/\d+|\[.*\]|baseline"
)
"""A number, alone or with its interval or what it is of, and with a unit."""


def _numbers(table: Table) -> list[bool]:
    """Return of each column whether its cells are numbers, which end under each other."""
    columns = [[plain(row[i]) for row in table.rows] for i in range(len(table.header))]
    found = [[cell for cell in column if cell != MISSING] for column in columns]
    return [bool(cells) and all(map(_NUMBER.fullmatch, cells)) for cells in found]


_WIDTH, _ROW, _EDGE = 240.0, 14.0, 8.0
"""Of a row's forest plot, in pixels; the edge leaves room for a marker at a limit."""


def _forest(table: Table) -> dict[str, Any]:
    """Return the forest plots of a table's rows on one scale, in pixels."""
    ends = [0.0]
    for row in table.forest:
        for mark in row.marks:
            ends += [e for e in (mark.mean, mark.low, mark.high) if e is not None]
        ends += [row.paper] if row.paper is not None else []
    low, high = min(ends), max(ends)
    step = _step(high - low)
    ticks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

    def x(value: float) -> float:
        share = (value - low) / ((high - low) or 1.0)
        return round(_EDGE + min(max(share, 0), 1) * (_WIDTH - 2 * _EDGE), 1)

    return {
        "width": _WIDTH,
        "zero": x(0),
        "ticks": [(x(tick), f"{tick:+g}" if tick else "0") for tick in ticks],
        "rows": [_forest_row(row, x) for row in table.forest],
    }


def _forest_row(row: Forest, x: Any) -> dict[str, Any]:
    marks = []
    for i, mark in enumerate(row.marks):
        y = _ROW * (i + 0.5)
        bar = None if mark.low is None or mark.high is None else (x(mark.low), x(mark.high))
        shape = _SHAPES[mark.series % len(_SHAPES)]
        marks.append({"y": y, "x": x(mark.mean), "bar": bar, "d": shape, "series": mark.series % 8})
    lines = len(row.marks) + (row.paper is not None)
    return {
        "alt": row.alt,
        "height": _ROW * max(lines, 1),
        "marks": marks,
        "band": (x(-row.smallest), x(row.smallest)) if row.marks else None,
        "paper": None if row.paper is None else (x(row.paper), _ROW * (lines - 0.5)),
        "sort": "" if not row.marks else f"{row.marks[0].mean:.6f}",
    }


def _step(span: float) -> float:
    """Return the distance of about four round ticks."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= span / 4)


_SHAPES = [
    "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0",
    "M-3.2,-3.2h6.4v6.4h-6.4z",
    "M0,-4l4,7h-8z",
    "M0,4l4,-7h-8z",
    "M-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
]
"""Markers about (0, 0): circle, square, triangles, plus, in the order of `style.SERIES`."""
