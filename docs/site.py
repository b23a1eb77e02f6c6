"""The site has the published results, too: pages link to them as they do in the checkout."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_OUT_OF_DOCS = re.compile(r"\]\(\.\./((?:\.\./)*reports/)")
_PDF = re.compile(r"\[([^]]+)\]\([^()]*\.pdf\)")  # made with a report, and not kept in git


def on_files(files: Any, config: Any) -> Any:
    """Add `reports/` to what is in `docs/`."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / "reports").rglob("*")):
        if path.suffix in (".md", ".png", ".svg", ".csv", ".tex"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """In the site, `reports/` is beside the pages and not above them."""
    return _PDF.sub(r"\1", _OUT_OF_DOCS.sub(r"](\1", markdown))
