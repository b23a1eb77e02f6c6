"""Small runs for tests of the local pool, and what to do to one while it trains."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ns_bench.execute.local import Progress
from ns_bench.recipe import Recipe
from ns_bench.runs.lease import Lease
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Run, Store

FIELDS = {"train.epochs": 4, "pseudo.threshold": 0.0, "train.warmup_epochs": 1, "train.ema": 0.9}
DIVERGES = {"train.lr": 1000, "train.optimizer": "sgd", "train.epochs": 300}
LONG = {"train.epochs": 24, "train.batch_size": 10}  # 120 steps: some 2 seconds
LONGER = {"train.epochs": 48, "train.batch_size": 10}


def supervised(seed: int = 0, **fields: Any) -> Recipe:
    own = {name.replace("__", "."): value for name, value in fields.items()}
    return Recipe().set({**FIELDS, **own}).at_seed(seed)


def student(teacher: Recipe, **fields: Any) -> Recipe:
    own = {name.replace("__", "."): value for name, value in fields.items()}
    return Recipe(seed=teacher.seed, teacher=teacher).set({**FIELDS, **own})


def dotless(values: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(".", "__"): value for name, value in values.items()}


def planned(root: Path, *recipes: Recipe) -> list[Run]:
    """Return the runs of `recipes` and of their teachers, in the order that the pool takes."""
    return make_plan(Store(root), recipes).missing


def seconds(recipe: Recipe) -> float:
    return 0.02 * recipe.steps


def states(root: Path, *recipes: Recipe) -> list[str]:
    plan = make_plan(Store(root), recipes)
    return [str(plan.states[recipe.id]) for recipe in recipes]


def holder(run: Run) -> int | None:
    """Return the number of the process that works on a run."""
    found = Lease(run.path).holder()
    return None if found is None else int(found["pid"])


class Once:
    """Does something once, as soon as a run has trained for a while."""

    def __init__(self, run: Run, act: Callable[[int], None], records: int = 1) -> None:
        self.run, self.act, self.records, self.done = run, act, records, False

    def __call__(self, progress: Progress) -> None:
        if self.done or len(self.run.metrics()) < self.records:
            return
        pid = holder(self.run)
        if pid is not None and self.run.id in progress.running:
            self.done = True
            self.act(pid)


def sends(sent: signal.Signals) -> Callable[[int], None]:
    return lambda pid: os.kill(pid, sent)


def until(condition: Callable[[], Any], what: str, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"took too long: {what}"
        time.sleep(0.02)
