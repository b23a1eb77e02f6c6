"""Seeds until decided: which runs the next look of a study needs, and the record of its looks."""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ns_bench.design.definition import Design, Study
from ns_bench.design.profile import Profile
from ns_bench.design.schedule import ALPHA, Schedule
from ns_bench.errors import UserError
from ns_bench.execute.provenance import utc
from ns_bench.files import locked, publish
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import Plan, make_plan
from ns_bench.runs.store import Store
from ns_bench.verdicts.analysis import Analysis, ClaimResult, analyse
from ns_bench.verdicts.record import Record, last_verified, seeds_held, stated
from ns_bench.verdicts.table import collect

FOLDER = "looks"
"""Of a store: STUDY-PROFILE.jsonl, one line a look, appended and never changed."""


@dataclass(frozen=True)
class Standing:
    """Where a study stands under its schedule: a pure function of its results.

    Attributes:
        recipes: {(arm, seed): recipe} that were needed so far, those of the next look included.
        schedule: of its looks.
        seeds: of the look that `recipes` leads to.
        path: the analyses at the looks that are complete, in order.
        open: claims that go on to `seeds`; [] where every claim is decided or stuck.
    """

    schedule: Schedule
    recipes: dict[tuple[str, int], Recipe]
    seeds: int
    path: list[Analysis]
    open: list[ClaimResult]


def schedule_of(study: Study, profile: Profile) -> Schedule:
    """Return the schedule of a study in a profile, checked against the study's claims.

    Raises:
        UserError: with it no result could decide a claim, or nothing at the first look.
    """
    schedule = study.schedule or profile.schedule
    family = sum(not claim.untestable for claim in study.in_profile(profile).claims)
    schedule.require_reach(ALPHA, max(family, 1))
    return schedule


def follow(
    study: Study,
    profile: Profile,
    design: Design,
    store: Store,
    metrics: tuple[str, ...] = (),
    maximum: int | None = None,
    changed: dict[str, str] | None = None,
) -> Standing:
    """Go from look to look as far as the store's results lead, and one look further.

    All arms run to the first look; from there on those of claims that are open, up to `maximum`.
    """
    schedule = schedule_of(study, profile)
    looks = [n for n in schedule.looks if n <= (maximum or schedule.maximum)]
    if not looks:
        raise UserError(f"--max-seeds {maximum}: the first look is at {schedule.looks[0]} seeds")
    seeds = {arm.name: looks[0] for arm in design.arms}
    path: list[Analysis] = []
    going: list[ClaimResult] = []
    for i, look in enumerate(looks):
        recipes = {
            (arm, seed): recipe
            for (arm, seed), recipe in design.recipes(range(look)).items()
            if seed < seeds[arm]
        }
        plan = _plan(store, recipes, metrics)
        if plan.missing:
            return Standing(schedule, recipes, look, path, going)
        tables = collect(design, plan, look)
        path.append(analyse(study, profile, design, *tables, look, changed, schedule))
        going = [claim for claim in path[-1].claims if _goes_on(claim, look)]
        if not going or i == len(looks) - 1:
            break
        for claim in going:
            seeds |= dict.fromkeys(claim.claim.arms, looks[i + 1])
    return Standing(schedule, recipes, look, path, [])


def at_most(design: Design, standing: Standing, maximum: int) -> list[Recipe]:
    """Return the recipes that may still come if every claim that is open stays so."""
    arms = {arm for claim in standing.open for arm in claim.claim.arms}
    if not standing.path:
        arms = {arm.name for arm in design.arms}
    return [recipe for (arm, _), recipe in design.recipes(range(maximum)).items() if arm in arms]


def _plan(store: Store, recipes: dict[tuple[str, int], Recipe], metrics: tuple[str, ...]) -> Plan:
    return make_plan(store, recipes.values(), {r.id: metrics for r in recipes.values()})


def _goes_on(claim: ClaimResult, look: int) -> bool:
    """Whether a claim is open at a look; one that lacks a run of it is stuck, and waits."""
    decision = claim.decision
    return decision is not None and decision.word == "inconclusive" and decision.seeds == look


