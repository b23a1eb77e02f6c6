"""A search: trials from the store, two ways to stop early, nothing lost to a kill."""

import contextlib
import json
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from fakes import fake_curve, fake_result, fake_runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ns_bench.definition import load_profile, load_study
from ns_bench.errors import UserError
from ns_bench.execute.run_one import Paused, run_one
from ns_bench.plan import Task
from ns_bench.recipe import Recipe
from ns_bench.search import Budget, Driver, main
from ns_bench.selftrain.train import EVALUATIONS
from ns_bench.store import CHECKPOINT, Run, Store
from ns_bench.tuning.arms import fingerprint, search_of, tuned
from ns_bench.tuning.mirror import Mirror
from ns_bench.tuning.sampler import NUMBER, SAMPLERS, as_study, ask, surely_worse
from ns_bench.tuning.space import load_space
from ns_bench.tuning.trials import RUNGS, Search, Settings, Standing, best_of, front_of

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
    found = search_of(replace(given, **changes), DESIGN, arm, Store(root), PROFILE)
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
    while tasks := driver.wanted():
        for task in tasks:
            do(task, surface)
    return found.standings(found.trials())


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
    assert all(s.recipe.seed == 0 for s in rest)


def test_runs_are_at_tuning_seeds_and_the_score_is_of_validation_rows(tmp_path):
    found = search(tmp_path)
    standings = finish(found, 4)
    results = [json.loads(p.read_bytes()) for p in tmp_path.glob("*/result.json")]
    assert {result["recipe"]["seed"] for result in results} == {1000, 1001, 1002, 1003}
    best = best_of(standings)
    scores = [score(best.recipe.at_seed(1000 + i)) for i in range(4)]
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
    first = driver.wanted()
    assert len(first) == 2 * 5  # nothing before it to be worse than
    for task in first:
        do(task)
    assert {task.run.recipe.seed for task in driver.wanted()} == {1000, 1001, 1002}
    assert all(task.until is None for task in driver.wanted())


def test_without_pruning_every_trial_runs_at_every_seed(tmp_path):
    standings = finish(search(tmp_path, pruning="none"), 6)
    assert [len(s.values) for s in standings] == [4] * 6


def test_a_trial_equal_to_a_finished_run_costs_nothing(tmp_path):
    found = search(tmp_path)
    own = [found.recipe.at_seed(1000 + i) for i in range(4)]
    fake_runs(found.store, own, top1=score)
    asked = [task.run.recipe for task in Driver([found], budget(4)).wanted()]
    assert asked
    assert not {recipe.id for recipe in asked} & {recipe.id for recipe in own}


def test_a_teacher_that_is_wanted_is_not_stopped_at_a_rung(tmp_path):
    store = tmp_path / "runs"
    pair = [search(store), search(store, STUDENT)]
    tasks = Driver(pair, budget(4)).wanted()
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
    while tasks := Driver([broken], budget(16)).wanted():
        for task in rng.sample(tasks, rng.randint(1, len(tasks))):
            do(task)
    assert [(s.trial, s.state, s.values) for s in broken.standings(broken.trials())] == expected


def test_more_trials_later_go_on_from_there(tmp_path):
    found = search(tmp_path)
    before = finish(found, 8)
    after = finish(found, 16)
    assert [s.trial for s in after[:8]] == [s.trial for s in before]
    assert len(after) == 16


@pytest.mark.parametrize("sampler", SAMPLERS)
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
    early = [s.score for s in standings[1:13]]
    late = [s.score for s in standings[-12:]]
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
    for task in Driver([found], budget(4)).wanted():
        do(task)
    with pytest.raises(UserError, match="this Optuna tries other values"):
        Driver([found], budget(8)).wanted()


def test_a_failing_trial_is_recorded_and_the_search_goes_on(tmp_path):
    found = search(tmp_path)

    def work(task: Task) -> None:
        if task.run.recipe.train.lr > 0.03:
            task.run.path.mkdir(parents=True, exist_ok=True)
            task.run.fail("Diverged: not a finite number", "traceback")
        else:
            do(task)

    driver = Driver([found], budget(16))
    while tasks := driver.wanted():
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


