"""The report of one study: what its page says, and the files that are written of it."""

from pathlib import Path

from ns_bench.files import publish, publish_json, sweep
from ns_bench.report import blocks as b
from ns_bench.report import figure, formats, latex
from ns_bench.report import markdown as md
from ns_bench.report.sections import (
    arms,
    claims,
    cost,
    covers,
    labels,
    methods,
    recipes,
    robustness,
    runs,
    tuned,
)
from ns_bench.verdicts import record
from ns_bench.verdicts.analysis import Analysis


def write(analysis: Analysis, folder: Path, *, refresh: int = 0) -> Path:
    """Write the page, its tables and figures in every format into `folder`; returns report.md.

    Built from stored results alone: the same results give the same bytes. With `refresh` the HTML
    page loads itself again every so many seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, ".*.tmp")
    figure.save(analysis, folder)
    for name, frame in (("runs", analysis.runs), ("curves", analysis.curves)):
        publish(folder / f"{name}.csv", frame.to_csv(index=False).encode())
    publish_json(folder / record.PROTOCOL, record.to_json(analysis.schedule, analysis.record))
    publish(folder / "tables.tex", latex.tables(analysis.title, tables(analysis)).encode())
    page = content(analysis)
    return formats.write(page, folder / "report", figure.inline(analysis, page), refresh=refresh)


def markdown(analysis: Analysis) -> str:
    """Return the page as Markdown."""
    return md.render(content(analysis))


def content(analysis: Analysis) -> b.Page:
    """Return the page: every number on it is from the analysis."""
    study = analysis.study
    return b.Page(
        analysis.title,
        [
            *claims.summary(analysis),
            b.Paragraph([b.Span(study.question, bold=True), f" (paper: {study.source})"]),
            *claims.blocks(analysis),
            *covers.blocks(analysis),
            *tuned.blocks(analysis),
            *arms.blocks(analysis),
            *recipes.blocks(analysis),
            *robustness.blocks(analysis),
            *arms.learning(analysis),
            *arms.published(analysis),
            *labels.blocks(analysis),
            *cost.blocks(analysis),
            *methods.blocks(analysis),
            *runs.blocks(analysis),
            b.Paragraph(f"Profile: {analysis.profile.title}."),
        ],
    )


def tables(analysis: Analysis) -> list[b.Table]:
    """Return the tables that go into a paper, without the columns that a page has no room for."""
    judged = (
        [claims.table(analysis).without("tested against", "seeds won")] if analysis.claims else []
    )
    by_arm = arms.table(analysis).without("seeds won", "d_z", "training (s)")
    return [*judged, by_arm, *robustness.tables(analysis)]
