"""A search: trials from the store, two ways to stop early, nothing lost to a kill."""

import json
import math
import time
from dataclasses import replace
from typing import get_args

import pytest
import torch
from builders import present
from fakes import fake_runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from searches import SPACE, STUDENT, budget, do, finish, score, search

from ns_bench.errors import UserError
from ns_bench.execute.run_one import Paused, run_one
from ns_bench.recipe import EVALUATIONS, Recipe
from ns_bench.runs.plan import Task
from ns_bench.runs.store import Run, Store
from ns_bench.tuning import Sampler
from ns_bench.tuning.driver import Budget, Driver
from ns_bench.tuning.pruning import surely_worse
from ns_bench.tuning.sampler import NUMBER, as_study, ask
from ns_bench.tuning.space import load_space
from ns_bench.tuning.trials import RUNGS, best_of, front_of, networks

pytestmark = pytest.mark.slow


def test_rungs_are_steps_at_which_a_run_looks_at_its_validation_rows():
    for rung in RUNGS:
        assert (rung * EVALUATIONS) == int(rung * EVALUATIONS)


def test_trial_0_is_the_arms_own_recipe_and_runs_to_the_end(tmp_path):
    found = search(tmp_path)
    first, *rest = finish(found, 12)
    assert first.recipe == found.recipe
    assert first.state == "complete"
    assert len(first.values) == 4
    assert {s.state for s in rest} == {"complete", "pruned"}
    assert all(present(s.recipe).seed == 0 for s in rest)


def test_runs_are_at_tuning_seeds_and_the_score_is_of_validation_rows(tmp_path):
    found = search(tmp_path)
    standings = finish(found, 4)
    results = [json.loads(p.read_bytes()) for p in tmp_path.glob("*/result.json")]
    assert {result["recipe"]["seed"] for result in results} == {1000, 1001, 1002, 1003}
    best = present(best_of(standings))
    scores = [score(present(best.recipe).at_seed(1000 + i)) for i in range(4)]
    assert best.values == scores
    assert best.score == pytest.approx(sum(scores) / 4)


def test_the_worse_half_of_a_batch_stops_at_each_rung(tmp_path):
    found = search(tmp_path, batch=9)
    standings = finish(found, 9)
    raced = [s for s in standings if s.trial.number > 0]
    at_first = sorted(raced, key=lambda s: -s.rungs[0])
    assert [s.state for s in at_first[4:]] == ["pruned"] * 4
    assert all(len(s.rungs) == 1 and not s.values for s in at_first[4:])
    at_second = sorted(at_first[:4], key=lambda s: -s.rungs[1])
    assert [len(s.rungs) for s in at_second] == [2] * 4
    assert [bool(s.values) for s in at_second] == [True, True, False, False]


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 20), st.sampled_from(["both", "none"]), st.integers(1, 7))
def test_the_cost_is_what_the_trials_trained(tmp_path_factory, trials, pruning, batch):
    """But for seeds that are spared: with two there are none to spare."""
    found = search(tmp_path_factory.mktemp("runs"), pruning=pruning, batch=batch, seeds=2)
    standings = finish(found, trials)
    trained = sum(s.seconds for s in standings) / 10  # a whole run of `do` takes 10 s
    assert networks(found.settings, trials) == pytest.approx(trained)


def test_a_stopped_run_keeps_its_checkpoint(tmp_path):
    found = search(tmp_path)
    stopped = [s for s in finish(found, 4) if s.state == "pruned"]
    assert stopped
    for standing in stopped:
        assert found.run(standing, 0).state() == "partial"


@pytest.mark.parametrize(
    ("values", "worse"),
    [
        ([88.0, 87.5], False),  # two seeds cannot tell
        ([88.0, 87.5, 87.0], True),
        ([90.1, 87.5, 91.0], False),
        ([90.0, 90.5, 91.0], False),  # the best itself
        ([92.0, 93.0, 94.0], False),
    ],
)
def test_a_trial_that_is_surely_worse_stops_after_three_seeds(values, worse):
    assert surely_worse(values, [90.0, 90.5, 91.0, 90.2]) is worse


