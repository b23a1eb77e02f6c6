"""The notebook of the docs runs as it stands, and shows what was really put out."""

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "how-to/notebook.ipynb"
CELLS = [
    cell
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]


def test_it_was_executed_from_top_to_bottom_and_tells_nothing_of_a_machine() -> None:
    assert [cell["execution_count"] for cell in CELLS] == [*range(1, len(CELLS) + 1)]
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {
        "stream", "display_data", "execute_result",
    }  # fmt: skip
    said = json.dumps(outputs)
    assert not any(word in said for word in ("/home", "/root", "/tmp", "/work", "Warning"))


def test_the_site_shows_its_cells_tables_and_figures() -> None:
    page = runpy.run_path(str(DOCS / "site.py"))["notebook"](NOTEBOOK)
    assert page.startswith("# ") and page.count("```python\n") == len(CELLS)
    assert page.count("data:image/png;base64,iVBOR") == 3 and page.count("<table") >= 2
    assert "<style" not in page


def test_what_it_shows_of_published_results_is_what_is_published() -> None:
    """Published anew, it has to be executed anew (CONTRIBUTING.md says how)."""
    (cell,) = (cell for cell in CELLS if "read_findings" in "".join(cell["source"]))
    values = run_cells([CELLS[0], cell], {})
    assert "".join(cell["outputs"][-1]["data"]["text/html"]) == values[-1]._repr_html_()


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    values = run_cells(CELLS, names)
    names["plt"].close("all")
    assert values[0] == 0 and len(names["runs"]) == 3 and len(names["curves"]) > 9


def run_cells(cells: list[Any], names: dict[str, Any]) -> list[Any]:
    """By Python itself: that a cell shows the value of its last line is all that Jupyter adds."""
    values: list[Any] = []
    for cell in cells:
        *body, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(body, []), str(NOTEBOOK), "exec"), names)
        if isinstance(last, ast.Expr):
            code = compile(ast.Expression(last.value), str(NOTEBOOK), "eval")
            values.append(eval(code, names))
        else:
            exec(compile(ast.Module([last], []), str(NOTEBOOK), "exec"), names)
    return values
