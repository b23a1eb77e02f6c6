"""Searches on a made-up surface, without training: for tests of trials, samplers and storages."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from fakes import fake_curve, fake_result

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import Task
from ns_bench.runs.store import CHECKPOINT, Store
from ns_bench.tuning.driver import Budget, Driver
from ns_bench.tuning.space import load_space
from ns_bench.tuning.trials import Search, Settings, Standing
from ns_bench.tuning.tuned_arms import fingerprint, search_of

ROOT = Path(__file__).resolve().parent.parent
PROFILE = load_profile("smoke")
STUDY = load_study("soft_vs_hard")
DESIGN = STUDY.design(PROFILE)
SPACE = tuple(
    load_space(
        {
            "train.lr": {"low": 0.001, "high": 0.1, "log": True},
            "noise.*.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
            "train.ema": {"choices": [0.9, 0.99]},
        },
        "here",
    )
)
STUDENT = "soft, whole pool"


def search(root: Path, arm: str = "supervised", **changes) -> Search:
    given = Settings("soft_vs_hard", "smoke", fingerprint(DESIGN), SPACE, seeds=4, batch=4)
    found = search_of(replace(given, **changes), STUDY, DESIGN, arm, Store(root), PROFILE)
    assert found is not None
    return found


def score(recipe: Recipe) -> float:
    """A made-up surface with a best learning rate, less dropout being better; seeds differ."""
    off = abs(float(torch.log10(torch.tensor(recipe.train.lr))) + 1.7)
    noise = random.Random(f"{recipe.id}").uniform(-0.4, 0.4)
    return 90 - 8 * off - 6 * recipe.noise.labeled.dropout + 0.3 * (recipe.seed % 4) + noise


def do(task: Task, surface: Callable[[Recipe], float] = score) -> None:
    """What a worker leaves behind, without training."""
    run = task.run
    (run.path / "metrics.jsonl").unlink(missing_ok=True)
    fake_curve(run, surface(run.recipe))
    if task.until is None:
        fake_result(run, surface(run.recipe))
        return
    log = (run.path / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in log if json.loads(line)["step"] <= task.until]
    (run.path / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    (run.path / CHECKPOINT).write_bytes(b"state")


def budget(trials: int) -> Budget:
    return Budget(trials, None, None, time.monotonic())


def finish(
    found: Search, trials: int, surface: Callable[[Recipe], float] = score
) -> list[Standing]:
    driver = Driver([found], budget(trials))
    while tasks := driver.advance():
        for task in tasks:
            do(task, surface)
    return found.standings(found.trials())
