"""What --json prints: results for programs, by one schema for study, report and search.

Every dataclass here is an object of the document, every attribute a key. What there is no value
for, and what is not finite, is null. A key may be added at any time; when one goes or means
something else, `SCHEMA` is raised.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ns_bench.verdicts.analysis import Analysis, ArmSummary, ClaimResult
from ns_bench.verdicts.statistics import Interval

if TYPE_CHECKING:
    from ns_bench.tuning.trials import Search, Standing

SCHEMA = 1


@dataclass(frozen=True)
class Effect:
    """A mean with its 95 % interval over `n` seeds, in the unit of what it is of."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Arm:
    """An arm; top1 is in percent, the difference to the baseline in points.

    Attributes:
        p_holm: of the difference, corrected over the arms.
    """

    arm: str
    baseline: bool
    top1: Effect | None
    difference: Effect | None
    p_holm: float


@dataclass(frozen=True)
class Claim:
    """A claim and its verdict.

    Attributes:
        contrasts: {arm: weight}, one or more; of several the effect is that of the weakest,
            which `weakest` names.
        smallest_effect: of interest, in `unit`.
        verdict: reproduced, contradicted, equivalent, inconclusive, not testable, not run; no
            verdict in a trial run.
        n: seeds at which all of its arms are done.
        p, p_adjusted: of what the claim has to beat, alone and over the claims of the study.
        judged_at: seeds of the look that the verdict rests on; null before the first.
        looks: the effect at each look up to that one, of a study that runs until it is decided.
        chance: that going on to the last look decides it, where it is open.
        paper: the paper's effect, in points of its own data.
    """

    claim: str
    kind: str
    metric: str
    unit: str
    contrasts: tuple[dict[str, float], ...]
    smallest_effect: float
    verdict: str
    reason: str
    effect: Effect | None
    weakest: str
    n: int
    p: float
    p_adjusted: float
    judged_at: int | None
    looks: list[Effect]
    chance: float
    paper: float | None


@dataclass(frozen=True)
class Run:
    """A run; `arm` is empty for a teacher that is no arm itself.

    Attributes:
        state: done, missing, partial, running, failed, blocked, unmeasured.
        seconds: it took to train.
        reason: of its failure.
    """

    id: str
    arm: str
    seed: int
    state: str
    top1: float
    seconds: float
    reason: str


@dataclass(frozen=True)
class Study:
    """A study in a profile.

    Attributes:
        looks, spending: at how many seeds it is judged, and the share of alpha spent by then; one
            look where the number of seeds was fixed.
        changed: {field: value} that were set by hand.
        tuned: whether each arm has the best recipe of its search.
        seconds: of training, all runs together.
    """

    study: str
    profile: str
    question: str
    seeds: int
    looks: tuple[int, ...]
    spending: tuple[float, ...]
    changed: dict[str, str]
    tuned: bool
    claims: list[Claim]
    arms: list[Arm]
    runs: list[Run]
    seconds: float


@dataclass(frozen=True)
class Trial:
    """A trial of a search.

    Attributes:
        score: validation top-1 in percent, mean over its tuning seeds.
        cost: of training one network by its recipe, in seconds as estimated.
    """

    trial: int
    state: str
    score: float | None
    params: dict[str, Any]
    seconds: float
    cost: float
    reason: str


@dataclass(frozen=True)
class SearchOfArm:
    """The search of one arm.

    Attributes:
        best: number of the best trial; null where none is complete.
        recipe: {field: value} of the best trial.
    """

    search: str
    study: str
    profile: str
    arm: str
    objectives: tuple[str, ...]
    best: int | None
    recipe: dict[str, Any]
    trials: list[Trial]
    seconds: float


@dataclass(frozen=True)
class Document:
    """All that a command prints; `command` is study, report or search."""

    schema: int
    command: str
    studies: list[Study]
    searches: list[SearchOfArm]


def of_studies(command: str, analyses: Sequence[Analysis]) -> str:
    """Return the document of studies."""
    return _text(Document(SCHEMA, command, [_study(analysis) for analysis in analyses], []))


def of_searches(searches: "Sequence[tuple[Search, Sequence[Standing]]]") -> str:
    """Return the document of a search, arm by arm."""
    return _text(Document(SCHEMA, "search", [], [_search(*each) for each in searches]))


def _text(document: Document) -> str:
    return json.dumps(_finite(asdict(document)), indent=1, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """Return plain data in which null stands for what is not finite: JSON has no nan."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _study(analysis: Analysis) -> Study:
    runs = analysis.runs.reindex(columns=list(analysis.runs.columns.union(["seconds", "reason"])))
    top1 = "test_top1" if "test_top1" in runs else "seconds"  # no run is done
    columns = zip(
        *(runs[name] for name in ("run", "arm", "seed", "state", top1, "seconds", "reason")),
        strict=True,
    )
    listed = [
        Run(run, arm, int(seed), state, float(score), float(seconds), str(reason or ""))
        for run, arm, seed, state, score, seconds, reason in columns
    ]
    return Study(
        study=analysis.study.name,
        profile=analysis.profile.name,
        question=analysis.study.question,
        seeds=analysis.seeds,
        looks=analysis.schedule.looks,
        spending=analysis.schedule.spending,
        changed=analysis.changed,
        tuned=analysis.tuning is not None,
        claims=[_claim(analysis, result) for result in analysis.claims],
        arms=[_arm(arm) for arm in analysis.arms],
        runs=listed,
        seconds=float(runs.drop_duplicates("run")["seconds"].sum()),
    )


def _claim(analysis: Analysis, result: ClaimResult) -> Claim:
    claim, decision = result.claim, result.decision
    return Claim(
        claim=claim.text,
        kind=claim.kind,
        metric=claim.metric,
        unit=claim.unit,
        contrasts=claim.contrasts,
        smallest_effect=claim.smallest_effect,
        verdict=analysis.word(result),
        reason=result.verdict.reason,
        effect=_effect(result.contrast),
        weakest=result.label,
        n=result.n,
        p=result.p,
        p_adjusted=result.p_holm,
        judged_at=decision.seeds or None if decision else None,
        looks=[effect for effect in map(_effect, result.path) if effect],
        chance=result.chance,
        paper=result.paper.value if result.paper else None,
    )


def _effect(interval: Interval | None) -> Effect | None:
    if interval is None:
        return None
    return Effect(interval.mean, interval.low, interval.high, interval.n)


def _arm(arm: ArmSummary) -> Arm:
    return Arm(
        arm=arm.name,
        baseline=arm.is_baseline,
        top1=_effect(arm.interval),
        difference=_effect(arm.difference),
        p_holm=arm.p_holm,
    )


def _search(search: "Search", standings: "Sequence[Standing]") -> SearchOfArm:
    from ns_bench.tuning.space import changes
    from ns_bench.tuning.trials import best_of

    best = best_of(standings)
    trials = [
        Trial(s.trial.number, s.state, s.score, s.trial.params, s.seconds, s.cost, s.reason)
        for s in standings
    ]
    return SearchOfArm(
        search=search.settings.id,
        study=search.settings.study,
        profile=search.settings.profile,
        arm=search.arm,
        objectives=search.settings.objectives,
        best=best.trial.number if best else None,
        recipe=changes(search.space, best.trial.params) if best else {},
        trials=trials,
        seconds=sum(s.seconds for s in standings),
    )
