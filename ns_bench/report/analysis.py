"""A study's results: one tidy table of runs, and the statistics of arms and claims."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ns_bench.definition import Claim, Design, Profile, Study
from ns_bench.plan import Plan
from ns_bench.statistics import (
    Contrast,
    Interval,
    Verdict,
    holm,
    mean_interval,
    paired_contrast,
    seeds_needed,
    verdict,
)
from ns_bench.store import Corrupt, Result, Run


@dataclass(frozen=True)
class ArmSummary:
    """One row of the table. `difference` is to the baseline, paired by seed."""

    name: str
    is_baseline: bool
    paper: str
    n: int
    interval: Interval | None
    difference: Contrast | None
    training_seconds: float


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its evidence. `seeds` is how many a verdict would need in all, if known."""

    claim: Claim
    contrast: Contrast | None
    p_holm: float
    verdict: Verdict
    seeds: int | None


@dataclass(frozen=True)
class Unfinished:
    """A run that is not done, with the reason where one is known."""

    id: str
    state: str
    reason: str


@dataclass(frozen=True)
class Analysis:
    """Everything a report shows of a study in a profile.

    Attributes:
        runs: tidy, one row an arm and seed, missing runs included.
        curves: tidy, one row an arm, seed and evaluation during training.
        changed: fields set by hand; they are named in the title.
    """

    study: Study
    profile: Profile
    seeds: int
    runs: pd.DataFrame
    curves: pd.DataFrame
    arms: list[ArmSummary]
    claims: list[ClaimResult]
    unfinished: list[Unfinished]
    changed: dict[str, str]

    def word(self, claim: ClaimResult) -> str:
        """Return the verdict in a word; a trial run has none."""
        return claim.verdict.word if self.profile.verdict else "no verdict"

    @property
    def title(self) -> str:
        changed = "".join(f", {field}={value}" for field, value in self.changed.items())
        return f"{self.study.name} · {self.profile.name}{changed} · {self.seeds} seeds"


def analyse(
    study: Study,
    profile: Profile,
    design: Design,
    plan: Plan,
    seeds: int,
    changed: Mapping[str, str] | None = None,
) -> Analysis:
    """Collect the runs of `plan` and compute every statistic of the report.

    Contrasts use the seeds at which all their arms are done; n says how many those are.
    """
    runs, curves = collect(design, plan, seeds)
    top1 = runs.pivot(index="seed", columns="arm", values="test_top1")
    return Analysis(
        study=study,
        profile=profile,
        seeds=seeds,
        runs=runs,
        curves=curves,
        arms=_arms(design, runs, top1),
        claims=_claims(design, profile, top1, seeds),
        unfinished=_unfinished(plan),
        changed=dict(changed or {}),
    )


def collect(design: Design, plan: Plan, seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (runs, curves) as tidy tables; see `Analysis`."""
    rows, curves = [], []
    for (arm, seed), recipe in design.recipes(range(seeds)).items():
        run = plan.runs[recipe.id]
        result = _result(run)
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "run": run.id,
                "state": plan.states[run.id],
                "teacher": run.teacher.id if run.teacher else None,
                "model": recipe.model,
                **_columns(result),
                "teacher_test_top1": _teacher_top1(run),
            }
        )
        curves += [{"arm": arm, "seed": seed, **r} for r in run.metrics() if "loss" in r]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def _result(run: Run) -> Result | None:
    try:
        return run.result()
    except Corrupt:
        return None


def _teacher_top1(run: Run) -> float:
    result = _result(run.teacher) if run.teacher else None
    return result.test["top1"] if result else np.nan


def _columns(result: Result | None) -> dict[str, object]:
    if result is None:
        return {"test_top1": np.nan}
    code = result.provenance
    return {
        **{f"test_{name}": value for name, value in result.test.items()},
        **{f"validation_{name}": value for name, value in result.validation.items()},
        **{
            f"pseudo_{name}": value
            for name, value in (result.pseudo or {}).items()
            if not isinstance(value, list)
        },
        "steps": result.steps,
        "images": result.images,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        "resumed": result.resumed,
        "host": code["host"],
        "device": code["device"],
        "git": code["git"],
        "dirty": code["dirty"],
        "torch": code["packages"]["torch"],
        "timm": code["packages"]["timm"],
    }


def _arms(design: Design, runs: pd.DataFrame, top1: pd.DataFrame) -> list[ArmSummary]:
    differences = {
        arm.name: _contrast(top1, {arm.name: 1.0, design.baseline: -1.0})
        for arm in design.arms
        if arm.name != design.baseline
    }
    summaries = []
    for arm in design.arms:
        values = top1[arm.name].dropna().to_numpy()
        mine = runs[runs["arm"] == arm.name]
        summaries.append(
            ArmSummary(
                name=arm.name,
                is_baseline=arm.name == design.baseline,
                paper=arm.paper,
                n=len(values),
                interval=mean_interval(values) if len(values) else None,
                difference=differences.get(arm.name),
                training_seconds=float(mine["seconds"].mean()) if "seconds" in mine else np.nan,
            )
        )
    return summaries


def _differences(top1: pd.DataFrame, weights: Mapping[str, float]) -> np.ndarray:
    """Return the contrast of each seed at which every arm of it is done."""
    done = top1[list(weights)].dropna()
    return done.to_numpy() @ np.array(list(weights.values()))


def _contrast(top1: pd.DataFrame, weights: Mapping[str, float]) -> Contrast | None:
    values = _differences(top1, weights)
    return paired_contrast(values) if len(values) else None


def _claims(design: Design, profile: Profile, top1: pd.DataFrame, seeds: int) -> list[ClaimResult]:
    """Judge every claim, Holm over all of them. No verdict before all seeds are in."""
    contrasts = [_contrast(top1, claim.weights) for claim in design.claims]
    p_holm = holm([c.p if c else np.nan for c in contrasts])
    family = len(contrasts)
    results = []
    for claim, contrast, p in zip(design.claims, contrasts, p_holm, strict=True):
        if not profile.verdict:
            said = Verdict("not testable", f"profile '{profile.name}' is a trial run: no verdict")
        elif contrast is None:
            said = Verdict("inconclusive", "no seed has all the runs this claim compares")
        elif contrast.n < seeds:
            said = Verdict(
                "inconclusive",
                f"only {contrast.n} of {seeds} seeds have all the runs this claim compares; "
                f"interim mean difference {contrast.mean:+.2f} {claim.unit}",
            )
        else:
            said = verdict(
                contrast,
                float(p),
                kind=claim.kind,
                smallest_effect=claim.smallest_effect,
                unit=claim.unit,
                family=family,
            )
        needed = None
        if said.word == "inconclusive" and contrast is not None and contrast.n == seeds:
            needed = seeds_needed(_differences(top1, claim.weights), family)
        results.append(ClaimResult(claim, contrast, float(p), said, needed))
    return results


def _unfinished(plan: Plan) -> list[Unfinished]:
    rest = []
    for run_id, state in plan.states.items():
        if state == "done":
            continue
        reason = ""
        if state == "failed":
            reason = (plan.runs[run_id].failure() or {}).get("error", "")
        elif state == "blocked" and (teacher := plan.runs[run_id].teacher) is not None:
            reason = f"below {teacher.id}, which has no result"
        rest.append(Unfinished(run_id, state, reason))
    return rest
