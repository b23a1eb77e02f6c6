"""A page as Markdown, as GitHub shows it."""

from urllib.parse import quote

from ns_bench.report import blocks as b


def render(page: b.Page) -> str:
    """Return the page as Markdown."""
    parts = [f"# {escape(page.title)}", *map(_block, page.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: b.Block) -> str:
    match block:
        case b.Heading(text):
            return f"## {escape(text)}"
        case b.Paragraph(text):
            return _line(text)
        case b.Notes(items):
            return "\n>\n".join(f"> {_line(item)}" for item in items)
        case b.Items(items):
            return "\n".join(f"- {_line(item)}" for item in items)
        case b.Verdicts(boxes):
            return "\n".join(
                f"- {escape(box.claim)} **{escape(box.word)}**: {escape(box.reason)}"
                for box in boxes
            )
        case b.Table():
            return _table(block)
        case b.Picture(stem, alt):
            return f"![{escape(alt)}]({quote(stem)}.png)"
        case b.Code(text):
            return "\n".join(f"    {line}" for line in text.splitlines())
        case b.Details(summary, blocks):
            inner = "\n\n".join(map(_block, blocks))
            return f"<details><summary>{escape(summary)}</summary>\n\n{inner}\n\n</details>"


def _table(table: b.Table) -> str:
    lines = [
        [escape(name) for name in table.header],
        ["---"] * len(table.header),
        *([_line(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(text: b.Text) -> str:
    return "".join(_span(span) for span in b.spans(text))


def _span(span: b.Span) -> str:
    # Inside `code` nothing but a backtick and a table's bar has a meaning.
    text = f"`{_one_line(span.text).replace('`', '')}`" if span.code else escape(span.text)
    text = text.replace("|", "\\|") if span.code else text
    text = f"**{text}**" if span.bold or span.verdict else text
    target = quote(f"{span.page}.md" if span.page else span.file)
    return f"[{text}]({target})" if target else text


def escape(text: str) -> str:
    """Keep names and messages from being read as markup."""
    text = text.replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")
    # The spaces at either end part a span from the next.
    start, end = text[:1].isspace(), text[-1:].isspace()
    return " " * start + _one_line(text) + " " * (end and bool(text.strip()))


def _one_line(text: str) -> str:
    return " ".join(text.split())
