"""A pilot: how many seeds a study's claims need, from the spread at tuning seeds.

Only spreads are used and shown, never an effect, so that looking decides nothing but the budget.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ns_bench.design.definition import Claim, Design
from ns_bench.recipe import Recipe
from ns_bench.robustness import metric_name
from ns_bench.runs.plan import Plan
from ns_bench.runs.store import Run
from ns_bench.verdicts.analysis import by_seed, label
from ns_bench.verdicts.statistics import minimum_detectable_effect, seeds_needed


@dataclass(frozen=True)
class Need:
    """What one claim needs; of several contrasts, the one that needs most.

    Attributes:
        sd: standard deviation of the contrast over the pilot's seeds, in the claim's unit.
        detectable: true effect found with power .8 at the study's number of seeds; inf if none is.
        seeds: that find the smallest effect of interest (or, for a claim of no effect, confirm a
            true 0) with power .8, corrected over the study; None if more than 1000.
    """

    claim: Claim
    contrast: str
    n: int
    sd: float
    detectable: float
    seeds: int | None


def needs(design: Design, tables: Mapping[str, pd.DataFrame], seeds: int) -> list[Need]:
    """Return what each testable claim needs, from its metric by seed and arm.

    Args:
        tables: {metric: table} of the pilot's seeds (>= 1000); a seed that lacks an arm of a claim
            is left out there.
        seeds: the study's own number, for which `detectable` is computed.
    """
    claims = [claim for claim in design.claims if not claim.untestable]
    most = []
    for claim in claims:
        by_contrast = zip(claim.contrasts, by_seed(claim, tables[claim.metric]), strict=False)
        contrasts = [
            _need(claim, label(weights), values.to_numpy(), len(claims), seeds)
            for weights, values in by_contrast
            if len(values) > 1
        ]
        if contrasts:
            most.append(max(contrasts, key=lambda need: (need.seeds or math.inf, need.sd)))
    return most


def _need(claim: Claim, contrast: str, values: np.ndarray, family: int, seeds: int) -> Need:
    assumed = claim.smallest_effect if claim.kind == "greater" else 0.0
    sd = float(np.std(values, ddof=1))
    return Need(
        claim=claim,
        contrast=contrast,
        n=len(values),
        sd=sd,
        detectable=minimum_detectable_effect(sd, seeds, family),
        seeds=seeds_needed(
            values - values.mean() + assumed,
            family,
            kind=claim.kind,
            smallest_effect=claim.smallest_effect,
        ),
    )


def table_of(
    plan: Plan, recipes: Mapping[tuple[str, int], Recipe], metric: str = "top1"
) -> pd.DataFrame:
    """Return a test metric of finished runs, by seed and arm; a gap where a run is not done."""
    rows = [
        (seed, arm, _value(plan.runs[recipe.id], metric)) for (arm, seed), recipe in recipes.items()
    ]
    return pd.DataFrame(rows, columns=["seed", "arm", "value"]).pivot(
        index="seed", columns="arm", values="value"
    )


def _value(run: Run, metric: str) -> float:
    result = run.result()
    values = dict(result.test) if result else {}
    for group in run.wanted:
        if (measured := run.measured(group)) is not None:
            values |= {metric_name(group, name): value for name, value in measured.values.items()}
    return values.get(metric, math.nan)


def lines(needs: Iterable[Need], seeds: int) -> list[str]:
    """Return the needs as text, one claim a line."""
    texts = []
    for need in needs:
        unit = need.claim.unit
        seen = "nothing, too few for the correction"
        if math.isfinite(need.detectable):
            seen = f"{need.detectable:.2f} {unit}"
        wanted = "more than 1000" if need.seeds is None else str(need.seeds)
        texts.append(
            f"{need.claim.text}\n    {need.contrast}: sd {need.sd:.2f} {unit} over {need.n} tuning "
            f"seeds; {seeds} seeds find {seen}; smallest effect of interest "
            f"{need.claim.smallest_effect:g}: {wanted} seeds"
        )
    return texts
