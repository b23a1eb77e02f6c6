"""The trials of a search. What a trial scored is read from its runs; only what it tried is stored.

A batch of trials is asked for at once, from a sampler that is seeded by the batch and has seen the
trials of all earlier batches. So what is tried is a function of results alone: a search that was
killed and called again tries what it would have tried, and there is no half-told trial to clean up.
"""

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ns_bench.errors import UserError, unknown
from ns_bench.recipe import Recipe
from ns_bench.store import Store, publish_json
from ns_bench.streams import stream_seed
from ns_bench.tuning.space import Dimension, applies, changes

SCHEMA = 1
TUNING_SEEDS = 1000
"""Seeds from here on tune, and report nothing."""

SAMPLERS = ("tpe", "random", "gp", "cmaes", "grid")
PRUNE_P = 0.2
"""Wilcoxon's signed-rank test can say p = 1/8 of three seeds: a bad recipe stops after these."""

State = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Trial:
    """What was tried: parameters by the name of their dimension."""

    number: int
    batch: int
    params: dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """Where a trial stands, read from the store.

    Attributes:
        values: validation top-1 (%) by tuning seed, in the order of the seeds.
        seconds: of training, its own runs alone.
        wanted: the runs that it needs next, none unless it is running.
        reason: of its failure.
    """

    trial: Trial
    recipe: Recipe | None
    state: State
    values: list[float] = field(default_factory=list)
    seconds: float = 0.0
    wanted: list[Recipe] = field(default_factory=list)
    reason: str = ""

    @property
    def value(self) -> float:
        """The objective: mean validation top-1 over the seeds that it ran at."""
        return statistics.fmean(self.values)


