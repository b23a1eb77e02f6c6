"""The paper's ten findings, in its words, each with the claim that decides it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from ns_bench.files import folder
from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING, effect, signed
from ns_bench.report.sections.claims import stated, tested_against
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


Found = dict[tuple[str, str, str], tuple[Analysis, ClaimResult]]
"""By study, claim and profile."""


def _found(analyses: Sequence[Analysis]) -> Found:
    return {
        (a.study.name, result.claim.text, a.profile.name): (a, result)
        for a in analyses
        for result in a.claims
    }


def brief(analyses: Sequence[Analysis]) -> b.Table:
    """Return the README's table: of each profile a verdict and an effect, without its interval."""
    found = _found(analyses)
    profiles = sorted({profile for _, _, profile in found})

    def papers(line: Headline) -> str:
        effects = [result.paper for _, result in _of(line, found) if result.paper]
        doubt = "" if all(effect.verified for effect in effects) else "?"
        return signed(effects[0].value) + doubt if effects else MISSING

    def ours(line: Headline, profile: str) -> str:
        if (line.study, line.claim, profile) not in found:
            return MISSING
        analysis, result = found[line.study, line.claim, profile]
        number = f" {signed(result.contrast.mean)}" if result.contrast else ""
        return analysis.word(result) + number + ("†" if stated(analysis, result.claim) else "")

    return b.tabulate(
        "The ten findings",
        headlines(),
        ("finding", lambda line: line.finding),
        ("the paper", papers),
        *((profile, lambda line, profile=profile: ours(line, profile)) for profile in profiles),
    )


def blocks(analyses: Sequence[Analysis]) -> list[b.Block]:
    """Return the section that opens the scorecard: a line a finding, a column a profile."""
    found = _found(analyses)
    profiles = sorted({analysis.profile.name for analysis in analyses})
    lines = [line for line in headlines() if line.study in {study for study, _, _ in found}]
    if not lines:
        return []

    def ours(line: Headline, profile: str) -> b.Text:
        if (line.study, line.claim, profile) not in found:
            return MISSING
        analysis, result = found[line.study, line.claim, profile]
        said = b.Span(analysis.word(result), verdict=True)
        if result.contrast is None:
            return [said]
        null = tested_against(result)
        more = [
            f" {effect(result.contrast, result.claim.unit)}",
            f"tested against {null}" if null != "0" else "",
            stated(analysis, result.claim),
        ]
        return [said, ", ".join(filter(None, more))]

    def papers(line: Headline) -> str:
        effects = [str(result.paper) for _, result in _of(line, found) if result.paper]
        return f"{effects[0] if effects else MISSING} ({line.place})"

    return [
        b.Heading("The ten findings"),
        b.tabulate(
            "The ten findings",
            lines,
            ("finding", lambda line: b.Span(line.finding, bold=True)),
            ("the paper", papers),
            *((profile, lambda line, profile=profile: ours(line, profile)) for profile in profiles),
            ("in the paper's words", lambda line: line.words),
        ),
        b.Heading("Every claim"),
    ]


def _of(line: Headline, found: Found) -> list[tuple[Analysis, ClaimResult]]:
    """Return what decides a finding, profile by profile."""
    return [pair for key, pair in found.items() if key[:2] == (line.study, line.claim)]
