"""The scorecard: every finding in one table and one figure, the profiles side by side."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ns_bench.design.schedule import ALPHA, least_seeds
from ns_bench.files import publish
from ns_bench.report import blocks as b
from ns_bench.report import figure as figures
from ns_bench.report import forest, formats, headlines, side_by_side
from ns_bench.report.findings import Finding, findings, frame, profiles_of
from ns_bench.report.numbers import MISSING, effect, signed
from ns_bench.report.sections.claims import (
    effect_of,
    paper_effect,
    seeds_of,
    stated,
    tested_against,
    unfinished,
)
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.family import Member, members
from ns_bench.verdicts.sources import folder_name


def write(analyses: Sequence[Analysis], folder: Path, *, refresh: int = 0) -> Path:
    """Write scorecard.md, .html, .csv and the figure into `folder`; returns scorecard.md."""
    folder.mkdir(parents=True, exist_ok=True)
    figures.write(forest.draw(analyses), folder / "scorecard")
    publish(folder / "scorecard.csv", frame(analyses).to_csv(index=False).encode())
    return formats.write(content(analyses), folder / "scorecard", refresh=refresh)


def content(analyses: Sequence[Analysis]) -> b.Page:
    """Return the page: every number on it is from the analyses."""
    profiles = profiles_of(analyses)
    titles = {analysis.profile.name: analysis.profile.title for analysis in analyses}
    blocks: list[b.Block] = [
        *_notes(analyses),
        *headlines.blocks(analyses),
        b.Items([f"{profile}: {_counts(analyses, profile)}" for profile in profiles]),
        b.Picture(
            "scorecard",
            "Every finding: our effect with its 95 % interval in each profile, the verdict, and "
            "the paper's effect",
        ),
        _table(findings(analyses), profiles),
        b.Paragraph(
            [
                "Our effects are means of paired differences by end-to-end seed, in points of "
                "test top-1 unless another unit is given. A verdict and its 95 % interval hold "
                "for all claims of its study together; where a claim is reproduced over all claims "
                "of this page, too, its error rate is named. "
                "The paper's effects are single runs on ImageNet, without error bars, in "
                "points; in brackets the version of the paper. ",
                b.Span("unverified", code=True),
                ": the figure was not read in a source. Directions can be compared, sizes hardly.",
            ]
        ),
        b.Items([f"{name}: {title}." for name, title in titles.items()]),
        *_one_error_rate(analyses),
        *side_by_side.blocks(analyses),
    ]
    return b.Page("Scorecard", blocks)


def _table(findings: Sequence[Finding], profiles: Sequence[str]) -> b.Table:
    table = b.tabulate(
        "Findings",
        findings,
        ("study", _study_link),
        ("claim", lambda f: f.text),
        ("the paper", lambda f: paper_effect(f.first)),
        *((profile, lambda f, profile=profile: _result(f, profile)) for profile in profiles),
    )
    words = [{a.word(result) for a, result in f.results.values()} for f in findings]
    return replace(
        table,
        sortable=True,
        forest=[_forest(finding, profiles) for finding in findings],
        filters={"study": [{f.study} for f in findings], "verdict": words},
    )


def _study_link(finding: Finding) -> b.Span:
    analysis, _ = next(iter(finding.results.values()))
    return b.Span(finding.study, page=_report_of(analysis))


def _result(finding: Finding, profile: str) -> b.Text:
    """Return a profile's verdict with its effect; a dash where a finding has no results in it."""
    if profile not in finding.results:
        return MISSING
    analysis, result = finding.results[profile]
    said = b.Span(analysis.word(result), verdict=True, page=_report_of(analysis))
    if result.contrast is None:
        return said
    member = finding.members.get(profile)
    more = [
        f" {effect_of(result)}",
        f"tested against {null}" if (null := tested_against(result)) != "0" else "",
        f"n = {seeds_of(analysis, result)}",
        stated(analysis, result.claim),
        f"over all claims: {member.control}" if member and member.control else "",
    ]
    return [said, "; ".join(filter(None, more))]


