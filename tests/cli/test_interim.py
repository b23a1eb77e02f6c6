"""What a study shows before its end, and what it costs to begin with that."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import fake_result

from ns_bench.cli.interim import Interim, first_runs
from ns_bench.design.definition import load_study, study_names
from ns_bench.design.profile import load_profile
from ns_bench.runs.plan import Plan, make_plan, makespan
from ns_bench.runs.store import Store

pytestmark = pytest.mark.slow

PROFILE = load_profile("digits")


def plan_of(name: str, root: Path) -> tuple[Plan, list[set[str]]]:
    """Return the plan of a study from an empty store, and what it begins with."""
    design = load_study(name).design(PROFILE)
    recipes = design.recipes(range(8))
    plan = make_plan(Store(root), recipes.values())
    return plan, first_runs(design, recipes, plan, PROFILE.estimate, workers=2)


def test_a_study_begins_with_one_seed_and_then_its_cheapest_claim(tmp_path: Path) -> None:
    plan, (seed, claim) = plan_of("teacher_size", tmp_path)
    assert {run.recipe.seed for run in plan.runs.values() if run.id in seed} == {0}
    assert len(seed) == 6, "three teachers and their students"
    rest = [run.recipe for run in plan.runs.values() if run.id in claim]
    assert len(rest) == 14 and {recipe.model for recipe in rest} == {"micro-b0"}
    assert {recipe.seed for recipe in rest} == set(range(1, 8))


@pytest.mark.parametrize("name", study_names())
def test_it_costs_the_whole_study_next_to_nothing(name: str, tmp_path: Path) -> None:
    """On two workers, where a long run that begins last would end alone."""
    plan, first = plan_of(name, tmp_path)
    whole = makespan(plan.missing, PROFILE.estimate, 2)
    assert makespan(plan.missing, PROFILE.estimate, 2, first) <= 1.03 * whole
    assert first or whole < 300, "a study of minutes has a table before its end"
    begun: set[str] = set()
    for ids in first:  # no run waits for one of a later group
        begun |= ids
        teachers = {run.teacher.id for run in map(plan.runs.get, ids) if run and run.teacher}
        assert teachers <= begun


def test_it_is_shown_when_a_group_is_done_and_not_at_the_end(tmp_path: Path) -> None:
    plan, groups = plan_of("teacher_size", tmp_path)
    shown: list[int] = []
    interim = Interim([*groups], plan, lambda: shown.append(done))
    for done, ids in enumerate((set[str](), *groups), 1):
        for run_id in ids:
            fake_result(plan.runs[run_id])
        interim.look(done)
        interim.look(done)
    assert shown == [2, 3]
    done = len(plan.missing)
    Interim([*groups], plan, lambda: shown.append(done)).look(done)
    assert shown == [2, 3], "the table of the end is on its way"


def test_the_study_command_shows_a_table_before_its_end(tmp_path: Path) -> None:
    words = ["teacher_size", "--profile", "smoke", "--seeds", "2"]
    fields = ["--set", "train.epochs=2", "--set", "pseudo.threshold=0"]
    shown = subprocess.run(
        [sys.executable, "-m", "ns_bench.study", *words, *fields],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    early = shown.split("interim, runs are still on their way:")[1]
    seeds = re.findall(r"│ (\d)/2 │", early)[:4]
    assert len(seeds) == 4 and "0" not in seeds and "1" in seeds
    assert re.search(r"│ 1/2 │ +[\d.]+ \[[\d.]+, [\d.]+\]\*", early)
    assert "* over the test images of the one seed that is there" in early
    assert shown.splitlines()[-2].startswith("NO VERDICT"), "a table of the end comes, too"
