"""A claim's results in all profiles, as one finding; and all findings as a tidy table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ns_bench.design.definition import Claim
from ns_bench.report.sections.claims import stated
from ns_bench.verdicts.analysis import Analysis, ClaimResult
from ns_bench.verdicts.family import Member, members


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


def profiles_of(analyses: Sequence[Analysis]) -> list[str]:
    return sorted({analysis.profile.name for analysis in analyses})


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
