"""What a page is made of, as plain data: names are unescaped, each way of showing escapes them.

`markdown.render`, `html.render` and `latex.table` show the same blocks, so that no number is
worked out twice.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar


@dataclass(frozen=True)
class Span:
    """Words in a line.

    Attributes:
        page: page of ours that they link to, without its suffix: Markdown links Markdown.
        file: file beside the page that they link to.
        verdict: they are a verdict, which HTML shows as a chip.
    """

    text: str
    bold: bool = False
    code: bool = False
    verdict: bool = False
    page: str = ""
    file: str = ""


Text = str | Span | Sequence[str | Span]
"""A line: plain words, or a list of words and spans."""


def spans(text: Text) -> list[Span]:
    """Return a line as spans only."""
    parts = [text] if isinstance(text, str | Span) else text
    return [Span(part) if isinstance(part, str) else part for part in parts]


def plain(text: Text) -> str:
    """Return a line's words alone."""
    return "".join(span.text for span in spans(text))


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: Text


@dataclass(frozen=True)
class Notes:
    """What has to be known before the page is read; they stand out."""

    items: list[Text]


@dataclass(frozen=True)
class Items:
    items: list[Text]


@dataclass(frozen=True)
class VerdictBox:
    """A claim's verdict, large, with its reason in words."""

    word: str
    claim: str
    reason: str


@dataclass(frozen=True)
class Verdicts:
    boxes: list[VerdictBox]


@dataclass(frozen=True)
class Mark:
    """An effect in a row of a forest plot; low and high are None where there is no interval."""

    name: str
    mean: float
    low: float | None
    high: float | None
    series: int


@dataclass(frozen=True)
class Forest:
    """The forest plot of one row: our effects, the paper's, and what is too small to matter."""

    marks: list[Mark]
    paper: float | None
    smallest: float
    alt: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: says in a few words what it is; not printed where a heading does.
        sortable: HTML gives it buttons to sort and filter by.
        forest: one a row, drawn where the medium can.
        filters: {name: its value in each row}, to filter by.
    """

    title: str
    header: list[str]
    rows: list[list[Text]]
    sortable: bool = False
    forest: list[Forest] = field(default_factory=list)
    filters: dict[str, list[set[str]]] = field(default_factory=dict)

    def without(self, *columns: str) -> "Table":
        """Return the table without some columns."""
        kept = [i for i, name in enumerate(self.header) if name not in columns]
        rows = [[row[i] for i in kept] for row in self.rows]
        return replace(self, header=[self.header[i] for i in kept], rows=rows)

    def turned(self) -> "Table":
        """Return the table with columns as rows; the first column is the heading of the others."""
        header = [self.header[0], *(plain(row[0]) for row in self.rows)]
        rows = [
            [name, *(row[i] for row in self.rows)]
            for i, name in enumerate(self.header[1:], start=1)
        ]
        return replace(self, header=header, rows=rows)


Item = TypeVar("Item")
Column = tuple[str, Callable[[Item], Text]]
"""A column of a table: its heading, and the cell of an item."""


def tabulate(title: str, items: Iterable[Item], *columns: Column[Item]) -> Table:
    """Return a table with a row for each item."""
    rows = [[cell(item) for _, cell in columns] for item in items]
    return Table(title, [heading for heading, _ in columns], rows)


@dataclass(frozen=True)
class Panel:
    """A drawing inside an HTML page, by name."""

    name: str
    alt: str


@dataclass(frozen=True)
class Picture:
    """A figure: the file `stem`.png, or panels that fit a phone, each `rem` wide or wider."""

    stem: str
    alt: str
    panels: list[Panel] = field(default_factory=list)
    rem: float = 26


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away."""

    summary: str
    blocks: "list[Block]"


Block = Heading | Paragraph | Notes | Items | Verdicts | Table | Picture | Code | Details


@dataclass(frozen=True)
class Page:
    title: str
    blocks: list[Block]
