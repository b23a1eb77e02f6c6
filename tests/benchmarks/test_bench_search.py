"""What a search itself costs, beside the training that it asks for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

TRIALS = 40


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_overhead(benchmark, sampler, tmp_path):
    """Reading trials and asking for more, as a share of the training of 40 trials in digits."""
    from searches import budget, do, search

    from ns_bench.design.profile import load_profile
    from ns_bench.tuning.driver import Driver

    profile = load_profile("digits")
    seconds = profile.estimate(profile.supervised("small"))  # the cheapest there is
    training: dict[tuple[str, int | None], float] = {}

    def whole() -> Driver:
        found = search(tmp_path / str(len(training)), sampler=sampler, batch=8)
        driver = Driver([found], budget(TRIALS))
        while tasks := driver.advance():
            for task in tasks:  # one at a time, as runs come in
                do(task)
                driver.advance()
                share = (task.until or task.run.recipe.steps) / task.run.recipe.steps
                training[task.run.id, task.until] = seconds * share
        return driver

    driver = benchmark.pedantic(whole, rounds=1)
    assert len(driver.searches[0].trials()) == TRIALS
    spent = sum(training.values())
    benchmark.extra_info["search (s)"] = round(driver.seconds, 2)
    benchmark.extra_info["training (s, estimated)"] = round(spent)
    benchmark.extra_info["overhead (%)"] = round(100 * driver.seconds / spent, 2)
