"""The estimate of `digits` against reality: one seed of a study, one worker, this machine.

Run with: pytest tests/benchmarks/test_bench_price.py --benchmark-only -n 0, on a quiet machine.
Ratios are seconds of training over estimated seconds. `python` and `torch` take some seconds to
start, once a worker, that the estimate leaves out.
"""

from torch import get_num_threads, set_num_threads

from ns_bench.design.profile import load_profile
from ns_bench.execute.run_one import run_one
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Store

FACTOR = 1.5


def test_digits_against_its_estimate(benchmark, tmp_path) -> None:
    """A teacher of each size, and two students: 1.5 minutes."""
    profile = load_profile("digits")
    teachers = [profile.supervised(rung) for rung in profile.rungs]
    students = [profile.student(rung, teachers[0]) for rung in ("small", "large")]
    plan = make_plan(Store(tmp_path / "runs"), [*teachers, *students])
    threads = get_num_threads()
    set_num_threads(1)  # as a worker has

    def train() -> dict[str, float]:
        seconds = {}
        for run in plan.runs.values():
            result = run_one(run)
            seconds[run.id] = result.seconds
        return seconds

    try:
        found = benchmark.pedantic(train, rounds=1)
    finally:
        set_num_threads(threads)
    for run in plan.runs.values():
        role = "student" if run.recipe.teacher else "supervised"
        ratio = found[run.id] / profile.estimate(run.recipe)
        benchmark.extra_info[f"{run.recipe.model} {role}"] = round(ratio, 2)
    estimated = sum(profile.estimate(run.recipe) for run in plan.runs.values())
    ratio = sum(found.values()) / estimated
    benchmark.extra_info["of its estimate"] = round(ratio, 2)
    assert 1 / FACTOR <= ratio <= FACTOR
