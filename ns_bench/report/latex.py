"""Tables for a paper: booktabs is all that they need."""

import re
import unicodedata
from collections.abc import Sequence

from ns_bench.report.blocks import Span, Table, Text, plain, spans

HEAD = """\
% {title}
% Needs \\usepackage{{booktabs}}; compiles with pdfLaTeX, XeLaTeX and LuaLaTeX.
"""


def tables(title: str, contents: Sequence[Table]) -> str:
    """Return every table as a float, one below the other."""
    head = HEAD.format(title=" ".join(escape(title).split()))
    return head + "\n".join(table(item) for item in contents)


def table(content: Table) -> str:
    """Return a table; a column of long words is a paragraph."""
    lines: list[Sequence[Text]] = [content.header, *content.rows]
    columns = [[line[i] for line in lines] for i in range(len(content.header))]
    wide = [_wide(column) for column in columns]
    share = min(0.6 / max(sum(wide), 1), 0.25)
    layout = "".join(
        f"p{{{share:.2f}\\linewidth}}" if long else _side(column)
        for column, long in zip(columns, wide, strict=True)
    )
    rows = [
        [
            f"{{\\raggedright {_line(c)}\\par}}" if w else _line(c)
            for c, w in zip(r, wide, strict=True)
        ]
        for r in lines
    ]
    parts = [
        "\\begin{table}",
        "  \\centering\\scriptsize\\setlength{\\tabcolsep}{2.5pt}",
        f"  \\caption{{{escape(content.title)}}}",
        f"  \\begin{{tabular}}{{@{{}}{layout}@{{}}}}",
        "    \\toprule",
        f"    {' & '.join(rows[0])} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows[1:]),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
        "",
    ]
    return "\n".join(parts)


def _wide(column: Sequence[Text]) -> bool:
    return max(sum(len(span.text) for span in spans(cell)) for cell in column) > 26


def _side(column: Sequence[Text]) -> str:
    """Numbers stand to the right, words to the left."""
    return "r" if any(re.match(r"[+\-.<\[]?[.\d]", plain(cell)) for cell in column) else "l"


def _line(text: Text) -> str:
    return "".join(map(_span, spans(text)))


def _span(span: Span) -> str:
    text = escape(span.text)
    text = f"\\texttt{{{text}}}" if span.code else text
    return f"\\textbf{{{text}}}" if span.bold or span.verdict else text


_SPECIAL = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "$": "\\$",
    "&": "\\&",
    "%": "\\%",
    "#": "\\#",
    "_": "\\_",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "''",
    "[": "{[}",  # after \\ it would be read as a length
    "]": "{]}",
    "`": "\\textasciigrave{}",
    "'": "\\textquotesingle{}",
    "\u2013": "--",
    "\u2014": "---",
    "\u00b7": "\\textperiodcentered{}",
    "\u00b1": "$\\pm$",
    "\u00d7": "$\\times$",
    "\u2212": "$-$",
    "\u221e": "$\\infty$",
    "\u00a0": "~",
}


def escape(text: str) -> str:
    """Keep names from being read as commands; a letter beyond Latin becomes its code point."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    text = "".join(_SPECIAL.get(c) or (c if _near(c) else _far(c)) for c in text)
    # A minus before a number, not a hyphen within a word.
    return re.sub(r"(?<![\w-])-(?=[.\d$])", "$-$", text)


def _near(character: str) -> bool:
    """Whether every TeX sets a letter as it is: ASCII, or such a letter with an accent."""
    first = unicodedata.normalize("NFD", character)[0]
    return (" " <= first <= "~" and character <= "\u00ff") or character in "ßæøÆØ"


def _far(character: str) -> str:
    return f"{{[}}U+{ord(character):04X}{{]}}"