def test_seeds_at_which_a_trial_cannot_stop_are_asked_for_together(tmp_path):
    found = search(tmp_path, pruning="seeds", seeds=5, batch=2)
    driver = Driver([found], budget(4))
    first = driver.advance()
    assert len(first) == 2 * 5  # nothing before it to be worse than
    for task in first:
        do(task)
    assert {task.run.recipe.seed for task in driver.advance()} == {1000, 1001, 1002}
    assert all(task.until is None for task in driver.advance())


def test_without_pruning_every_trial_runs_at_every_seed(tmp_path):
    standings = finish(search(tmp_path, pruning="none"), 6)
    assert [len(s.values) for s in standings] == [4] * 6


def test_a_trial_equal_to_a_finished_run_costs_nothing(tmp_path):
    found = search(tmp_path)
    own = [found.recipe.at_seed(1000 + i) for i in range(4)]
    fake_runs(found.store, own, top1=score)
    asked = [task.run.recipe for task in Driver([found], budget(4)).advance()]
    assert asked
    assert not {recipe.id for recipe in asked} & {recipe.id for recipe in own}


def test_a_teacher_that_is_wanted_is_not_stopped_at_a_rung(tmp_path):
    store = tmp_path / "runs"
    pair = [search(store), search(store, STUDENT)]
    tasks = Driver(pair, budget(4)).advance()
    taught = {task.run.teacher.id for task in tasks if task.run.teacher}
    assert taught
    assert all(task.until is None for task in tasks if task.run.id in taught)
    assert tasks[0].run.id in taught


@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.randoms(use_true_random=False), st.sampled_from(["tpe", "random"]))
def test_what_is_tried_depends_on_results_alone(tmp_path_factory, rng, sampler):
    """However runs come in, and however often the search is begun anew."""
    straight = search(tmp_path_factory.mktemp("a"), sampler=sampler)
    expected = [(s.trial, s.state, s.values) for s in finish(straight, 16)]
    broken = search(tmp_path_factory.mktemp("b"), sampler=sampler)
    while tasks := Driver([broken], budget(16)).advance():
        for task in rng.sample(tasks, rng.randint(1, len(tasks))):
            do(task)
    assert [(s.trial, s.state, s.values) for s in broken.standings(broken.trials())] == expected


def test_more_trials_later_go_on_from_there(tmp_path):
    found = search(tmp_path)
    before = finish(found, 8)
    after = finish(found, 16)
    assert [s.trial for s in after[:8]] == [s.trial for s in before]
    assert len(after) == 16


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_every_sampler_works_and_is_reproducible(sampler, tmp_path):
    space = SPACE
    if sampler == "grid":
        space = tuple(
            load_space(
                {"train.ema": {"choices": [0.9, 0.99]}, "train.batch_size": {"low": 8, "high": 10}},
                "here",
            )
        )
    found = [
        search(tmp_path / str(i), sampler=sampler, space=space, pruning="none", seeds=1)
        for i in range(2)
    ]
    count = 14 if sampler == "gp" else 24
    first, second = (finish(f, count) for f in found)
    assert [s.trial for s in first] == [s.trial for s in second]
    if sampler == "grid":  # the arm's own, and each point once
        points = [tuple(s.trial.params.values()) for s in first[1:]]
        assert len(points) == len(set(points)) >= 5
    else:
        assert len(first) == count
    other = search(tmp_path / "other", sampler=sampler, space=space, pruning="none", seed=1)
    if sampler != "grid":
        assert [s.trial for s in finish(other, 8)][1:] != [s.trial for s in first][1:8]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_sampler_learns_across_batches(sampler, tmp_path):
    """The last trials are better than the random first ones: its state survives the store."""
    space = tuple(d for d in SPACE if d.name != "train.ema")
    found = search(tmp_path, sampler=sampler, space=space, pruning="none", seeds=1, batch=6)
    standings = finish(found, 48)
    early = [present(s.score) for s in standings[1:13]]
    late = [present(s.score) for s in standings[-12:]]
    assert sum(late) / 12 > sum(early) / 12 + 1


