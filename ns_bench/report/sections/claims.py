"""What has to be known first, and each claim with its verdict, its effect and the paper's."""

import math
from collections import Counter

import pandas as pd

from ns_bench.design.definition import Claim
from ns_bench.report import blocks as b
from ns_bench.report import figure
from ns_bench.report.numbers import MISSING, effect, p_value, share
from ns_bench.verdicts.analysis import Analysis, ClaimResult
from ns_bench.verdicts.statistics import amount
from ns_bench.verdicts.table import computations, suspicions


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return the notes on what is shown, the verdicts, the figure and the table of claims."""
    name = analysis.study.name
    panels = [
        b.Panel(
            "arms",
            "Test top-1 of every seed by arm, with each arm's mean and 95 % t-interval; "
            "the table of arms has the numbers",
        )
    ]
    if analysis.claims:
        panels.append(
            b.Panel(
                "claims",
                "The effect of each claim with its 95 % interval, beside the paper's; the "
                "table of verdicts has the numbers",
            )
        )
    alt = f"{name}: test top-1 of every seed by arm, and the effect of each claim"
    return [
        *notes(analysis),
        b.Heading("Verdicts"),
        *_boxes(analysis),
        b.Picture(name, alt, panels),
        table(analysis),
        _protocol(analysis),
        *_path(analysis),
    ]


def _path(analysis: Analysis) -> list[b.Block]:
    """Return the looks so far, of a study that runs until it is decided."""
    steps = [(result, c) for result in analysis.claims for c in result.path]
    if not steps:
        return []
    name = f"{analysis.study.name}_looks"
    alt = "Effect of each claim with its interval at every look, by the number of seeds"
    panels = [
        b.Panel(f"looks-{i}", f"{alt}: {result.claim.text} The table has the numbers")
        for i, result in enumerate(figure.looked_at(analysis))
    ]
    return [
        b.Heading("Looks"),
        b.Picture(name, alt, panels, rem=18),
        b.tabulate(
            "Looks",
            steps,
            ("claim", lambda step: step[0].claim.text),
            ("seeds", lambda step: str(step[1].n)),
            ("effect, 95 % interval", lambda step: effect(step[1], step[0].claim.unit)),
        ),
    ]


def table(analysis: Analysis) -> b.Table:
    """Return the table of claims: verdict, effect, p-values, and the paper's effect."""
    return b.tabulate(
        "Verdicts",
        analysis.claims,
        ("claim", lambda result: result.claim.text),
        ("verdict", lambda result: b.Span(analysis.word(result), verdict=True)),
        ("effect, 95 % interval", effect_of),
        ("tested against", tested_against),
        ("n", lambda result: seeds_of(analysis, result)),
        ("p", lambda result: p_value(result.p)),
        ("Holm p", lambda result: p_value(result.p_holm)),
        ("seeds won", lambda result: share(result.contrast.wins if result.contrast else None)),
        ("the paper", paper_effect),
    )


def effect_of(result: ClaimResult) -> str:
    """Return a claim's effect with its interval, and which contrast it is of if it has several."""
    where = f"; weakest contrast: {result.label}" if result.label else ""
    return effect(result.contrast, result.claim.unit) + where


def tested_against(result: ClaimResult) -> str:
    """Return the effect that p is of: what a claim has to beat."""
    claim = result.claim
    if claim.untestable:
        return MISSING
    sign = {"greater": "", "not worse": "-", "equivalent": "±"}[claim.kind]
    return f"{sign}{claim.smallest_effect:.3g}" if sign else "0"


def seeds_of(analysis: Analysis, result: ClaimResult) -> str:
    """Return how many seeds a verdict is of, and was to be of; a dash where it can have no data."""
    asked = analysis.asked(result)
    return MISSING if result.claim.untestable else f"{min(result.n, asked)}/{asked}"


def paper_effect(result: ClaimResult) -> str:
    """Return the paper's effect and what has to be known of it, or a dash."""
    claim = result.claim
    ours = "" if claim.in_paper else "not in the paper"
    return "; ".join(filter(None, [str(result.paper or ""), ours, claim.note])) or MISSING


def stated(analysis: Analysis, claim: Claim) -> str:
    """Return which results had been seen when a claim was stated; "" where there were none."""
    seen = 0 if claim.untestable else claim.seen.get(analysis.profile.name, 0)
    return f"stated after seeds 0 to {seen - 1} had been run" if seen else ""


def summary(analysis: Analysis) -> list[b.Block]:
    """Return how many claims got which word, in one sentence; a trial run has none."""
    words = Counter(result.verdict.word for result in analysis.claims)
    if not words or not analysis.profile.verdict:
        return []
    first = f"{words.pop('reproduced', 0)} of {len(analysis.claims)} claims reproduced"
    rest = [f"{count} {word}" for word, count in words.most_common()]
    return [b.Paragraph(b.Span(f"{', '.join([first, *rest])}.", bold=True))]