def recorded(root: Path, study: Study, profile: Profile, changed: dict[str, str]) -> list[Any]:
    """Return what is on record of a study's looks in a store, oldest first.

    Raises:
        UserError: it is no record.
    """
    path = _file(root, study, profile)
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            line |= {"looks": tuple(line["looks"]), "spending": tuple(line["spending"])}
            line["look"] = int(line["look"])
        return [line for line in lines if line["changed"] == changed]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a record of looks: {error!r}") from None


def scheduled(root: Path, study: Study, profile: Profile, changed: dict[str, str]) -> list[Any]:
    """Return what is on record of looks under a schedule, not of those at a fixed number of seeds.

    Raises:
        UserError: it is of another schedule than the study has now, or no record.
    """
    recorded_lines = recorded(root, study, profile, changed)
    lines = [line for line in recorded_lines if len(line["looks"]) > 1]
    before = {(line["looks"], line["spending"]) for line in lines}
    now = study.schedule or profile.schedule
    for looks, spending in before - {(now.looks, now.spending)}:
        raise UserError(
            f"{_file(root, study, profile)}: '{study.name}' was looked at by another schedule, at "
            f"{_listed(looks)} seeds spending {_listed(spending)}, where it has now "
            f"{_listed(now.looks)} spending {_listed(now.spending)}; a verdict needs one"
        )
    return lines


def require_maximum(lines: list[Any], maximum: int | None) -> None:
    """Raise UserError if a store has been looked at with more seeds than `maximum`."""
    most = max((line["look"] for line in lines), default=0)
    if maximum is not None and maximum < most:
        raise UserError(f"--max-seeds {maximum}: the store was looked at with {most} seeds already")


def record(root: Path, path: Iterable[Analysis], commit: str) -> None:
    """Append the looks that are not on record yet, with their date, commit and numbers."""
    for analysis in path:
        study, profile = analysis.study, analysis.profile
        file_path = _file(root, study, profile)
        file_path.parent.mkdir(exist_ok=True)
        with locked(file_path.with_suffix(".lock")):
            lines = recorded(root, study, profile, analysis.changed)
            now = (analysis.seeds, analysis.schedule.looks, analysis.schedule.spending)
            if now in {(line["look"], line["looks"], line["spending"]) for line in lines}:
                continue
            line = {
                "look": analysis.seeds,
                "looks": analysis.schedule.looks,
                "spending": analysis.schedule.spending,
                "changed": analysis.changed,
                "date": utc(time.time()),
                "commit": commit,
                "claims": [_numbers(claim) for claim in analysis.claims if claim.decision],
            }
            before = file_path.read_bytes() if file_path.exists() else b""
            publish(file_path, before + json.dumps(line).encode() + b"\n")


def with_record(analysis: Analysis, design: Design, store: Store) -> Analysis:
    """Add what is known of a study beside its tables."""
    lines = recorded(store.root, analysis.study, analysis.profile, analysis.changed)
    others = {line["look"] for line in lines if line["looks"] != analysis.schedule.looks}
    held = None
    if analysis.fixed:
        held = seeds_held(design, store, analysis.complete, analysis.seeds)
    said = stated(analysis.study, analysis.runs)
    verified = last_verified(store, analysis.study, analysis.profile)
    return replace(analysis, record=Record(held, tuple(sorted(others)), said, verified))


def _numbers(claim: ClaimResult) -> dict[str, Any]:
    c, decision = claim.contrast, claim.decision
    assert c is not None and decision is not None
    return {
        "claim": claim.claim.text,
        "word": decision.word,
        "seeds": decision.seeds,
        "effect": c.mean,
        "low": c.low if math.isfinite(c.low) else None,
        "high": c.high if math.isfinite(c.high) else None,
        "p": decision.p,
        "p_adjusted": decision.p_adjusted,
    }


def _file(root: Path, study: Study, profile: Profile) -> Path:
    return root / FOLDER / f"{study.name}-{profile.name}.jsonl"


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
