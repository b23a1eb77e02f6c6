"""A paragraph for the methods section of a paper, filled from the data, and the same as LaTeX."""

from ns_bench.report import blocks as b
from ns_bench.report import latex
from ns_bench.report.sections.claims import looks_of
from ns_bench.report.sections.covers import over
from ns_bench.verdicts.analysis import Analysis
from ns_bench.verdicts.statistics import amount


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return the paragraph, to be read and to be pasted."""
    text = paragraph(analysis)
    return [
        b.Heading("Methods, for a paper"),
        b.Paragraph(text),
        b.Details("the same as LaTeX", [b.Code(latex.escape(text))]),
    ]


def paragraph(analysis: Analysis) -> str:
    """Return design, seeds, looks, test, correction, margin, what the ± is over, and when claims
    were stated."""
    claims = [result.claim for result in analysis.claims if not result.claim.untestable]
    arms = f"We compared {len(analysis.arms)} arms ({', '.join(a.name for a in analysis.arms)})"
    parts = [
        f"{arms}, paired by end-to-end seeds: a seed sets the data split, the teacher, the "
        f"student and every draw of noise. {over(analysis)}"
    ]
    if claims and analysis.profile.verdict:
        sizes = dict.fromkeys(amount(claim.smallest_effect, claim.unit) for claim in claims)
        one = len(claims) == 1
        spending = ", ".join(f"{share:g}" for share in analysis.schedule.spending)
        spent = "" if analysis.fixed else f", of which the looks spend shares of {spending} in all"
        parts += [
            f"{len(claims)} {'claim was' if one else 'claims were'} judged {looks_of(analysis)}, "
            "by sign-flip tests of the paired differences (exact to 15 seeds, beyond with 16,384 "
            "sign patterns) and intervals that invert them.",
            f"All words on all claims share a familywise error rate of 5 %{spent}: Holm for what "
            "supports a claim, Bonferroni for what contradicts it.",
            f"The smallest effect of interest was {'; '.join(sizes)}.",
        ]
        seen = analysis.study.looked_at.get(analysis.profile.name, 0) if analysis.fixed else 0
        if judged := sorted({*analysis.record.judged, seen} - {0}):
            times = ", ".join(map(str, judged))
            parts.append(f"The results had been judged before, at {times} seeds.")
    return " ".join([*parts, *stated(analysis)])


def stated(analysis: Analysis) -> list[str]:
    """Return when the claims were stated, against the first run; nothing where it is not known."""
    history = analysis.record.stated
    if history is None:
        return []
    commit = f"in commit {history.commit} of {history.time[:10]}"
    first = f"the first run ({history.first_run[:10]})"
    when = f"{commit}, before {first}"
    if history.older:
        when = (
            f"{commit}, after {first}: {history.older} of {history.results} results, which other "
            "studies may share, are older"
        )
    if not history.changes:
        return [f"The claims were stated {when}."]
    return [
        f"The study was first stated {when}. Its file has changed since, last in commit "
        f"{history.last_commit} of {history.last_time[:10]} ({history.changes} in all): what "
        "its first version does not say was stated after runs."
    ]
