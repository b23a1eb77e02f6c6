"""Speed of looking at a study of 10,000 runs: what every call of the command waits for.

Run with: pytest tests/benchmarks/test_bench_slurm.py --benchmark-only. Seconds are in `extra_info`.
"""

import io
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from fakes import fake_result
from rich.console import Console

from ns_bench.cli.slurm import standing, status_lines, status_table
from ns_bench.design.profile import Profile
from ns_bench.execute.slurm.cluster import Cluster
from ns_bench.execute.slurm.queue import JobState
from ns_bench.execute.slurm.scheduler import array_name, plan_arrays
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import Plan, make_plan
from ns_bench.runs.store import Run, Store

RUNS = 10_000


def students() -> list[Recipe]:
    """Of 250 teachers three students each, at ten seeds: a study of 750 arms."""
    teachers = [Recipe().set({"train.lr": 1e-5 * (i + 1)}) for i in range(RUNS // 40)]
    arms = [
        Recipe(teacher=teacher).set({"train.lr": 1e-5 * (i + 1)})
        for teacher in teachers
        for i in range(3)
    ]
    return [arm.at_seed(seed) for arm in arms for seed in range(10)]


@pytest.fixture(scope="module")
def recipes() -> list[Recipe]:
    return students()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, recipes: list[Recipe]) -> Store:
    """A store in which every second student is done, and every teacher."""
    store = Store(tmp_path_factory.mktemp("full") / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        for i, run in enumerate(make_plan(store, recipes).runs.values()):
            if run.teacher is None or i % 2:
                fake_result(run)
    return store


def timed(benchmark: Any, function: Callable[[], Any]) -> Any:
    seconds = []

    def call() -> Any:
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
        return result

    result = benchmark.pedantic(call, rounds=3)
    benchmark.extra_info["seconds"] = min(seconds)
    return result


def test_recipes_and_ids(benchmark) -> None:
    assert len({recipe.id for recipe in timed(benchmark, students)}) == 3 * RUNS // 4


def test_plan_of_an_empty_store(benchmark, tmp_path, recipes) -> None:
    plan = timed(benchmark, lambda: make_plan(Store(tmp_path / "runs"), recipes))
    assert len(plan.runs) == len(plan.missing) == RUNS


def test_plan_of_a_full_store(benchmark, full, recipes) -> None:
    plan = timed(benchmark, lambda: make_plan(full, recipes))
    assert len(plan.runs) == RUNS and 0 < plan.counts()["done"] < RUNS


def test_packs_and_arrays(benchmark, tmp_path, recipes) -> None:
    missing = make_plan(Store(tmp_path / "runs"), recipes).missing
    profile = Profile("", "", {}, {}, 0, 0)
    pack = profile.estimate(recipes[0]) / 60
    cluster = Cluster("x", pack_minutes=1.5 * pack, time_minutes=10**7)

    def arrays() -> list[str]:
        made = plan_arrays(missing, profile.estimate, cluster, 1000)
        return [array_name(array) for array in made]

    assert len(timed(benchmark, arrays)) == 12  # three arrays of teachers, three of students below


def test_status(benchmark, full, recipes) -> None:
    plan: Plan = make_plan(full, recipes)
    states = {
        run.id: JobState(f"7_{i}", "RUNNING", "ns_bench-x", "None", "node1", "1:00")
        for i, run in enumerate(plan.missing)
    }

    def show() -> int:
        rows: list[tuple[Run, str, JobState | None]] = standing(plan, states)
        console = Console(file=io.StringIO(), width=160)
        console.print(status_table("title", rows, 50))
        return len(rows)

    assert timed(benchmark, show) == RUNS


def test_status_without_a_terminal(benchmark, full, recipes) -> None:
    """All rows are printed."""
    plan = make_plan(full, recipes)
    rows = standing(plan, {})
    assert len(timed(benchmark, lambda: status_lines("title", rows))) == RUNS + 2