def test_optuna_sees_every_trial_as_it_ended(tmp_path):
    found = search(tmp_path)
    standings = finish(found, 12)
    study = as_study(found, standings)
    names = {"complete": "COMPLETE", "pruned": "PRUNED"}
    assert [t.state.name for t in study.trials] == [names[s.state] for s in standings]
    assert study.best_value == best_of(standings).score
    for trial, standing in zip(study.trials, standings, strict=True):
        if standing.state == "pruned":
            assert trial.intermediate_values[trial.last_step] == standing.score


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
    stored["search"]["seed"] = 7
    found.file.write_text(json.dumps(stored))
    before = found.file.read_bytes()
    with pytest.raises(UserError, match="belongs to another study or space"):
        found.trials()
    found.file.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        found.trials()
    found.file.write_bytes(before)


def test_budgets_of_hours_end_a_search(tmp_path):
    found = search(tmp_path, pruning="none", seeds=1)
    by_training = Budget(None, None, 10 * 6 / 3600, time.monotonic())  # a fake run takes 10 s
    driver = Driver([found], by_training)
    while tasks := driver.wanted():
        for task in tasks:
            do(task)
    assert len(found.trials()) == 8  # whole batches of 4: 40 s is too little, 80 s is enough
    over = Budget(None, 1e-9, None, time.monotonic() - 1)
    assert Driver([search(tmp_path / "other")], over).wanted() == []


# tuned studies


def two_searches(root: Path, trials: tuple[int, int] = (8, 8)) -> tuple[Search, Search]:
    pair = (search(root), search(root, STUDENT))
    for found, count in zip(pair, trials, strict=True):
        finish(found, count)
    return pair


def arms() -> list[str]:
    return [arm.name for arm in DESIGN.arms]


def test_a_tuned_design_has_each_arms_best_recipe_and_its_teachers_as_they_were(tmp_path):
    for arm in arms():
        finish(search(tmp_path, arm), 8)
    found = tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    for arm, before in zip(found.design.arms, DESIGN.arms, strict=True):
        mine = search(tmp_path, arm.name)
        best = best_of(mine.standings(mine.trials()))
        assert arm.recipe == best.recipe
        assert arm.recipe.teacher == before.recipe.teacher
        assert found.choices[arm.name].trials == 8
    assert found.before is DESIGN