@dataclass(frozen=True)
class Search:
    """One arm's search. Everything here but `store` is its identity.

    Attributes:
        recipe: the arm's; trial 0 is this recipe as it is.
        seeds: how many tuning seeds (1000, 1001, ...) a trial is scored at.
        batch: trials that are asked for at once.
        prune: stop a trial that is surely worse than the best before it, seed by seed.
    """

    store: Store
    study: str
    profile: str
    arm: str
    recipe: Recipe
    space: tuple[Dimension, ...]
    sampler: str = "tpe"
    seed: int = 0
    seeds: int = 4
    batch: int = 4
    prune: bool = True

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise unknown("sampler", self.sampler, SAMPLERS)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides what is tried and how it is scored."""
        return {
            "schema": SCHEMA,
            "study": self.study,
            "profile": self.profile,
            "arm": self.arm,
            "recipe": json.loads(self.recipe.at_seed(0).canonical()),
            "space": [json.loads(json.dumps(asdict(dimension))) for dimension in self.space],
            "sampler": self.sampler,
            "seed": self.seed,
            "seeds": self.seeds,
            "batch": self.batch,
            "prune": self.prune,
        }

    @property
    def id(self) -> str:
        text = json.dumps(self.identity, sort_keys=True)
        slug = "".join(c if c.isascii() and c.isalnum() else "_" for c in self.arm)[:60]
        digits = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.study}-{self.profile}-{slug}-{self.sampler}-{digits}"

    @property
    def folder(self) -> Path:
        return self.store.root / "searches" / self.id

    def trials(self) -> list[Trial]:
        """Return what has been asked for so far. UserError: the file is not this search's."""
        path = self.folder / "trials.json"
        try:
            stored = json.loads(path.read_bytes())
            found = [Trial(**entry) for entry in stored["trials"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            why = f"{path} cannot be read ({error}); move it away to start over"
            raise UserError(why) from None
        if stored.get("search") != self.identity:
            raise UserError(f"{path} belongs to another search or space")
        return found

    def standings(self, trials: Sequence[Trial]) -> list[Standing]:
        """Return where every trial stands; one batch is judged by those before it."""
        found: list[Standing] = []
        for number in sorted({trial.batch for trial in trials}):
            before = list(found)
            found += [self._standing(t, before) for t in trials if t.batch == number]
        return found

    def _standing(self, trial: Trial, before: Sequence[Standing]) -> Standing:
        try:
            recipe = self.recipe.set(changes(self.space, trial.params))
        except UserError as error:  # a combination that no recipe can have
            return Standing(trial, None, "failed", reason=str(error))
        so_far = Standing(trial, recipe, "running")
        best = max((s for s in before if s.state == "complete"), key=_rank, default=None)
        for seed in range(self.seeds):
            run = self.store.run(recipe.at_seed(TUNING_SEEDS + seed))
            state = run.state()
            if state == "failed":
                reason = (run.failure() or {}).get("error", "it failed")
                return replace(so_far, state="failed", reason=reason)
            above = run.teacher
            while above is not None:
                if above.state() == "failed":
                    return replace(so_far, state="failed", reason=f"its teacher {above.id} failed")
                above = above.teacher
            result = run.result() if state == "done" else None
            if result is None:
                return replace(so_far, wanted=[run.recipe])
            values = [*so_far.values, result.validation["top1"]]
            so_far = replace(so_far, values=values, seconds=so_far.seconds + result.seconds)
            more = seed + 1 < self.seeds
            if self.prune and best is not None and more and surely_worse(values, best.values):
                return replace(so_far, state="pruned")
        return replace(so_far, state="complete")

    def ask(self, standings: Sequence[Standing], count: int) -> list[Trial]:
        """Ask the sampler for the next batch of at most `count` trials, and store them."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        batch = standings[-1].trial.batch + 1 if standings else 0
        study = optuna.create_study(
            direction="maximize", sampler=self._sampler(batch, len(standings))
        )
        for standing in standings:
            study.add_trial(frozen(standing, self.space, self.recipe))
        asked = []
        for number in range(len(standings), len(standings) + min(count, self.batch)):
            if number == 0:
                params: dict[str, Any] = self.defaults()
                study.enqueue_trial(params)
            trial = study.ask()
            params = {}
            for dimension in self.space:
                if applies(dimension, params, self.recipe):
                    params[dimension.name] = _suggest(trial, dimension)
            asked.append(Trial(number, batch, params))
        self.folder.mkdir(parents=True, exist_ok=True)
        every = [*(s.trial for s in standings), *asked]
        content = {"search": self.identity, "trials": [asdict(trial) for trial in every]}
        publish_json(self.folder / "trials.json", content)
        return asked

    def defaults(self) -> dict[str, Any]:
        """Return the arm's own values: what trial 0 tries, where the space has them."""
        return {d.name: self.recipe.field(d.fields[0]) for d in self.space}

    def _sampler(self, batch: int, told: int) -> Any:
        import optuna

        seed = stream_seed(self.seed, "search", batch) % 2**32
        samplers = optuna.samplers
        if self.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if self.sampler == "gp":
            return samplers.GPSampler(seed=seed)
        if self.sampler == "cmaes":
            return samplers.CmaEsSampler(seed=seed)
        if self.sampler == "grid":
            return samplers.BruteForceSampler(seed=seed)
        return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _rank(standing: Standing) -> tuple[float, int]:
    return standing.value, -standing.trial.number


def surely_worse(values: Sequence[float], best: Sequence[float]) -> bool:
    """Whether a trial's scores are below the best's at the same seeds (Wilcoxon, one-sided)."""
    from scipy.stats import wilcoxon

    differences = [a - b for a, b in zip(values, best, strict=False)]
    if len(differences) < 2 or statistics.fmean(differences) >= 0:
        return False
    if not any(differences):
        return False
    test = wilcoxon(differences, alternative="less", zero_method="zsplit")
    return bool(test.pvalue < PRUNE_P)


def distribution(dimension: Dimension) -> Any:
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


def _suggest(trial: Any, dimension: Dimension) -> Any:
    kind = distribution(dimension)
    return trial._suggest(dimension.name, kind)


def frozen(standing: Standing, space: Sequence[Dimension], recipe: Recipe) -> Any:
    """Return a trial as Optuna's record of it."""
    import optuna

    kinds = {d.name: distribution(d) for d in space if d.name in standing.trial.params}
    state = {
        "complete": optuna.trial.TrialState.COMPLETE,
        "pruned": optuna.trial.TrialState.PRUNED,
        "failed": optuna.trial.TrialState.FAIL,
    }[standing.state]
    # a default outside its range is a trial, but not one that the sampler could have made
    params = {n: v for n, v in standing.trial.params.items() if kinds[n]._contains(
        kinds[n].to_internal_repr(v))}  # fmt: skip
    return optuna.trial.create_trial(
        state=state,
        value=standing.value if standing.state == "complete" else None,
        params=params,
        distributions={name: kinds[name] for name in params},
        intermediate_values=dict(enumerate(standing.values)),
        user_attrs={"reason": standing.reason} if standing.reason else {},
    )


def best_of(standings: Sequence[Standing]) -> Standing | None:
    """Return the complete trial with the highest mean, the earliest of equals."""
    return max((s for s in standings if s.state == "complete"), key=_rank, default=None)


def tuned_fields(search: Search, standings: Sequence[Standing]) -> Mapping[str, Any]:
    """Return the best trial's recipe fields. UserError: no trial is complete."""
    best = best_of(standings)
    if best is None:
        raise UserError(f"search {search.id} has no finished trial")
    return changes(search.space, best.trial.params)
