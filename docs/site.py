"""The site has the published results and the notebook, too: pages link to them as they do in the
checkout."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_OUT_OF_DOCS = re.compile(r"\]\(\.\./((?:\.\./)*reports/)")
_NOTEBOOK = re.compile(r"\]\(([^():]+)\.ipynb\)")
_STYLE = re.compile(r"<style.*?</style>", re.S)
_PDF = re.compile(r"\[([^]]+)\]\([^()]*\.pdf\)")  # made with a report, and not kept in git


def on_files(files: Any, config: Any) -> Any:
    """Add `reports/` to what is in `docs/`, and make pages of notebooks."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        name = file.src_uri.replace(".ipynb", ".md")
        files.append(File.generated(config, name, content=notebook(Path(file.abs_src_path))))

    for path in sorted((ROOT / "reports").rglob("*")):
        if path.suffix in (".md", ".png", ".svg", ".csv", ".tex"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """In the site, `reports/` is beside the pages and not above them, and notebooks are pages."""
    markdown = _NOTEBOOK.sub(r"](\1.md)", markdown)
    return _PDF.sub(r"\1", _OUT_OF_DOCS.sub(r"](\1", markdown))


def notebook(path: Path) -> str:
    """Return an executed notebook as Markdown, figures inside it."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += map(_output, cell.get("outputs", ()))
    return "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    shown = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
    if "image/png" in shown:
        return (
            f'<img alt="the figure of this cell" src="data:image/png;base64,{shown["image/png"]}">'
        )
    if "text/html" in shown:
        return _STYLE.sub("", shown["text/html"])
    return f"```\n{shown.get('text/plain') or ''.join(output['text'])}\n```"