def notes(analysis: Analysis) -> list[b.Block]:
    """Return what has to be known before anything below it is read."""
    notes: list[b.Text] = []
    usual = analysis.profile.seeds
    if not analysis.profile.verdict:
        smoke = b.Span("Smoke run.", bold=True)
        notes.append([smoke, " The budget is too small to judge anything: no verdict."])
    if analysis.unfinished:
        arms = analysis.runs[analysis.runs["arm"] != ""].drop_duplicates("run")
        done = int((arms["state"] == "done").sum())
        judged = "a claim is judged only at looks that are complete"
        if analysis.fixed:
            judged = "there is no verdict on a claim before all its seeds are in"
        notes.append(
            [
                b.Span(f"Incomplete: {unfinished(analysis)}.", bold=True),
                f" {done} of the arms' {len(arms)} runs are done; what is shown is interim, and "
                f"{judged}. See the runs below.",
            ]
        )
    if analysis.foreign:
        foreign = b.Span(f"{analysis.foreign} runs have another recipe", bold=True)
        notes.append([foreign, " than this study gives them in this profile now."])
    if analysis.fixed and analysis.seeds != usual:
        notes.append(f"{analysis.seeds} seeds, where the profile has {usual}.")
    notes += _held(analysis)
    if mixed := computations(analysis.runs):
        several = b.Span("Not one computation:", bold=True)
        notes.append([several, f" {'; '.join(mixed)}. Differences may be due to that."])
    if odd := suspicions(analysis.runs):
        notes.append([b.Span("Look at these arms:", bold=True), f" {'; '.join(odd)}."])
    looked_at = analysis.study.looked_at.get(analysis.profile.name, 0)
    if looked_at and len(analysis.schedule.looks) == 1:
        notes.append(
            [
                b.Span(f"Seeds were added after a look at {looked_at} of them", bold=True),
                ", which are in these results, too: words are false more often than they say.",
            ]
        )
    if later := [r.claim.text for r in analysis.claims if stated(analysis, r.claim)]:
        notes.append(
            [
                b.Span("Not all claims were stated before these runs.", bold=True),
                " The claims of a study share one error rate, which that of claims put together "
                f"with results at hand is not: {' '.join(later)}",
            ]
        )
    if analysis.changed:
        changed = ", ".join(f"{field}={value}" for field, value in analysis.changed.items())
        notes.append(["Fields set by hand: ", b.Span(changed, code=True), "."])
    return [b.Notes(notes)] if notes else []


def unfinished(analysis: Analysis) -> str:
    """Return how many runs are in each state that is not done, e.g. `1 failed, 2 missing`."""
    states = pd.Series([run.state for run in analysis.unfinished]).value_counts().sort_index()
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _boxes(analysis: Analysis) -> list[b.Block]:
    """Return each claim with its verdict and the reason; a trial run has none."""
    if not analysis.profile.verdict or not analysis.claims:
        return []
    boxes = [
        b.VerdictBox(
            result.verdict.word,
            result.claim.text,
            f"{'; '.join(filter(None, [result.verdict.reason, stated(analysis, result.claim)]))}."
            f"{_outlook(analysis, result)}",
        )
        for result in analysis.claims
    ]
    return [b.Verdicts(boxes)]


def _outlook(analysis: Analysis, result: ClaimResult) -> str:
    """Say what going on under the schedule takes of an open claim, and how likely it decides."""
    if result.decision is None or math.isnan(result.chance):
        return ""
    study, profile = analysis.study, analysis.profile
    schedule = analysis.schedule
    if analysis.fixed:
        schedule = study.schedule or profile.schedule
    return (
        f" Going on under the schedule takes up to {schedule.maximum - result.n} more "
        f"seeds of {len(result.claim.arms)} arms, and at this mean and spread decides it with "
        f"probability {result.chance:.2f}."
    )


def looks_of(analysis: Analysis) -> str:
    """Say at how many seeds claims are judged, e.g. `at 8 seeds, a number that was fixed`."""
    looks = analysis.schedule.looks
    if analysis.fixed:
        return f"at {looks[0]} seeds, a number that was fixed"
    return f"at all looks ({', '.join(map(str, looks))} seeds)"


def _held(analysis: Analysis) -> list[b.Text]:
    """Say whether the store holds other seeds than those that were fixed, and was judged before."""
    notes: list[b.Text] = []
    record, seeds = analysis.record, analysis.seeds
    if record.held is not None and record.held != seeds:
        most = b.Span(f"Fixed at {seeds} seeds, of which the store holds {record.held}.", bold=True)
        if record.held > seeds:
            most = b.Span(f"Fixed at {seeds} seeds; the store holds {record.held}.", bold=True)
        more = " Those beyond are not read." if record.held > seeds else ""
        notes.append([most, more])
    if record.judged:
        times = ", ".join(map(str, record.judged))
        notes.append(
            [
                b.Span(f"Judged before, at {times} seeds,", bold=True),
                " by another schedule or fixed number: the error rate below does not pay for that.",
            ]
        )
    return notes


def _going_on(analysis: Analysis) -> list[str | b.Span]:
    if not analysis.fixed or all(math.isnan(result.chance) for result in analysis.claims):
        return []
    return [
        " To judge these seeds and more of them would be a second look that nothing pays for: ",
        b.Span("--until-decided", code=True),
        " goes on by a schedule that pays for its looks, with an error rate of its own.",
    ]


def _protocol(analysis: Analysis) -> b.Paragraph:
    sizes = [
        amount(result.claim.smallest_effect, result.claim.unit)
        for result in analysis.claims
        if result.claim.contrasts
    ]
    smallest = "; ".join(dict.fromkeys(sizes))
    return b.Paragraph(
        [
            "Effects of claims are means of paired differences (or slopes) by seed; p is an exact "
            "sign-flip test of what the claim has to beat: no difference, or for ",
            b.Span("not worse", code=True),
            " and ",
            b.Span("equivalent", code=True),
            " claims one that matters. Their 95 % intervals invert that test and hold for all "
            f"claims of the study together, {looks_of(analysis)}: in 95 of 100 studies no claim "
            "gets a false word. Arms have 95 % t-intervals, which hold one by one. A claim "
            "about several contrasts holds if each does: the weakest is shown. ",
            b.Span("equivalent", code=True),
            " means that the whole interval is smaller than the smallest effect of interest, "
            "stated before any run" + (f": {smallest}." if smallest else "."),
            *_going_on(analysis),
        ]
    )
