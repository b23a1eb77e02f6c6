"""The paper's ten findings, in its words, each with the claim that decides it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from ns_bench.files import folder
from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING, effect
from ns_bench.report.sections.claims import stated
from ns_bench.verdicts.analysis import Analysis, ClaimResult


@dataclass(frozen=True)
class Headline:
    """A finding as the paper's summary has it; of soft labels there are two lines.

    Attributes:
        finding: in a few words. words: the paper's.
        place: in the paper. study, claim: what decides it; the claim by its text.
    """

    finding: str
    words: str
    place: str
    study: str
    claim: str


def headlines() -> list[Headline]:
    """Return the table `reports/findings.csv`."""
    with (folder("reports") / "findings.csv").open(newline="", encoding="utf-8") as file:
        return [Headline(**row) for row in csv.DictReader(file, strict=True)]


def blocks(analyses: Sequence[Analysis]) -> list[b.Block]:
    """Return the section that opens the scorecard: a line a finding, a column a profile."""
    found: dict[tuple[str, str, str], tuple[Analysis, ClaimResult]] = {
        (a.study.name, result.claim.text, a.profile.name): (a, result)
        for a in analyses
        for result in a.claims
    }
    profiles = list(dict.fromkeys(analysis.profile.name for analysis in analyses))
    lines = [line for line in headlines() if line.study in {study for study, _, _ in found}]
    if not lines:
        return []

    def ours(line: Headline, profile: str) -> b.Text:
        if (line.study, line.claim, profile) not in found:
            return MISSING
        analysis, result = found[line.study, line.claim, profile]
        said = b.Span(analysis.word(result), bold=True)
        if result.contrast is None:
            return [said]
        later = stated(analysis, result.claim)
        more = f" {effect(result.contrast, result.claim.unit)}"
        return [said, more + (f", {later}" if later else "")]

    def papers(line: Headline) -> str:
        results = [found.get((line.study, line.claim, profile)) for profile in profiles]
        effects = [str(pair[1].paper) for pair in results if pair and pair[1].paper]
        return f"{effects[0] if effects else MISSING} ({line.place})"

    return [
        b.Heading("The ten findings"),
        b.tabulate(
            "The ten findings",
            lines,
            ("finding", lambda line: b.Span(line.finding, bold=True)),
            ("in the paper's words", lambda line: line.words),
            ("the paper", papers),
            *((profile, lambda line, profile=profile: ours(line, profile)) for profile in profiles),
        ),
        b.Heading("Every claim"),
    ]