def _one_error_rate(analyses: Sequence[Analysis]) -> list[b.Block]:
    """Return how many claims are reproduced over all of them, and how sizes that matter move it."""
    family = {scale: _members(analyses, scale) for scale in (0.5, 1.0, 2.0)}
    now = family[1.0]
    if not now:
        return []
    counts: dict[str, Callable[[list[Member]], int]] = {
        **{word: _counter(word) for word in _WORDS},
        "reproduced, familywise": lambda of: _held(of, "familywise"),
        "reproduced, false discovery": lambda of: _held(of, "discovery"),
        "the same if positive": lambda of: _held(of, "positive"),
    }
    needed = least_seeds(len(now))
    return [
        b.Heading("One error rate over all claims"),
        b.Paragraph(
            [
                f"Of {counts['reproduced'](now)} claims that are reproduced within their study, ",
                b.Span(f"{_held(now, 'familywise')} hold over all {len(now)} claims", bold=True),
                " at a familywise error rate of 5 % (Holm), and "
                f"{_held(now, 'discovery')} at a false discovery rate of 5 % however claims "
                f"depend on each other (Benjamini and Yekutieli); {_held(now, 'positive')} if "
                "they depended positively (Benjamini and Hochberg), which claims that share arms "
                "need not, so that nothing here rests on it. Holm asks the first of "
                f"{len(now)} claims for p below {ALPHA / len(now):.4f}, and n seeds have no p "
                f"below 2/2^n: with fewer than {needed} seeds no effect is large enough.",
            ]
        ),
        b.tabulate(
            "The same with the smallest effects of interest halved and doubled",
            counts.items(),
            ("smallest effects", lambda count: count[0]),
            *(
                (f"x {scale:g}", lambda count, of=of: str(count[1](of)))
                for scale, of in family.items()
            ),
        ),
    ]


_WORDS = ("reproduced", "equivalent", "inconclusive", "contradicted", "not run")


def _members(analyses: Sequence[Analysis], scale: float) -> list[Member]:
    return [member for judged in members(analyses, scale) for member in judged if member]


def _counter(word: str) -> Callable[[list[Member]], int]:
    return lambda family: sum(member.word == word for member in family)


def _held(family: Sequence[Member], control: str) -> int:
    return sum(member.holds(getattr(member, control)) for member in family)


def _report_of(analysis: Analysis) -> str:
    return f"{folder_name(analysis.study, analysis.profile)}/report"


def _forest(finding: Finding, profiles: Sequence[str]) -> b.Forest:
    marks, words = [], []
    for profile, (_, result) in finding.results.items():
        if (c := result.contrast) is not None:
            low, high = (c.low, c.high) if math.isfinite(c.high - c.low) else (None, None)
            marks.append(b.Mark(profile, c.mean, low, high, profiles.index(profile)))
            words.append(f"{profile} {effect(c)}")
    paper = finding.first.paper
    if paper is not None:
        words.append(f"the paper {signed(paper.value)}")
    return b.Forest(
        marks,
        paper.value if paper else None,
        finding.claim.smallest_effect,
        "; ".join(words) or "no effect measured",
    )


def _counts(analyses: Sequence[Analysis], profile: str) -> str:
    """Return how many claims got which word; claims of ours are counted apart."""

    def count(in_paper: bool) -> str:
        words = Counter(
            analysis.word(result)
            for analysis in analyses
            for result in analysis.claims
            if analysis.profile.name == profile and result.claim.in_paper is in_paper
        )
        return ", ".join(f"{number} {word}" for word, number in sorted(words.items()))

    ours = count(in_paper=False)
    return (count(in_paper=True) or "no claims") + (f"; not in the paper: {ours}" if ours else "")


def _notes(analyses: Sequence[Analysis]) -> list[b.Block]:
    notes: list[b.Text] = []
    failed = dict.fromkeys(
        run.id for a in analyses for run in a.unfinished if run.state == "failed"
    )
    if failed:
        ids = [part for run_id in failed for part in (", ", b.Span(run_id, code=True))]
        notes.append([b.Span(f"{len(failed)} failed:", bold=True), " ", *ids[1:], "."])
    for analysis in analyses:
        name = f"{analysis.study.name} · {analysis.profile.name}"
        if analysis.unfinished:
            incomplete = b.Span(f"{name} is incomplete:", bold=True)
            notes.append([incomplete, f" {unfinished(analysis)}."])
        if analysis.foreign:
            foreign = f" {analysis.foreign} runs have another recipe than now."
            notes.append([b.Span(f"{name}:", bold=True), foreign])
    return [b.Notes(notes)] if notes else []