def test_arms_without_the_same_chance_are_refused(tmp_path):
    with pytest.raises(UserError, match="has no search of soft_vs_hard"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    for i, arm in enumerate(arms()[:-1]):
        finish(search(tmp_path, arm), 8 if i else 4)
    with pytest.raises(UserError, match="has nothing of"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    finish(search(tmp_path, arms()[-1]), 8)
    with pytest.raises(UserError, match="had not the same chance"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    driver = Driver([search(tmp_path, arms()[0])], budget(8))
    assert driver.wanted()
    with pytest.raises(UserError, match="is not over"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path))
    with pytest.raises(UserError, match="did you mean"):
        tuned(STUDY, PROFILE, DESIGN, Store(tmp_path), search(tmp_path).settings.id[:-1])


# the mirror


def trials_in(url: str, found: Search) -> list:
    import optuna

    name = f"{found.settings.id}/{found.slug}"
    return optuna.load_study(study_name=name, storage=url).trials


def test_a_mirror_shows_each_ended_trial_once(tmp_path):
    found = search(tmp_path / "runs")
    url = f"sqlite:///{tmp_path}/search.db"
    for trials in (4, 12):
        driver = Driver([found], budget(trials), Mirror(url, [found]).show)
        while tasks := driver.wanted():
            for task in tasks:
                do(task)
        shown = trials_in(url, found)
        assert sorted(t.user_attrs[NUMBER] for t in shown) == list(range(trials))
        assert all(t.state.is_finished() for t in shown)
    Mirror(url, [found]).show(found, found.standings(found.trials()))
    assert len(trials_in(url, found)) == 12


def test_a_storage_of_another_study_or_space_is_refused(tmp_path):
    import optuna

    found = search(tmp_path / "runs")
    url = f"sqlite:///{tmp_path}/search.db"
    other = optuna.create_study(
        study_name=f"{found.settings.id}/{found.slug}", storage=url, direction="maximize"
    )
    other.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(UserError, match="belongs to another study or space"):
        Mirror(url, [found])
    assert len(trials_in(url, found)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/to/be/found/search.db",
        "postgresql+psycopg://me:secret@127.0.0.1:1/none",
        "postgresqll://x",
        "what is this",
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_line_without_the_password(url, tmp_path, capsys):
    words = ["teacher_size", "--profile", "smoke", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--storage", url]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("ns_bench: --storage ")
    assert "secret" not in said
    assert not list((tmp_path / "runs").glob("searches/*/*.json"))


# the command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["teacher_sise"], "did you mean 'teacher_size'"),
        (["all"], "a search is of one study"),
        (["teacher_size", "--arm", "supervized"], "did you mean 'supervised'"),
        (["teacher_size", "--sampler", "cmaes", "--objectives", "accuracy,cost"], "one objective"),
        (["teacher_size", "--sampler", "grid"], "train.lr needs a step or choices"),
        (["teacher_size", "--space", "nowhere.toml"], "cannot be read"),
        (["teacher_size", "--set", "train.ler=1"], "did you mean 'train.lr'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_stored(words, said, tmp_path, capsys):
    assert main([*words, "--profile", "smoke", "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs" / "searches").exists()


TWO_ARMS = """
from ns_bench.definition import Arm, Design, Study, difference
def design(p):
    supervised = Arm('supervised', p.supervised('small'))
    student = Arm('student', p.student('small', supervised.recipe))
    claim = difference('It helps.', 'student', 'supervised', 0.5)
    return Design([supervised, student], 'supervised', [claim])
STUDY = Study('pair', 'Does it help?', 'a teacher', design, 'none')
"""

TINY = """
train.lr = { low = 0.005, high = 0.08, log = true }
"noise.*.dropout" = { low = 0.0, high = 0.5, step = 0.1 }
"""


def command(root: Path, *words: str) -> list[str]:
    space, study = root.parent / "space.toml", root.parent / "pair.py"
    space.write_text(TINY)
    study.write_text(TWO_ARMS)
    return [
        *(sys.executable, "-m", "ns_bench.search", str(study), "--profile", "smoke"),
        *("--space", str(space), "--runs", str(root), "--set", "train.epochs=4"),
        *("--set", "pseudo.threshold=0", "--tuning-seeds", "2", "--batch", "4", *words),
    ]


def outcome(root: Path) -> dict[str, bytes]:
    """What was tried and what came of it."""
    trials = {str(p.relative_to(root)): p.read_bytes() for p in root.glob("searches/*/*.json")}
    scores = {
        path.parent.name: json.dumps(json.loads(path.read_bytes())["validation"]).encode()
        for path in root.glob("*/result.json")
    }
    return {**trials, **scores}


# Processes are forked from a server that has torch imported, so that each starts in no time.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ns_bench.execute.run_one", "ns_bench.search", "optuna", "pytest"])


def tiny(root: Path) -> Search:
    profile = load_profile("smoke", {"train.epochs": "8", "pseudo.threshold": "0"})
    design = STUDY.design(profile)
    given = Settings("soft_vs_hard", "smoke", fingerprint(design), SPACE, seeds=2, batch=4)
    found = search_of(given, design, STUDENT, Store(root), profile)
    assert found is not None
    return found


def work(root: str, trials: int) -> None:
    """A search that trains in its own process; the pool of processes has tests of its own."""
    torch.set_num_threads(1)
    driver = Driver([tiny(Path(root))], budget(trials))
    while tasks := driver.wanted():
        for task in tasks:
            with contextlib.suppress(Paused):
                run_one(task.run, until=task.until, checkpoint_seconds=0.0)


def search_in_a_process(root: Path, trials: int) -> BaseProcess:
    process = CONTEXT.Process(target=work, args=(str(root), trials), daemon=True)
    process.start()
    return process


def test_a_search_killed_ten_times_ends_as_one_that_was_not(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    search_in_a_process(straight, 9).join()
    rng = random.Random(0)
    for _ in range(10):
        process = search_in_a_process(killed, 9)
        process.join(rng.uniform(0.3, 1.5))
        assert process.is_alive(), "it ended before it could be killed: give it more to do"
        process.kill()
        process.join()
    last = search_in_a_process(killed, 9)
    last.join()
    assert last.exitcode == 0
    assert outcome(killed) == outcome(straight)
    assert len(tiny(killed).trials()) == 9
    states = [s.state for s in tiny(killed).standings(tiny(killed).trials())]
    assert set(states) == {"complete", "pruned"}
    assert Driver([tiny(killed)], budget(9)).wanted() == []


def test_a_search_a_tuned_study_and_a_recipe_from_the_command_line(tmp_path):
    root = tmp_path / "runs"
    words = ["--trials", "2", "--tuning-seeds", "1", "--per-arm"]
    words += ["--storage", f"sqlite:///{tmp_path}/s.db"]
    found = subprocess.run(command(root, *words), cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    pages = [Path(line.removeprefix("report: ")) for line in found.stdout.splitlines()]
    pages = [page for page in pages if page.name == "search.md"]
    assert len(pages) == 2
    for page in pages:
        text = page.read_text()
        assert "no test row and no reporting seed was read" in text
        assert "The arm's own recipe (trial 0" in text
        for name in ("search.html", "trials.csv", "best.toml", "history.svg", "slices.png"):
            assert (page.parent / name).exists()
    study = [sys.executable, "-m", "ns_bench.study", str(tmp_path / "pair.py")]
    study += ["--profile", "smoke"]
    study += ["--seeds", "1", "--runs", str(root)]
    sets = ["--set", "train.epochs=4", "--set", "pseudo.threshold=0"]
    done = subprocess.run([*study, *sets, "--tuned"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = root / "reports" / "pair-smoke-tuned" / "report.md"
    assert "What tuning did" in report.read_text()
    assert f"--tuned {pages[0].parent.parent.name.removeprefix('search-')}" in report.read_text()
    recipe = ["--recipe", str(pages[0].parent / "best.toml"), "--dry-run"]
    dry = subprocess.run([*study, *recipe], cwd=ROOT, capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr
    (tmp_path / "bad.toml").write_text("train.ler = 1")
    recipe = ["--recipe", str(tmp_path / "bad.toml"), "--dry-run"]
    bad = subprocess.run([*study, *recipe], cwd=ROOT, capture_output=True, text=True)
    assert bad.returncode == 2
    assert "did you mean 'train.lr'" in bad.stderr


def test_if_every_trial_fails_it_says_so_and_exits_1(tmp_path, capsys):
    root = tmp_path / "runs"
    own = search(root).recipe.at_seed(1000)
    run = Store(root).run(own)
    run.path.mkdir(parents=True)
    run.fail("Diverged: not a finite number", "traceback")
    words = ["soft_vs_hard", "--profile", "smoke", "--runs", str(root), "--trials", "1"]
    assert main(words) == 1
    assert "no trial of 'supervised' is complete: Diverged" in capsys.readouterr().err
    page = next(root.glob("reports/search-*/*/search.md"))
    assert "No trial is complete" in page.read_text()


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


def test_help_needs_neither_torch_nor_optuna():
    code = "import sys, ns_bench.search; print([m for m in ('torch','optuna') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_asking_returns_no_more_than_the_batch_and_the_budget(tmp_path):
    found = search(tmp_path, batch=4)
    assert len(ask(found, [], 100)) == 4
    assert len(ask(found, [], 3)) == 3
