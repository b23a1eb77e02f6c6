"""The statistics of a study's arms and claims, from its tidy tables alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ns_bench.design.definition import Claim, Design, Study, Weights
from ns_bench.design.profile import Profile
from ns_bench.design.schedule import Schedule
from ns_bench.errors import unknown
from ns_bench.robustness import groups_in
from ns_bench.verdicts import paper
from ns_bench.verdicts.judge import Decision, Evidence, chance, interval, judge
from ns_bench.verdicts.record import Record
from ns_bench.verdicts.statistics import (
    Contrast,
    Interval,
    Verdict,
    holm,
    mean_interval,
    paired_contrast,
    verdict,
    weakest,
)

if TYPE_CHECKING:
    from ns_bench.tuning.tuned_arms import Tuned


@dataclass(frozen=True)
class ArmSummary:
    """One row of the table. `difference` is to the baseline, paired by seed.

    p_holm: of the difference, corrected over the arms; claims have their own correction.
    """

    name: str
    is_baseline: bool
    paper: str
    n: int
    interval: Interval | None
    difference: Contrast | None
    p_holm: float
    training_seconds: float


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its evidence.

    Attributes:
        evidence: its differences at the seeds that may judge it.
        contrast: the one shown, at the look that its verdict rests on, with its repeated interval;
            of several the weakest, which `label` then names. Before the first look it is interim.
        n: seeds at which every arm of the claim is done.
        p: of the claim, before its correction over the study.
        decision: of the look; None of a claim that cannot be tested, or has no data.
        path: the contrast at each look up to that one, where there are several.
        chance: that going on to the last look decides an open claim; nan where it does not go on.
            Of a fixed number of seeds: the last look of the schedule that it might have had.
        paper: the paper's effect, where it has figures for it.
    """

    claim: Claim
    evidence: Evidence
    contrast: Contrast | None
    label: str
    n: int
    p: float
    p_holm: float
    verdict: Verdict
    decision: Decision | None
    path: list[Contrast]
    chance: float
    paper: paper.Effect | None


@dataclass(frozen=True)
class Unfinished:
    """A run that is not done, with the reason where one is known."""

    id: str
    state: str
    reason: str


@dataclass(frozen=True)
class Tuning:
    """What a tuned study's report compares with: how it was tuned, and the study as it is."""

    tuned: "Tuned"
    before: "Analysis"


