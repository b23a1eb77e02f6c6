"""What is published is what its tables say, byte for byte; the HTML pages can be made of it."""

import json
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import pytest
from rich.console import Console

from ns_bench.cli import terminal
from ns_bench.design import definition
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.report import blocks, findings, headlines, html, latex, scorecard
from ns_bench.report import markdown as md
from ns_bench.report.page import content, markdown, tables
from ns_bench.report.sections import arms
from ns_bench.verdicts import record
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.sources import from_tables

pytestmark = pytest.mark.slow

PUBLISHED = Path(definition.__file__).parents[2] / "reports/published"
FOLDERS = sorted(path.parent.name for path in PUBLISHED.glob("*/runs.csv"))
PAIRS = [(study, scale) for study in definition.study_names() for scale in profile_names()]
IN_ORDER = [f"{study}-{scale}" for study, scale in PAIRS if f"{study}-{scale}" in FOLDERS]


@lru_cache
def analysis_of(folder: str) -> Analysis:
    study, _, profile = folder.rpartition("-")
    analysis = from_tables(definition.load_study(study), load_profile(profile), PUBLISHED)
    assert analysis is not None
    return analysis


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_report_is_what_its_tables_say(folder):
    analysis = analysis_of(folder)
    made = {
        "report.md": markdown(analysis),
        "tables.tex": latex.tables(analysis.title, tables(analysis)),
        "runs.csv": analysis.runs.to_csv(index=False),
        "curves.csv": analysis.curves.to_csv(index=False),
    }
    for name, text in made.items():
        assert text == (PUBLISHED / folder / name).read_text(), name
    protocol = json.loads((PUBLISHED / folder / record.PROTOCOL).read_bytes())
    assert protocol == json.loads(json.dumps(record.to_json(analysis.schedule, analysis.record)))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_report_can_be_made_as_html(folder):
    page = content(analysis_of(folder))
    text = html.render(page, {})
    rows = [row for block in page.blocks for row in getattr(block, "rows", [])]
    assert text.count("<tr>") > len(rows) > 0
    assert text.rstrip().endswith("</html>")


def test_the_scorecard_is_what_the_tables_say():
    analyses = [analysis_of(folder) for folder in IN_ORDER]
    assert len(analyses) == len(FOLDERS)
    page = scorecard.content(analyses)
    assert md.render(page) == (PUBLISHED / "scorecard.md").read_text()
    assert findings.frame(analyses).to_csv(index=False) == (PUBLISHED / "scorecard.csv").read_text()
    assert "<h1>Scorecard</h1>" in html.render(page, {})


def test_arms_that_stopped_when_their_claims_were_decided_lack_nothing(capsys):
    terminal.table(analysis_of("teacher_size-fashion"))
    shown = capsys.readouterr().out
    assert "24/24" in shown and "12/12" in shown and "12/24" not in shown


def test_a_narrow_terminal_loses_no_number(capsys, monkeypatch):
    narrow = partial(Console, width=40, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "Console", narrow)
    analysis = analysis_of("teacher_size-fashion")
    terminal.table(analysis)
    shown = capsys.readouterr().out
    assert "…" not in shown and "12/12" in shown
    for arm in analysis.arms:
        assert arm.interval is not None
        for value in (arm.interval.mean, arm.interval.low, arm.interval.high):
            assert f"{value:.2f}" in shown


def test_the_readme_shows_the_ten_findings_as_they_are_published():
    table = headlines.brief([analysis_of(folder) for folder in IN_ORDER])
    assert len(table.rows) == 11  # soft labels have two lines
    shown = md.render(blocks.Page("", [table])).removeprefix("# \n\n")
    readme = (PUBLISHED.parents[1] / "README.md").read_text()
    assert shown in readme, "python docs/generate.py writes it"


def test_the_reported_svhn_numbers_stand_in_reports_of_svhn():
    digits = analysis_of("teacher_size-digits")
    svhn = arms.published(replace(digits, profile=load_profile("svhn")))
    (table,) = [block for block in svhn if getattr(block, "title", "") == "Reported for svhn"]
    assert isinstance(table, blocks.Table)
    assert [row[:2] for row in table.rows][:2] == [
        ["B0 supervised", "97.90"],
        ["B0 student", "98.60"],
    ]
    headings = [block.text for block in arms.published(digits) if isinstance(block, blocks.Heading)]
    assert headings == ["The paper beside it"]
