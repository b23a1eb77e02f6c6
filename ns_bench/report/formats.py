"""A page in both formats that a person reads: Markdown and HTML."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ns_bench.files import publish
from ns_bench.report import html, markdown
from ns_bench.report.blocks import Page


def write(
    page: Page,
    stem: Path,
    drawings: Mapping[str, str] = MappingProxyType({}),
    *,
    refresh: int = 0,
) -> Path:
    """Write `stem`.html and `stem`.md; returns the latter. The same page gives the same bytes.

    drawings, refresh: of the HTML page, see `html.render`.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    publish(stem.with_suffix(".html"), html.render(page, drawings, refresh=refresh).encode())
    publish(stem.with_suffix(".md"), markdown.render(page).encode())
    return stem.with_suffix(".md")