def test_cma_es_goes_through_generations(tmp_path):
    space = tuple(d for d in SPACE if d.name != "train.ema")
    found = search(tmp_path, sampler="cmaes", space=space, pruning="none", seeds=1, batch=6)
    finish(found, 36)
    study = as_study(found, found.standings(found.trials()))
    notes = [trial.system_attrs for trial in study.trials]
    assert max(v for note in notes for k, v in note.items() if "generation" in k) >= 2


def test_a_search_that_another_optuna_began_with_cma_es_says_so(tmp_path):
    space = tuple(d for d in SPACE if d.name != "train.ema")
    found = search(tmp_path, sampler="cmaes", space=space, pruning="none", seeds=1)
    finish(found, 4)
    trials = found.trials()
    found.keep([*trials[:-1], replace(trials[-1], params={**trials[-1].params, "train.lr": 0.01})])
    for task in Driver([found], budget(4)).advance():
        do(task)
    with pytest.raises(UserError, match="this Optuna tries other values"):
        Driver([found], budget(8)).advance()


def test_a_failing_trial_is_recorded_and_the_search_goes_on(tmp_path):
    found = search(tmp_path)

    def work(task: Task) -> None:
        if task.run.recipe.train.lr > 0.03:
            task.run.path.mkdir(parents=True, exist_ok=True)
            task.run.fail("Diverged: not a finite number", "traceback")
        else:
            do(task)

    driver = Driver([found], budget(16))
    while tasks := driver.advance():
        for task in tasks:
            work(task)
    standings = found.standings(found.trials())
    failed = [s for s in standings if s.state == "failed"]
    assert failed
    assert all("Diverged" in s.reason for s in failed)
    assert len(standings) == 16
    assert best_of(standings) is not None
    study = as_study(found, standings)
    assert [t.state.name for t in study.trials].count("FAIL") == len(failed)


def test_failed_trials_are_done_again_on_demand(tmp_path):
    found = search(tmp_path, pruning="none", seeds=1)
    first, *rest = Driver([found], budget(4)).advance()
    first.run.path.mkdir(parents=True)
    first.run.fail("no space", "traceback")
    for task in rest:
        do(task)
    assert Driver([found], budget(4)).advance() == []
    found.forgive()
    assert [task.run.id for task in Driver([found], budget(4)).advance()] == [first.run.id]
    do(first)
    assert {s.state for s in found.standings(found.trials())} == {"complete"}


def test_optuna_sees_every_trial_as_it_ended(tmp_path):
    found = search(tmp_path)
    standings = finish(found, 12)
    study = as_study(found, standings)
    names = {"complete": "COMPLETE", "pruned": "PRUNED"}
    assert [t.state.name for t in study.trials] == [names[s.state] for s in standings]
    assert study.best_value == present(best_of(standings)).score
    for trial, standing in zip(study.trials, standings, strict=True):
        if standing.state == "pruned":
            assert trial.intermediate_values[present(trial.last_step)] == standing.score


def test_two_objectives_have_a_front_that_optuna_agrees_with(tmp_path):
    space = tuple(load_space({"train.epochs": {"low": 2, "high": 40}}, "here"))
    found = search(
        tmp_path, space=space, objectives=("accuracy", "cost"), pruning="none", seeds=1, batch=5
    )
    standings = finish(found, 20, lambda r: 60 + r.train.epochs**0.5 + (r.train.epochs % 7))
    front = front_of(standings)
    optunas = {t.user_attrs[NUMBER] for t in as_study(found, standings).best_trials}
    mine = {s.trial.number for s in front}
    assert mine <= optunas
    dropped = [standings[i] for i in optunas - mine]  # equals in both are shown once
    assert all(any((s.score, s.cost) == (f.score, f.cost) for f in front) for s in dropped)
    assert [s.cost for s in front] == sorted(s.cost for s in front)