@dataclass(frozen=True)
class Analysis:
    """Everything a report shows of a study in a profile.

    Attributes:
        runs: tidy, one row an arm and seed, missing runs included; see `table.collect`.
        curves: tidy, one row an arm, seed and evaluation during training.
        foreign: how many runs have another recipe than the profile gives their arm.
        changed: fields set by hand; they are named in the title.
        tuning: where each arm has the best recipe of its own search.
        schedule: of the looks at which claims are judged; of one look where `seeds` was fixed.
        record: what is known of the study beside its tables.
    """

    study: Study
    profile: Profile
    seeds: int
    schedule: Schedule
    runs: pd.DataFrame
    curves: pd.DataFrame
    arms: list[ArmSummary]
    claims: list[ClaimResult]
    unfinished: list[Unfinished]
    foreign: int
    changed: dict[str, str]
    tuning: Tuning | None = None
    record: Record = field(default_factory=Record)

    @property
    def top1(self) -> pd.DataFrame:
        """Test top-1 by seed and arm, a gap where there is none."""
        return self.values("top1")

    def values(self, metric: str) -> pd.DataFrame:
        """Return a metric of the test rows by seed and arm, a gap where there is none."""
        if metric not in self._found:
            names = [arm.name for arm in self.arms]
            arms = self.runs[self.runs["arm"] != ""]
            self._found[metric] = _values(arms, names, self.seeds, metric)
        return self._found[metric]

    @cached_property
    def _found(self) -> dict[str, pd.DataFrame]:
        """What `values` has found so far: a page asks for some metrics by the hundred."""
        return {}

    @property
    def fixed(self) -> bool:
        """Whether the number of seeds was fixed, where others look until claims are decided."""
        return len(self.schedule.looks) == 1

    @property
    def complete(self) -> int:
        """How many seeds are done in every arm, without a gap."""
        return int(self.top1.notna().all(axis=1).cumprod().sum())

    def by_arm(self, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return the rows of each arm that has any, in the arms' order."""
        rows = {arm.name: table[table["arm"] == arm.name] for arm in self.arms}
        return {name: part for name, part in rows.items() if len(part)}

    @property
    def by_text(self) -> dict[tuple[str, int], ClaimResult]:
        """Claims by their text, and how often it came before: a study may state one twice."""
        claims: dict[tuple[str, int], ClaimResult] = {}
        for result in self.claims:
            text = result.claim.text
            claims[text, sum(text == other for other, _ in claims)] = result
        return claims

    @property
    def baseline(self) -> str:
        return next(arm.name for arm in self.arms if arm.is_baseline)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Groups of metrics that were asked for beside the results."""
        return groups_in(self.runs.columns)

    def planned(self, arm: str) -> int:
        """Return at how many seeds an arm is to run: until the last of its claims is decided."""
        known = int((self.runs["arm"] == arm).sum())
        return self.seeds if self.fixed or not known else known

    def asked(self, claim: ClaimResult) -> int:
        """Return how many seeds a verdict is of: those of its look, and all while it is open."""
        decision = claim.decision
        return decision.seeds if decision and decision.word != "inconclusive" else self.seeds

    def word(self, claim: ClaimResult) -> str:
        """Return the verdict in a word; a trial run has none."""
        return claim.verdict.word if self.profile.verdict else "no verdict"

    @property
    def title(self) -> str:
        changed = "".join(f", {field}={value}" for field, value in self.changed.items())
        tuned = ", tuned" if self.tuning else ""
        return f"{self.study.name} · {self.profile.name}{changed}{tuned} · {self.seeds} seeds"


def analyse(
    study: Study,
    profile: Profile,
    design: Design,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    seeds: int,
    changed: Mapping[str, str] | None = None,
    schedule: Schedule | None = None,
) -> Analysis:
    """Compute every statistic of the report from the tables alone.

    Contrasts use the seeds at which all arms of their claim are done; n says how many those are.

    Args:
        schedule: of the looks at which claims are judged; one look at `seeds` without one.

    Raises:
        UserError: the tables have an arm that the design has not.
    """
    names = [arm.name for arm in design.arms]
    arms = runs[runs["arm"] != ""]
    for name in arms["arm"].unique():
        if name not in names:
            raise unknown(f"arm of study '{study.name}'", name, names)
    top1 = _values(arms, names, seeds)
    schedule = schedule or Schedule.fixed(seeds)
    return Analysis(
        study=study,
        profile=profile,
        seeds=seeds,
        schedule=schedule,
        runs=runs,
        curves=curves,
        arms=_arms(design, arms, top1),
        claims=_claims(study, design, profile, arms, seeds, schedule),
        unfinished=_unfinished(runs),
        foreign=_foreign(design, arms, seeds),
        changed=dict(changed or {}),
    )


def _values(arms: pd.DataFrame, names: list[str], seeds: int, metric: str = "top1") -> pd.DataFrame:
    column = f"test_{metric}"
    if column not in arms:  # nothing has been measured yet
        return pd.DataFrame(np.nan, index=range(seeds), columns=names)
    table = arms.pivot(index="seed", columns="arm", values=column)
    return table.reindex(index=range(seeds), columns=names)


def label(weights: Weights) -> str:
    """Return a contrast in words, e.g. `a - b`."""
    if sorted(weights.values()) == [-1, 1]:
        first, second = sorted(weights, key=lambda arm: -weights[arm])
        return f"{first} - {second}"
    return " ".join(f"{weight:+g} {arm}" for arm, weight in weights.items())


def _arms(design: Design, runs: pd.DataFrame, top1: pd.DataFrame) -> list[ArmSummary]:
    seconds = runs.groupby("arm")["seconds"].mean().to_dict() if "seconds" in runs else {}
    values = {name: top1[name].dropna().to_numpy() for name in top1}
    others = [arm.name for arm in design.arms if arm.name != design.baseline]
    differences = {name: (top1[name] - top1[design.baseline]).dropna() for name in others}
    contrasts = {name: paired_contrast(d.to_numpy()) for name, d in differences.items() if len(d)}
    p = holm([contrasts[name].p if name in contrasts else math.nan for name in others])
    p_holm = dict(zip(others, p.tolist(), strict=True))
    return [
        ArmSummary(
            name=arm.name,
            is_baseline=arm.name == design.baseline,
            paper=arm.paper,
            n=len(values[arm.name]),
            interval=mean_interval(values[arm.name]) if len(values[arm.name]) else None,
            difference=contrasts.get(arm.name),
            p_holm=p_holm.get(arm.name, math.nan),
            training_seconds=seconds.get(arm.name, math.nan),
        )
        for arm in design.arms
    ]


def by_seed(claim: Claim, values: pd.DataFrame) -> list[pd.Series]:
    """Return the value of each contrast at each seed at which every arm of the claim is done.

    `values` are those of the claim's metric, by seed and arm; a logarithm is of .01 or more.
    """
    done = values[claim.arms].dropna()
    if claim.logarithm:
        done = done.clip(lower=0.01).apply(np.log2)
    return [
        pd.Series(done[list(weights)].to_numpy() @ np.array(list(weights.values())), done.index)
        for weights in claim.contrasts
        if len(done)
    ]


def _claims(
    study: Study,
    design: Design,
    profile: Profile,
    arms: pd.DataFrame,
    seeds: int,
    schedule: Schedule,
) -> list[ClaimResult]:
    """Judge every claim, at one error rate over those that can be tested."""
    names = [arm.name for arm in design.arms]
    looks = schedule if len(schedule.looks) > 1 else study.schedule or profile.schedule
    tables = {c.metric: _values(arms, names, seeds, c.metric) for c in design.claims}
    found = [by_seed(claim, tables[claim.metric]) for claim in design.claims]
    evidence = [evidence_of(*pair) for pair in zip(design.claims, found, strict=True)]
    testable = [i for i, claim in enumerate(design.claims) if not claim.untestable]
    family = [evidence[i] for i in testable]
    decisions = dict(zip(testable, judge(family, schedule), strict=True))
    results = []
    for i, claim in enumerate(design.claims):
        decision = decisions.get(i)
        contrasts = []
        if decision is not None and decision.seeds:
            contrasts = [
                _judged(evidence[i], each, decision, family, schedule)
                for each in range(len(found[i]))
            ]
        elif found[i]:
            contrasts = [_interim(claim, values) for values in found[i]]
        said = _verdict(claim, profile, contrasts, decision, schedule)
        shown = contrasts[said.shown] if contrasts else None
        path = []
        if decision is not None and len(schedule.looks) > 1:
            earlier = [n for n in schedule.looks if n < decision.seeds]
            steps = [replace(decision, seeds=n) for n in earlier]
            path = [_judged(evidence[i], said.shown, step, family, schedule) for step in steps]
            path += [shown] if shown and decision.seeds else []
        results.append(
            ClaimResult(
                claim=claim,
                evidence=evidence[i],
                contrast=shown,
                label=label(claim.contrasts[said.shown]) if len(contrasts) > 1 else "",
                n=len(found[i][0]) if found[i] else 0,
                p=decision.p if decision and contrasts else math.nan,
                p_holm=decision.p_adjusted if decision and contrasts else math.nan,
                verdict=said,
                decision=decision if contrasts else None,
                path=path,
                chance=_chance(evidence[i], decision, looks)
                if decision and profile.verdict
                else math.nan,
                paper=_paper(study, claim),
            )
        )
    return results


def evidence_of(claim: Claim, values: list[pd.Series]) -> Evidence:
    """Return the values of seeds 0, 1, ... up to the first that lacks a run."""
    index = list(values[0].index) if values else []
    ahead = int(np.cumprod([seed == i for i, seed in enumerate(index)], dtype=int).sum())
    differences = [d.to_numpy()[:ahead] for d in values] or [np.empty(0)] * len(claim.contrasts)
    return Evidence(claim.kind, claim.smallest_effect, tuple(differences))


def _judged(
    evidence: Evidence,
    contrast: int,
    decision: Decision,
    family: list[Evidence],
    schedule: Schedule,
) -> Contrast:
    """Return one of a claim's contrasts at its look, with its repeated interval."""
    values = evidence.differences[contrast][: decision.seeds]
    plain = paired_contrast(values, evidence.kind, evidence.smallest_effect)
    low, high = interval(evidence, contrast, decision, family, schedule)
    return replace(plain, low=low, high=high)


def _chance(evidence: Evidence, decision: Decision, schedule: Schedule) -> float:
    goes_on = decision.word == "inconclusive" and 1 < decision.seeds < schedule.maximum
    return chance(evidence, decision, schedule) if goes_on else math.nan


def _interim(claim: Claim, values: pd.Series) -> Contrast:
    """Return a contrast before its first look: there is no interval that may be looked at."""
    plain = paired_contrast(values.to_numpy(), claim.kind, claim.smallest_effect)
    return replace(plain, low=math.nan, high=math.nan)


def _paper(study: Study, claim: Claim) -> paper.Effect | None:
    """Return the paper's effect; a study that the paper's table does not know has none."""
    if not claim.paper or not paper.rows(study.name):
        return None
    return paper.effect(study.name, claim.paper, claim.paper_metric, logarithm=claim.logarithm)


def _verdict(
    claim: Claim,
    profile: Profile,
    contrasts: list[Contrast],
    decision: Decision | None,
    schedule: Schedule,
) -> Verdict:
    """Return the verdict on a claim; there is none before its first look is complete."""
    if decision is None:
        return Verdict("not testable", claim.untestable)
    if not contrasts:
        return Verdict("not run", "no seed has all the runs this claim compares")
    shown = weakest(contrasts, claim.kind, claim.smallest_effect)
    if not profile.verdict:
        why = f"profile '{profile.name}' is a trial run: no verdict"
        return Verdict("not testable", why, shown)
    if not decision.seeds:
        return Verdict(
            "inconclusive",
            f"only {contrasts[shown].n} of {schedule.looks[0]} seeds have all the runs this claim "
            f"compares; interim mean difference {contrasts[shown].mean:+.2f} {claim.unit}",
            shown,
        )
    share = schedule.spending[schedule.looks.index(decision.seeds)]
    return verdict(
        decision.word,
        contrasts,
        decision.p_adjusted,
        kind=claim.kind,
        smallest_effect=claim.smallest_effect,
        unit=claim.unit,
        floor=decision.open * 2.0 ** (1 - decision.seeds) / share,
        names=[label(weights) for weights in claim.contrasts],
    )


def _unfinished(runs: pd.DataFrame) -> list[Unfinished]:
    rest = runs[runs["state"] != "done"].drop_duplicates("run")
    reasons = rest["reason"] if "reason" in rest else [""] * len(rest)
    return [Unfinished(*row) for row in zip(rest["run"], rest["state"], reasons, strict=True)]


def _foreign(design: Design, arms: pd.DataFrame, seeds: int) -> int:
    recipes = design.recipes(range(seeds))
    rows = zip(arms["arm"], arms["seed"], arms["run"], strict=True)
    return sum((a, s) not in recipes or recipes[a, s].id != run for a, s, run in rows)
