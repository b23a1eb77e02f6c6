"""Optuna's part: what to try next, and a trial as Optuna's own record of it."""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ns_bench.data.streams import stream_seed
from ns_bench.errors import UserError
from ns_bench.tuning import Sampler
from ns_bench.tuning.quiet import quiet
from ns_bench.tuning.space import Dimension, applies
from ns_bench.tuning.trials import Search, Standing, Trial

if TYPE_CHECKING:
    import optuna

NUMBER = "ns_bench trial"


def check(sampler: Sampler, space: Sequence[Dimension], objectives: int) -> None:
    """Raise UserError where a sampler cannot do what is asked of it."""
    if sampler == "cmaes" and importlib.util.find_spec("cmaes") is None:
        raise UserError("--sampler cmaes needs the package cmaes: pip install 'ns_bench[cmaes]'")
    if sampler == "cmaes" and objectives > 1:
        raise UserError("--sampler cmaes has one objective only; tpe, gp and random take two")
    if sampler == "grid":
        for dimension in space:
            if not (dimension.choices or dimension.step or dimension.whole):
                raise UserError(f"--sampler grid: {dimension.name} needs a step or choices")


def ask(search: Search, standings: Sequence[Standing], count: int) -> list[Trial]:
    """Return the next batch of at most `count` trials; fewer where a grid has no more.

    Args:
        standings: of all earlier trials, none of them running.
    """
    batch = standings[-1].trial.batch + 1 if standings else 0
    number = len(standings)
    count = min(count, search.settings.batch)
    asked = []
    with quiet():
        study = as_study(search, standings, batch)
        if number == 0:
            asked.append(Trial(0, batch, own_values(search)))
        tried = [s.trial.params for s in standings]
        while len(asked) < count:
            params = _draw(search, study.ask())
            if search.settings.sampler == "grid" and params in tried:
                break
            tried.append(params)
            asked.append(Trial(number + len(asked), batch, params))
    return asked


def _draw(search: Search, trial: "optuna.Trial") -> dict[str, Any]:
    params: dict[str, Any] = {}
    for dimension in search.space:
        if applies(dimension, params, search.recipe):
            params[dimension.name] = _suggest(trial, dimension)
    return params


def own_values(search: Search) -> dict[str, Any]:
    """Return what trial 0 tries: the arm's own values."""
    params: dict[str, Any] = {}
    for dimension in search.space:
        if applies(dimension, params, search.recipe):
            params[dimension.name] = search.own(dimension)
    return params


def as_study(search: Search, standings: Sequence[Standing], batch: int = 0) -> "optuna.study.Study":
    """Return the search in Optuna's terms, in memory, with the sampler of a batch."""
    import optuna

    directions = search.settings.directions
    study = optuna.create_study(directions=directions)
    ended = [s for s in standings if s.state != "running"]
    if search.settings.sampler == "cmaes":
        _replay(search, study, ended)
    elif search.settings.sampler == "grid":  # the arm's own recipe may be off the grid
        study.add_trials([frozen(search, s) for s in ended if s.trial.number > 0])
    else:
        study.add_trials([frozen(search, s) for s in ended])
    with quiet():
        study.sampler = _sampler(search, batch)
    return study


def _replay(search: Search, study: "optuna.study.Study", ended: Sequence[Standing]) -> None:
    """Ask and tell it all again: CMA-ES keeps its state with the trials that it was asked for."""
    for number in sorted({s.trial.batch for s in ended}):
        study.sampler = _sampler(search, number)
        batch = [s for s in ended if s.trial.batch == number]
        asked = [(study.ask(), s) for s in batch if s.trial.number > 0]
        for trial, standing in asked:
            if _draw(search, trial) != standing.trial.params:
                raise UserError(
                    f"{search.file}: this Optuna tries other values than the one that began the "
                    "search; go on with that one, or begin another with --sampler-seed"
                )
        study.add_trials([frozen(search, s) for s in batch if s.trial.number == 0])
        for trial, standing in asked:
            record = frozen(search, standing)
            study.tell(trial, record.value, state=record.state)


def frozen(search: Search, standing: Standing) -> "optuna.trial.FrozenTrial":
    """Return a trial as Optuna's record of it.

    Its steps are the rungs of the first seed, then the seeds, each with its own score; a value of
    the arm's own that is outside the space is left out, as no sampler could have made it.
    """
    import optuna

    states = optuna.trial.TrialState
    state = {
        "complete": states.COMPLETE,
        "pruned": states.PRUNED,
        "failed": states.FAIL,
    }[standing.state]
    given = standing.trial.params
    kinds = {d.name: distribution(d) for d in search.space if given.get(d.name) in d}
    params = {name: value for name, value in given.items() if name in kinds}
    values = [standing.score or 0.0, standing.cost][: len(search.settings.objectives)]
    steps = [*standing.rungs, *standing.values]
    if standing.state == "pruned" and standing.score is not None:
        steps[-1] = standing.score  # a sampler ranks what was stopped by its last step
    first = 0 if standing.rungs else 2
    return optuna.trial.create_trial(
        state=state,
        values=values if state == states.COMPLETE else None,
        params=params,
        distributions=kinds,
        intermediate_values={first + i: value for i, value in enumerate(steps)},
        user_attrs={
            NUMBER: standing.trial.number,
            **({"reason": standing.reason} if standing.reason else {}),
        },
    )


def distribution(dimension: Dimension) -> "optuna.distributions.BaseDistribution":
    """Return Optuna's distribution of a dimension."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    assert dimension.low is not None and dimension.high is not None
    if dimension.whole:
        low, high = int(dimension.low), int(dimension.high)
        return IntDistribution(low, high, log=dimension.log, step=int(dimension.step or 1))
    return FloatDistribution(
        float(dimension.low), float(dimension.high), log=dimension.log, step=dimension.step
    )


def _suggest(trial: "optuna.Trial", dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    kind: Any = distribution(dimension)
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(dimension.name, kind.choices)
    suggest: Any = trial.suggest_int if isinstance(kind, IntDistribution) else trial.suggest_float
    value = suggest(dimension.name, kind.low, kind.high, step=kind.step, log=kind.log)
    return round(value, 12) if kind.step else value  # 0.1 + 0.1 + 0.1 is 0.3


def _sampler(search: Search, batch: int) -> "optuna.samplers.BaseSampler":
    import optuna.samplers as samplers

    seed = stream_seed(search.settings.seed, "search", batch) % 2**32
    kind = search.settings.sampler
    if kind == "random":
        return samplers.RandomSampler(seed=seed)
    if kind == "gp":
        return samplers.GPSampler(seed=seed)
    if kind == "cmaes":
        # From where the arm's recipe is; values of several kinds fall back to random draws.
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if kind == "grid":
        return samplers.BruteForceSampler(seed=seed)
    return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
