"""The scorecard: every finding in one table and one figure, the profiles side by side."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ns_bench.design.definition import Claim
from ns_bench.design.schedule import ALPHA, least_seeds
from ns_bench.files import publish
from ns_bench.report import blocks as b
from ns_bench.report import figure as figures
from ns_bench.report import formats, headlines, side_by_side, style
from ns_bench.report.numbers import MISSING, effect, signed
from ns_bench.report.sections.claims import (
    effect_of,
    paper_effect,
    seeds_of,
    stated,
    tested_against,
    unfinished,
)
from ns_bench.report.style import BAND, INK, LINE, PAPER, RULE, SERIES, plain, wrap
from ns_bench.verdicts.analysis import Analysis, ClaimResult
from ns_bench.verdicts.family import Member, members
from ns_bench.verdicts.sources import folder_name


@dataclass(frozen=True)
class Finding:
    """A claim of a study with its results in one profile or more.

    Attributes:
        results: {profile: (analysis, result)}.
        members: {profile: the claim among all claims}; None where there is no verdict.
    """

    study: str
    text: str
    results: dict[str, tuple[Analysis, ClaimResult]]
    members: dict[str, Member | None]

    @property
    def first(self) -> ClaimResult:
        """The result that has the paper's effect; it is the same in every profile that has it."""
        results = [result for _, result in self.results.values()]
        return max(results, key=lambda r: (r.paper is not None, bool(r.claim.note)))

    @property
    def claim(self) -> Claim:
        return self.first.claim


def findings(analyses: Sequence[Analysis]) -> list[Finding]:
    """Return one finding a claim, in the studies' order; a claim is known by its text."""
    by_claim: dict[tuple[str, str, int], Finding] = {}
    family = list(zip(analyses, members(analyses), strict=True))
    for name in dict.fromkeys(analysis.study.name for analysis in analyses):
        for analysis, judged in family:
            claims = analysis.by_text if analysis.study.name == name else {}
            for ((text, number), result), member in zip(claims.items(), judged, strict=False):
                finding = by_claim.setdefault((name, text, number), Finding(name, text, {}, {}))
                finding.results[analysis.profile.name] = (analysis, result)
                finding.members[analysis.profile.name] = member
    return list(by_claim.values())


def write(analyses: Sequence[Analysis], folder: Path, *, refresh: int = 0) -> Path:
    """Write scorecard.md, .html, .csv and the figure into `folder`; returns scorecard.md."""
    folder.mkdir(parents=True, exist_ok=True)
    figures.write(draw(analyses), folder / "scorecard")
    publish(folder / "scorecard.csv", frame(analyses).to_csv(index=False).encode())
    return formats.write(content(analyses), folder / "scorecard", refresh=refresh)


def frame(analyses: Sequence[Analysis]) -> pd.DataFrame:
    """Return the scorecard as a tidy table: one row a finding and profile."""
    rows = []
    for finding in findings(analyses):
        for profile, (analysis, result) in finding.results.items():
            contrast, paper = result.contrast, result.paper
            member = finding.members[profile]
            rows.append(
                {
                    "study": finding.study,
                    "claim": finding.text,
                    "kind": result.claim.kind,
                    "profile": profile,
                    "unit": result.claim.unit,
                    "smallest_effect": result.claim.smallest_effect,
                    "effect": contrast.mean if contrast else math.nan,
                    "low": contrast.low if contrast else math.nan,
                    "high": contrast.high if contrast else math.nan,
                    "n": result.n,
                    "seeds": analysis.seeds,
                    "p": result.p,
                    "p_holm": result.p_holm,
                    "p_familywise": member.familywise if member else math.nan,
                    "p_false_discovery": member.discovery if member else math.nan,
                    "verdict": analysis.word(result),
                    "reason": result.verdict.reason,
                    "weakest_contrast": result.label,
                    "paper_effect": paper.value if paper else math.nan,
                    "paper_versions": " ".join(paper.versions) if paper else "",
                    "paper_verified": paper.verified if paper else "",
                    "paper_note": result.claim.note,
                    "in_paper": result.claim.in_paper,
                    "stated": stated(analysis, result.claim) or "before any run",
                }
            )
    return pd.DataFrame(rows)


def content(analyses: Sequence[Analysis]) -> b.Page:
    """Return the page: every number on it is from the analyses."""
    profiles = _profiles(analyses)
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


def _profiles(analyses: Sequence[Analysis]) -> list[str]:
    return sorted({analysis.profile.name for analysis in analyses})


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


