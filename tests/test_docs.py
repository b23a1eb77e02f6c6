"""The docs say what the code says: options, fields and keys, links, and commands that are read."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = runpy.run_path(str(ROOT / "docs/generate.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", DOCS["PAGES"])
def test_a_page_of_the_reference_is_what_the_code_says(name: str) -> None:
    written = (ROOT / f"docs/reference/{name}.md").read_text(encoding="utf-8")
    assert written == DOCS["PAGES"][name](), "python docs/generate.py writes it"


def test_the_table_of_the_readme_is_where_it_is_looked_for() -> None:
    assert DOCS["readme"]("| no |\n") != (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_that_are_shown_are_read(page: Path) -> None:
    commands = sorted(DOCS["COMMANDS"], key=len, reverse=True)
    either = r"(?:python -m ns_bench\.|ns-bench )"
    line = re.compile(rf"^(?:.*&& )?{either}({'|'.join(commands)})(?= |$)(.*)", re.M)
    for name, rest in line.findall(page.read_text(encoding="utf-8")):
        DOCS["parser"](DOCS["COMMANDS"][name]).parse_args(shlex.split(rest, comments=True))


def test_every_page_is_in_the_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES[2:]:
        assert f" {page.relative_to(ROOT / 'docs').as_posix()}\n" in listed
