"""The trials of a search. What a trial scored is read from its runs; only what it tried is stored.

A batch of trials is asked for at once, from a sampler that is seeded by the batch and has seen the
trials of all earlier batches. So what is tried is a function of results alone: a search that was
killed and called again tries what it would have tried, and there is no half-told trial to clean up.

A trial is scored seed by seed, and stops early in two ways. Within the first seed, at `RUNGS` of
its steps, the better half of its batch goes on (successive halving). After that it goes on while
it is not surely worse than the best trial of earlier batches (Wilcoxon's signed-rank test over
seeds). The arm's own recipe, trial 0, always runs to the end. A stopped run keeps its checkpoint.
"""

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ns_bench.design.definition import TUNING_SEEDS
from ns_bench.errors import UserError, located
from ns_bench.fields import build
from ns_bench.files import Corrupt, publish_json, sealed_json, unsealed_json
from ns_bench.recipe import Recipe, idle_fields
from ns_bench.runs.plan import Task
from ns_bench.runs.store import Run, Store
from ns_bench.tuning import Objective, Pruning, Sampler
from ns_bench.tuning.pruning import LEAST_SEEDS, surely_worse
from ns_bench.tuning.space import Dimension, applies, changes

SCHEMA = 1
RUNGS = (0.2, 0.5)
"""Shares of the first seed's steps at which the worse half of a batch stops."""

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
        rungs: validation top-1 (%) at the rungs of the first seed that it got to.
        seconds: of training, its own runs alone.
        cost: of training one network by its recipe, in seconds as the profile estimates them.
        wanted: what it needs next, nothing unless it is running.
        reason: of its failure.
    """

    trial: Trial
    recipe: Recipe | None
    state: State
    values: list[float] = field(default_factory=list)
    rungs: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cost: float = 0.0
    wanted: list[Task] = field(default_factory=list)
    reason: str = ""

    @property
    def score(self) -> float | None:
        """Mean validation top-1 over its seeds, or what it had when it stopped; None of nothing."""
        if self.values:
            return statistics.fmean(self.values)
        return self.rungs[-1] if self.rungs else None


@dataclass(frozen=True)
class Settings:
    """What all arms of one search have in common: each has the same chance.

    Attributes:
        space: everything that may be tuned; an arm is tuned over what it uses of it.
        design: SHA-256 over the recipes of the study's arms, so that a changed profile is another
            search.
        seed: of the sampler.
        seeds: tuning seeds (1000, 1001, ...) at which a trial is scored.
        batch: trials that are asked for at once.
    """

    study: str
    profile: str
    design: str
    space: tuple[Dimension, ...]
    sampler: Sampler = "tpe"
    seed: int = 0
    seeds: int = 4
    batch: int = 8
    pruning: Pruning = "both"
    objectives: tuple[Objective, ...] = ("accuracy",)

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Optuna's word for what each objective should be."""
        both: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"]
        return both[: len(self.objectives)]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides what is tried and how it is scored, as JSON has it."""
        identity: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(self)}))
        return identity

    @property
    def id(self) -> str:
        digits = _sha256(json.dumps(self.identity, sort_keys=True))[:8]
        return f"{self.study}-{self.profile}-{self.sampler}-{digits}"


@dataclass(frozen=True)
class Search:
    """The search of one arm.

    Attributes:
        recipe: the arm's; trial 0 is this recipe as it is.
        space: what the arm is tuned over.
        estimate: seconds of training by a recipe, as the profile estimates them.
        words: that name the study and the profile in a command.
        changed: {field: value} of what is set for all arms, as by --set.
    """

    store: Store
    settings: Settings
    arm: str
    recipe: Recipe
    space: tuple[Dimension, ...]
    estimate: Callable[[Recipe], float]
    words: str
    changed: Mapping[str, Any] = field(default_factory=dict, compare=False)
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict, compare=False)
    _over: dict[int, list[Standing]] = field(default_factory=dict, compare=False)

    @property
    def folder(self) -> Path:
        return self.store.root / "searches" / self.settings.id

    @property
    def slug(self) -> str:
        """The arm's name, fit for a file."""
        words = "".join(c if c.isascii() and c.isalnum() else "-" for c in self.arm)[:60]
        return f"{words}-{_sha256(self.arm)[:4]}"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.slug}.json"

    @property
    def identity(self) -> dict[str, Any]:
        return {"arm": self.arm, **self.settings.identity}

    def own(self, dimension: Dimension) -> Any:
        """Return the arm's own value, of the first field of a dimension that it uses."""
        idle = idle_fields(self.recipe)
        used = [field for field in dimension.fields if field not in idle]
        return self.recipe.field((used or dimension.fields)[0])

    def trials(self) -> list[Trial]:
        """Return what has been asked for so far. UserError: the file is not this search's."""
        try:
            stored = json.loads(self.file.read_bytes())
            if "sha256" in stored:  # files of old searches have none
                stored = unsealed_json(stored)
            belongs = stored["search"] == self.identity
            trials = [build(Trial, entry, "trials.") for entry in stored["trials"]]
            if belongs:
                self._check(trials)
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, RecursionError, Corrupt, UserError) as error:
            why = f"{self.file} cannot be read ({error}); move it away: its runs are kept"
            raise UserError(why) from None
        if not belongs:
            raise UserError(f"{self.file} belongs to another study or space; move it away")
        return trials

    def _check(self, trials: Sequence[Trial]) -> None:
        """Refuse trials that this search cannot have asked for. UserError: says which."""
        batch = 0
        for number, trial in enumerate(trials):
            with located(f"trial {number}"):
                if trial.number != number or not batch <= trial.batch <= number:
                    raise UserError(f"number {trial.number} of batch {trial.batch} is out of order")
                names = [d.name for d in self.space if applies(d, trial.params, self.recipe)]
                if trial.params.keys() != set(names):
                    raise UserError(f"params={sorted(trial.params)}: expected {sorted(names)}")
                for dimension in (d for d in self.space if d.name in names):
                    value = trial.params[dimension.name]
                    own = number == 0 and value == self.own(dimension)
                    if not own and value not in dimension:
                        raise UserError(f"{dimension.name}={value!r}: it is not in the space")
            batch = trial.batch

    def keep(self, trials: Sequence[Trial]) -> None:
        """Store what has been asked for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"search": self.identity, "trials": [asdict(trial) for trial in trials]}
        publish_json(self.file, sealed_json(content))

    def standings(self, trials: Sequence[Trial]) -> list[Standing]:
        """Return where every trial stands; a batch is judged by itself and those before it."""
        judged: list[Standing] = []
        for number in sorted({trial.batch for trial in trials}):
            batch = [t for t in trials if t.batch == number]
            standings = self._over.get(number, [])
            if [s.trial for s in standings] != batch:
                standings = self._batch(batch, best_of(judged))
                if all(s.state != "running" for s in standings):
                    self._over[number] = standings  # nothing changes any more
            judged += standings
        return judged

    def forgive(self) -> None:
        """Let failed runs of its trials be done again."""
        for standing in self.standings(self.trials()):
            for seed in range(self.settings.seeds if standing.recipe else 0):
                link: Run | None = self.run(standing, seed)
                while link is not None:
                    link.forgive()
                    link = link.teacher
        self._over.clear()

    def _batch(self, trials: Sequence[Trial], best: Standing | None) -> list[Standing]:
        begun = {trial.number: self._begin(trial) for trial in trials}
        racing = [n for n, standing in begun.items() if standing.state == "running" and n > 0]
        if self.settings.pruning == "both":
            for rung in RUNGS:
                begun |= {n: self._to_rung(begun[n], rung) for n in racing}
                racing = [n for n in racing if begun[n].state == "running"]
                if any(begun[n].wanted for n in racing):  # the others wait at the rung
                    return [s if n in racing else self._go_on(s, best) for n, s in begun.items()]
                racing.sort(key=lambda n: (-begun[n].rungs[-1], n))
                half = -(-len(racing) // 2)
                begun |= {n: replace(begun[n], state="pruned") for n in racing[half:]}
                racing = racing[:half]
        return [self._go_on(standing, best) for standing in begun.values()]

    def _begin(self, trial: Trial) -> Standing:
        try:
            recipe = self.recipe.set(changes(self.space, trial.params))
        except UserError as error:  # a combination that no recipe can have
            return Standing(trial, None, "failed", reason=str(error))
        return Standing(trial, recipe, "running", cost=self.estimate(recipe))

    def _to_rung(self, standing: Standing, rung: float) -> Standing:
        run = self.run(standing, 0)
        if failed := _failure(run):
            return replace(standing, state="failed", reason=failed)
        until = max(round(run.recipe.steps * rung), 1)
        for record in run.metrics():
            if record["step"] >= until and "validation_top1" in record:
                rungs = [*standing.rungs, record["validation_top1"]]
                return replace(standing, rungs=rungs, seconds=record["seconds"])
        if finished := self._finished(run):  # its log is lost
            return replace(standing, rungs=[*standing.rungs, finished[0]], seconds=finished[1])
        return replace(standing, wanted=[Task(run, until)])

    def _go_on(self, standing: Standing, best: Standing | None) -> Standing:
        if standing.state != "running":
            return standing
        settings, so_far = self.settings, replace(standing, seconds=0.0)
        if settings.pruning == "none" or standing.trial.number == 0:
            best = None
        for seed in range(settings.seeds):
            run = self.run(standing, seed)
            if failed := _failure(run):
                return replace(so_far, state="failed", reason=failed)
            finished = self._finished(run)
            if finished is None:
                # Seeds after which the trial could not stop anyway are asked for together.
                sure = max(seed + 1, LEAST_SEEDS) if best else settings.seeds
                asked = range(seed, min(sure, settings.seeds))
                runs = [self.run(standing, later) for later in asked]
                return replace(so_far, wanted=[Task(r) for r in runs if not self._finished(r)])
            values, seconds = [*so_far.values, finished[0]], so_far.seconds + finished[1]
            so_far = replace(so_far, values=values, seconds=seconds)
            if best and seed + 1 < settings.seeds and surely_worse(values, best.values):
                return replace(so_far, state="pruned")
        return replace(so_far, state="complete")

    def run(self, standing: Standing, seed: int) -> Run:
        assert standing.recipe is not None
        return self.store.run(standing.recipe.at_seed(TUNING_SEEDS + seed))

    def _finished(self, run: Run) -> tuple[float, float] | None:
        """Return (validation top-1, seconds) of a finished run; it is read once."""
        if run.id not in self._seen and run.state() == "done":
            result = run.result()
            assert result is not None
            self._seen[run.id] = result.validation["top1"], result.seconds
        return self._seen.get(run.id)


def _failure(run: Run) -> str:
    """Say why the run or one it is taught by failed; "" if none did."""
    link: Run | None = run
    while link is not None:
        if link.state() == "failed":
            why = str((link.failure() or {}).get("error", "it failed"))
            return why if link is run else f"its teacher {link.id} failed: {why}"
        link = link.teacher
    return ""


def networks(settings: Settings, trials: int) -> float:
    """Return how many whole trainings the trials of an arm amount to, if no seed is spared."""
    spent = 0.0
    for first in range(0, trials, settings.batch):
        racing = batch = min(settings.batch, trials - first)
        if settings.pruning == "both":
            racing = batch - (first == 0)  # trial 0 runs to the end
            spent += settings.seeds * (first == 0)
            for rung, before in zip(RUNGS, (0.0, *RUNGS), strict=False):
                spent += racing * (rung - before)
                racing = -(-racing // 2)
            spent += racing * (1 - RUNGS[-1] + settings.seeds - 1)
        else:
            spent += racing * settings.seeds
    return spent


def best_of(standings: Sequence[Standing]) -> Standing | None:
    """Return the complete trial with the highest score, the earliest of equals."""
    return max(
        (s for s in standings if s.state == "complete"),
        key=lambda s: (s.score or 0.0, -s.trial.number),
        default=None,
    )


def front_of(standings: Sequence[Standing]) -> list[Standing]:
    """Return the complete trials that no other beats in score and cost alike, cheapest first."""
    complete = [s for s in standings if s.state == "complete"]
    front: list[Standing] = []
    for s in sorted(complete, key=lambda s: (s.cost, -(s.score or 0.0), s.trial.number)):
        if not front or (s.score or 0.0) > (front[-1].score or 0.0):
            front.append(s)
    return front


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
