"""The scorecard: every finding in one table and one figure, the profiles side by side."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from ns_bench.design.definition import Claim
from ns_bench.files import publish
from ns_bench.report import html, style
from ns_bench.report import markdown as md
from ns_bench.report.blocks import (
    Block,
    Forest,
    Items,
    Mark,
    Notes,
    Page,
    Paragraph,
    Picture,
    Span,
    Table,
    Text,
)
from ns_bench.report.figure import plain, wrap
from ns_bench.report.figure import write as write_figure
from ns_bench.report.numbers import MISSING, interval, signed
from ns_bench.report.page import papers, seeds_of
from ns_bench.report.style import BAND, INK, LINE, PAPER, RULE, SERIES
from ns_bench.verdicts.analysis import Analysis, ClaimResult
from ns_bench.verdicts.sources import folder_name


@dataclass(frozen=True)
class Finding:
    """A claim of a study with its results: {profile: (analysis, result)}, one or more."""

    study: str
    text: str
    results: dict[str, tuple[Analysis, ClaimResult]]

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
    found: dict[tuple[str, str, int], Finding] = {}
    for name in dict.fromkeys(analysis.study.name for analysis in analyses):
        for analysis in analyses:
            said: Counter[str] = Counter()
            for result in analysis.claims if analysis.study.name == name else []:
                text = result.claim.text
                key = (name, text, said[text])  # a study may say the same twice: none is lost
                said[text] += 1
                finding = found.setdefault(key, Finding(name, text, {}))
                finding.results[analysis.profile.name] = (analysis, result)
    return list(found.values())


def write(analyses: Sequence[Analysis], folder: Path, *, refresh: int = 0) -> Path:
    """Write scorecard.md, .html, .csv and the figure into `folder`; returns scorecard.md."""
    folder.mkdir(parents=True, exist_ok=True)
    write_figure(draw(analyses), folder / "scorecard")
    publish(folder / "scorecard.csv", frame(analyses).to_csv(index=False).encode())
    said = content(analyses)
    publish(folder / "scorecard.html", html.render(said, {}, refresh=refresh).encode())
    path = folder / "scorecard.md"
    publish(path, md.render(said).encode())
    return path


def frame(analyses: Sequence[Analysis]) -> pd.DataFrame:
    """Return the scorecard as a tidy table: one row a finding and profile."""
    rows = []
    for finding in findings(analyses):
        for profile, (analysis, result) in finding.results.items():
            c, effect = result.contrast, result.paper
            rows.append(
                {
                    "study": finding.study,
                    "claim": finding.text,
                    "kind": result.claim.kind,
                    "profile": profile,
                    "unit": result.claim.unit,
                    "smallest_effect": result.claim.smallest_effect,
                    "effect": c.mean if c else math.nan,
                    "low": c.low if c else math.nan,
                    "high": c.high if c else math.nan,
                    "n": result.n,
                    "seeds": analysis.seeds,
                    "p": result.p,
                    "p_holm": result.p_holm,
                    "verdict": analysis.word(result),
                    "reason": result.verdict.reason,
                    "weakest_contrast": result.label,
                    "paper_effect": effect.value if effect else math.nan,
                    "paper_versions": " ".join(effect.versions) if effect else "",
                    "paper_verified": effect.verified if effect else "",
                    "paper_note": result.claim.note,
                }
            )
    return pd.DataFrame(rows)


def content(analyses: Sequence[Analysis]) -> Page:
    """Return the page: every number on it is from the analyses."""
    profiles = _profiles(analyses)
    header = ["study", "claim"]
    for profile in profiles:
        header += [f"{profile}: verdict", "effect, 95 % interval", "n"]
    header.append("the paper")
    found = findings(analyses)
    rows: list[list[Text]] = []
    for finding in found:
        row: list[Text] = [_study_link(finding), finding.text]
        for profile in profiles:
            row += _cells(finding.results.get(profile))
        rows.append([*row, papers(finding.first)])
    words = [{a.word(result) for a, result in f.results.values()} for f in found]
    titles = {a.profile.name: a.profile.title for a in analyses}
    blocks: list[Block] = [
        *_banner(analyses),
        Items([f"{profile}: {_counts(analyses, profile)}" for profile in profiles]),
        Picture(
            "scorecard",
            "Every finding: our effect with its 95 % interval in each profile, the verdict, and "
            "the paper's effect",
        ),
        Table(
            "Findings",
            header,
            rows,
            sortable=True,
            forest=[_forest(finding, profiles) for finding in found],
            filters={"study": [{f.study} for f in found], "verdict": words},
        ),
        Paragraph(
            [
                "Our effects are means of paired differences by end-to-end seed, with 95 % "
                "t-intervals, in points of test top-1 unless another unit is given; a verdict "
                "needs the interval and a sign-flip test, corrected over the study's claims "
                "(Holm). The paper's effects are single runs on ImageNet, without error bars, in "
                "points; in brackets the version of the paper. ",
                Span("unverified", code=True),
                ": the figure was not read in a source. Directions can be compared, sizes hardly.",
            ]
        ),
        Items([f"{name}: {title}." for name, title in titles.items()]),
    ]
    return Page("Scorecard", blocks)


def _profiles(analyses: Sequence[Analysis]) -> list[str]:
    return list(dict.fromkeys(analysis.profile.name for analysis in analyses))


def _report_of(analysis: Analysis) -> str:
    return f"{folder_name(analysis.study, analysis.profile)}/report"


def _study_link(finding: Finding) -> Span:
    analysis, _ = next(iter(finding.results.values()))
    return Span(finding.study, page=_report_of(analysis))


def _cells(found: tuple[Analysis, ClaimResult] | None) -> list[Text]:
    if found is None:
        return [MISSING] * 3
    analysis, result = found
    c = result.contrast
    effect = f"{signed(c.mean)} {interval(c, sign=True)} {result.claim.unit}" if c else MISSING
    if result.label:
        effect += f"; weakest contrast: {result.label}"
    word = Span(analysis.word(result), bold=True, page=_report_of(analysis))
    return [word, effect, seeds_of(analysis, result)]


def _forest(finding: Finding, profiles: Sequence[str]) -> Forest:
    marks, words = [], []
    for profile, (_, result) in finding.results.items():
        if (c := result.contrast) is not None:
            exact = math.isnan(c.low)
            low, high = (None, None) if exact else (c.low, c.high)
            marks.append(Mark(profile, c.mean, low, high, profiles.index(profile)))
            words.append(f"{profile} {signed(c.mean)} {interval(c, sign=True)}")
    effect = finding.first.paper
    if effect is not None:
        words.append(f"the paper {signed(effect.value)}")
    return Forest(
        marks,
        effect.value if effect else None,
        finding.claim.smallest_effect,
        "; ".join(words) or "no effect measured",
    )


def _counts(analyses: Sequence[Analysis], profile: str) -> str:
    mine = [a for a in analyses if a.profile.name == profile]
    words = Counter(a.word(result) for a in mine for result in a.claims)
    return ", ".join(f"{count} {word}" for word, count in sorted(words.items())) or "no claims"


def _banner(analyses: Sequence[Analysis]) -> list[Block]:
    notes: list[Text] = []
    failed = dict.fromkeys(
        run.id for a in analyses for run in a.unfinished if run.state == "failed"
    )
    if failed:
        ids: list[str | Span] = [Span(f"{len(failed)} failed:", bold=True)]
        for run_id in failed:
            ids += [" ", Span(run_id, code=True), ","]
        notes.append([*ids[:-1], "."])
    for analysis in analyses:
        name = f"{analysis.study.name} · {analysis.profile.name}"
        if analysis.unfinished:
            states = Counter(run.state for run in analysis.unfinished)
            counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            notes.append([Span(f"{name} is incomplete:", bold=True), f" {counts}."])
        if analysis.foreign:
            foreign = f" {analysis.foreign} runs have another recipe than now."
            notes.append([Span(f"{name}:", bold=True), foreign])
    return [Notes(notes)] if notes else []


_BOLD = ("reproduced", "contradicted")
_WIDTH, _TOP, _BOTTOM = 11.5, 0.8, 0.6
"""Inches: width of the figure, and its margins above and below the axes."""
_LEFT, _RIGHT = 0.40, 0.76
"""Shares of the width between which the axes are: words stand left and right of them."""


def draw(analyses: Sequence[Analysis]) -> Figure:
    """Return a forest plot: a block a finding, with a row a profile and one for the paper."""
    style.theme(top=True)
    found = findings(analyses)
    styles = {p: SERIES[i % len(SERIES)][:2] for i, p in enumerate(_profiles(analyses))}
    texts = [wrap(_words(finding), 66) for finding in found]
    heights = [
        max(text.count("\n") + 1, len(f.results) + (f.first.paper is not None)) + 0.9
        for text, f in zip(texts, found, strict=True)
    ]
    studies = len({finding.study for finding in found})
    total = max(sum(heights) + 1.7 * studies, 3.0)
    height = LINE * total + _TOP + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes(
        (_LEFT, _BOTTOM / height, _RIGHT - _LEFT, (height - _TOP - _BOTTOM) / height)
    )
    axes.set_ylim(total, 0)
    beside = blended_transform_factory(figure.transFigure, axes.transData)

    def say(x: float, y: float, text: str, **style: str) -> None:
        axes.text(x, y, text, transform=beside, fontsize=8, color=INK, **style)  # type: ignore[arg-type]

    y, study = 0.0, None
    for finding, text, block in zip(found, texts, heights, strict=True):
        if finding.study != study:
            study = finding.study
            axes.axhline(y + 0.35, color=RULE, lw=0.6)
            say(0.01, y + 1.0, plain(study), va="center", weight="bold")
            y += 1.7
        say(0.01, y, text, va="top")
        row = y + 0.5
        for profile, (analysis, result) in finding.results.items():
            word = analysis.word(result)
            _effect(axes, row, result, *styles[profile])
            weight = "bold" if word in _BOLD else "normal"
            words = f"{profile}: {word}"
            if not result.claim.untestable:
                words += f", n = {seeds_of(analysis, result)}"
            say(_RIGHT + 0.01, row, plain(words), va="center", weight=weight)
            row += 1
        if (effect := finding.first.paper) is not None:
            axes.plot(effect.value, row, "D", mfc=PAPER, mec=INK, ms=5, zorder=3)
            say(_RIGHT + 0.01, row, f"the paper: {effect}", va="center", style="italic")
        y += block
    axes.axvline(0, color=INK, lw=0.8, zorder=1)
    axes.set_yticks([])
    axes.tick_params(top=True, labeltop=True)
    axes.set_xlabel("effect on test top-1 (points, or points a step where it says so)")
    axes.spines["left"].set_visible(False)
    figure.text(0.01, 1 - 0.3 / height, "Scorecard", fontsize=12, weight="bold", color=INK)
    figure.legend(
        handles=_legend(styles), loc="upper right", ncols=len(styles) + 2, frameon=False, fontsize=8
    )
    return figure


def _words(finding: Finding) -> str:
    unit = "" if finding.claim.unit == "points" else f" ({finding.claim.unit})"
    return f"{finding.text}{unit}"


def _effect(axes: Axes, y: float, result: ClaimResult, color: str, marker: str) -> None:
    if result.claim.untestable:
        return
    smallest, c = result.claim.smallest_effect, result.contrast
    axes.plot([-smallest, smallest], [y, y], color=BAND, lw=9, zorder=0, solid_capstyle="butt")
    if c is not None:
        if not math.isnan(c.low):
            axes.plot([c.low, c.high], [y, y], color=color, lw=1.6, zorder=2)
        axes.plot(c.mean, y, marker, color=color, ms=5, zorder=3)


def _legend(styles: dict[str, tuple[str, str]]) -> list[Line2D]:
    ours = [
        Line2D([], [], color=color, marker=marker, ms=5, label=plain(profile))
        for profile, (color, marker) in styles.items()
    ]
    return [
        *ours,
        Line2D([], [], color=BAND, lw=7, label="too small to matter"),
        Line2D([], [], ls="", marker="D", mfc=PAPER, mec=INK, label="the paper, on ImageNet"),
    ]