_BOLD = ("reproduced", "contradicted")
_WIDTH, _TOP, _BOTTOM = 11.5, 0.8, 0.6
"""Inches: width of the figure, and its margins above and below the axes."""
_LEFT, _RIGHT = 0.40, 0.76
"""Shares of the width between which the axes are: words stand left and right of them."""
_GAP, _HEAD = 0.9, 1.7
"""Lines of text: below each finding, and for the name of a study."""


def draw(analyses: Sequence[Analysis]) -> Figure:
    """Return a forest plot: a block a finding, with a row a profile and one for the paper."""
    style.theme(top=True)
    rows = findings(analyses)
    styles = {p: SERIES[i % len(SERIES)][:2] for i, p in enumerate(_profiles(analyses))}
    texts = [wrap(_words(finding), 66) for finding in rows]
    heights = [
        max(text.count("\n") + 1, len(f.results) + (f.first.paper is not None)) + _GAP
        for text, f in zip(texts, rows, strict=True)
    ]
    studies = len({finding.study for finding in rows})
    figure, axes = _axes(max(sum(heights) + _HEAD * studies, 3.0))
    y, study = 0.0, None
    for finding, text, height in zip(rows, texts, heights, strict=True):
        if finding.study != study:
            study = finding.study
            axes.axhline(y + 0.35, color=RULE, lw=0.6)
            _write(axes, 0.01, y + 1.0, plain(study), va="center", weight="bold")
            y += _HEAD
        _write(axes, 0.01, y, text, va="top")
        _effects(axes, y + 0.5, finding, styles)
        y += height
    axes.axvline(0, color=INK, lw=0.8, zorder=1)
    figure.legend(
        handles=_legend(styles), loc="upper right", ncols=len(styles) + 2, frameon=False, fontsize=8
    )
    return figure


def _axes(total: float) -> tuple[Figure, Axes]:
    """Return a figure whose axes have room for so many lines of text, counted from the top."""
    height = LINE * total + _TOP + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes(
        (_LEFT, _BOTTOM / height, _RIGHT - _LEFT, (height - _TOP - _BOTTOM) / height)
    )
    axes.set_ylim(total, 0)
    axes.set_yticks([])
    axes.tick_params(top=True, labeltop=True)
    axes.set_xlabel("effect on test top-1 (points, or points a step where it says so)")
    axes.spines["left"].set_visible(False)
    figure.text(0.01, 1 - 0.3 / height, "Scorecard", fontsize=12, weight="bold", color=INK)
    return figure, axes


def _write(axes: Axes, x: float, y: float, text: str, **font: Any) -> None:
    """Write beside the axes: x is a share of the figure's width, y a line."""
    axes.annotate(
        text,
        (x, y),
        xycoords=("figure fraction", "data"),
        fontsize=8,
        color=INK,
        annotation_clip=False,
        **font,
    )


def _effects(
    axes: Axes, row: float, finding: Finding, styles: Mapping[str, tuple[str, str]]
) -> None:
    """Draw a finding's effect in each profile, and the paper's below them."""
    for profile, (analysis, result) in finding.results.items():
        word = analysis.word(result)
        words = f"{profile}: {word}"
        if not result.claim.untestable:
            figures.effect(axes, row, result, *styles[profile])
            words += f", n = {seeds_of(analysis, result)}"
        weight = "bold" if word in _BOLD else "normal"
        _write(axes, _RIGHT + 0.01, row, plain(words), va="center", weight=weight)
        row += 1
    if (paper := finding.first.paper) is not None:
        axes.plot(paper.value, row, "D", mfc=PAPER, mec=INK, ms=5, zorder=3)
        _write(axes, _RIGHT + 0.01, row, f"the paper: {paper}", va="center", style="italic")


def _words(finding: Finding) -> str:
    unit = "" if finding.claim.unit == "points" else f" ({finding.claim.unit})"
    return f"{finding.text}{unit}"


def _legend(styles: Mapping[str, tuple[str, str]]) -> list[Line2D]:
    profiles = [
        Line2D([], [], color=color, marker=marker, ms=5, label=plain(profile))
        for profile, (color, marker) in styles.items()
    ]
    return [
        *profiles,
        Line2D([], [], color=BAND, lw=7, label="too small to matter"),
        Line2D([], [], ls="", marker="D", mfc=PAPER, mec=INK, label="the paper, on ImageNet"),
    ]