def test_a_file_of_another_search_is_refused_and_left_alone(tmp_path):
    found = search(tmp_path)
    finish(found, 4)
    stored = json.loads(found.file.read_bytes())
    del stored["sha256"]
    stored["search"]["seed"] = 7
    found.file.write_text(json.dumps(stored))
    before = found.file.read_bytes()
    with pytest.raises(UserError, match="belongs to another study or space"):
        found.trials()
    found.file.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        found.trials()
    found.file.write_bytes(before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda trials: trials[1]["params"].update({"train.lr": math.nan}), "train.lr=nan"),
        (lambda trials: trials[1]["params"].update({"train.lr": 5.0}), "train.lr=5.0"),
        (lambda trials: trials[1]["params"].update({"train.ema": "x"}), "train.ema='x'"),
        (lambda trials: trials[0]["params"].update({"train.lr": math.nan}), "train.lr=nan"),
        (lambda trials: trials[1]["params"].clear(), "params=[]"),
        (lambda trials: trials[1]["params"].update({"nothing": 1}), "'nothing'"),
        (lambda trials: trials[1].update(number=0), "number 0 of batch 0 is out of order"),
        (lambda trials: trials[1].update(batch=-1), "number 1 of batch -1 is out of order"),
        (lambda trials: trials[1].update(batch=9), "number 1 of batch 9 is out of order"),
        (lambda trials: trials[1].update(batch="x"), "trials.batch='x'"),
        (lambda trials: trials[1].update(params=[]), "trials.params=[]"),
        (lambda trials: trials[1].update(more=1), "trials.more"),
        (lambda trials: trials[1].pop("number"), "there is no trials.number"),
        (lambda trials: trials.append(5), "trials=5"),
        (lambda trials: trials.insert(0, [[]]), "trials=[[]]"),
    ],
)
def test_trials_that_no_search_asked_for_are_one_line(change, said, tmp_path):
    found = search(tmp_path)
    finish(found, 4)
    stored = json.loads(found.file.read_bytes())
    change(stored["trials"])
    for sealed in (True, False):  # files of old searches have no checksum
        found.file.write_text(json.dumps(stored))
        with pytest.raises(UserError) as caught:
            found.trials()
        line = str(caught.value)
        assert "cannot be read" in line and "\n" not in line
        assert ("checksum" if sealed else said) in line
        stored.pop("sha256", None)


@pytest.mark.parametrize("content", ["[" * 100_000, "5", '{"search": 1, "trials": 5}', "[]", "\0"])
def test_a_file_that_holds_no_trials_is_one_line(content, tmp_path):
    found = search(tmp_path)
    finish(found, 4)
    found.file.write_text(content)
    with pytest.raises(UserError, match="cannot be read") as caught:
        found.trials()
    assert "\n" not in str(caught.value)


def test_budgets_of_hours_end_a_search(tmp_path):
    found = search(tmp_path, pruning="none", seeds=1)
    by_training = Budget(None, None, 10 * 6 / 3600, time.monotonic())  # a fake run takes 10 s
    driver = Driver([found], by_training)
    while tasks := driver.advance():
        for task in tasks:
            do(task)
    assert len(found.trials()) == 8  # whole batches of 4: 40 s is too little, 80 s is enough
    over = Budget(None, 1e-9, None, time.monotonic() - 1)
    assert Driver([search(tmp_path / "other")], over).advance() == []


def test_a_paused_run_goes_on_bit_for_bit(tmp_path):
    torch.set_num_threads(1)
    recipe = Recipe().set({"train.epochs": 20, "train.ema": 0.9})
    straight = run_one(Store(tmp_path / "a").run(recipe))
    run: Run = Store(tmp_path / "b").run(recipe)
    for rung in RUNGS:
        with pytest.raises(Paused):
            run_one(run, until=round(recipe.steps * rung))
        assert run.state() == "partial"
        assert run.metrics()[-1]["step"] == round(recipe.steps * rung)
    resumed = run_one(run)
    assert resumed.artifacts == straight.artifacts
    assert resumed.validation == straight.validation
    assert run_one(run, until=1).validation == straight.validation  # done is done


def test_asking_returns_no_more_than_the_batch_and_the_budget(tmp_path):
    found = search(tmp_path, batch=4)
    assert len(ask(found, [], 100)) == 4
    assert len(ask(found, [], 3)) == 3
