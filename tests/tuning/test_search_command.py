"""`python -m ns_bench.search` as a user calls it, and what a kill leaves."""

import contextlib
import json
import multiprocessing
import random
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from searches import ROOT, SPACE, STUDENT, STUDY, budget, search

from ns_bench.design.profile import load_profile
from ns_bench.execute.run_one import Paused, run_one
from ns_bench.runs.store import Store
from ns_bench.search import main
from ns_bench.study import main as study_main
from ns_bench.tuning.driver import Driver
from ns_bench.tuning.trials import Search, Settings
from ns_bench.tuning.tuned_arms import fingerprint, search_of

pytestmark = pytest.mark.slow


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
        (["teacher_size", "--tuning-seeds", "1001"], "--tuning-seeds 1001: expected at most 1000"),
        (["teacher_size", "--set", "data.validation=0"], "data.validation=0: a search tells"),
        (["teacher_size", "--json", "--dry-run"], "--json shows results: --dry-run has none"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_stored(words, said, tmp_path, capsys):
    assert main([*words, "--profile", "smoke", "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs" / "searches").exists()


TWO_ARMS = """
from ns_bench.design.definition import Arm, Design, Study, difference
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
        *(str(study), "--profile", "smoke"),
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
CONTEXT.set_forkserver_preload(["ns_bench.execute.run_one", "optuna", "pytest"])


def tiny(root: Path) -> Search:
    profile = load_profile("smoke", {"train.epochs": "10", "pseudo.threshold": "0"})
    design = STUDY.design(profile)
    given = Settings("soft_vs_hard", "smoke", fingerprint(design), SPACE, seeds=2, batch=3)
    found = search_of(given, STUDY, design, STUDENT, Store(root), profile)
    assert found is not None
    return found


def work(root: str, trials: int) -> None:
    """A search that trains in its own process; the pool of processes has tests of its own."""
    torch.set_num_threads(1)
    driver = Driver([tiny(Path(root))], budget(trials))
    while tasks := driver.advance():
        for task in tasks:
            with contextlib.suppress(Paused):
                run_one(task.run, until=task.until, checkpoint_seconds=0.05)


def search_in_a_process(root: Path, trials: int) -> BaseProcess:
    process = CONTEXT.Process(target=work, args=(str(root), trials), daemon=True)
    process.start()
    return process


def test_a_search_killed_ten_times_ends_as_one_that_was_not(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    search_in_a_process(straight, 7).join()
    rng = random.Random(0)
    for _ in range(10):
        process = search_in_a_process(killed, 7)
        process.join(rng.uniform(0.2, 0.9))
        assert process.is_alive(), "it ended before it could be killed: give it more to do"
        process.kill()
        process.join()
    last = search_in_a_process(killed, 7)
    last.join()
    assert last.exitcode == 0
    assert outcome(killed) == outcome(straight)
    assert len(tiny(killed).trials()) == 7
    states = [s.state for s in tiny(killed).standings(tiny(killed).trials())]
    assert set(states) == {"complete", "pruned"}
    assert Driver([tiny(killed)], budget(7)).advance() == []


def test_a_search_a_tuned_study_and_a_recipe_from_the_command_line(tmp_path, capsys):
    root = tmp_path / "runs"
    words = ["--trials", "2", "--tuning-seeds", "1", "--per-arm"]
    words += ["--storage", f"sqlite:///{tmp_path}/s.db", "--json"]
    assert main(command(root, *words)) == 0
    out, err = capsys.readouterr()
    searches = json.loads(out)["searches"]
    assert [each["arm"] for each in searches] == ["supervised", "student"]
    for each in searches:
        best = each["trials"][each["best"]]
        assert best["score"] == max(trial["score"] for trial in each["trials"])
        assert each["recipe"].keys() >= {"train.lr"} and each["seconds"] > 0
    pages = [Path(line.removeprefix("report: ")) for line in err.splitlines()]
    pages = [page for page in pages if page.name == "search.md"]
    assert len(pages) == 2
    for page in pages:
        text = page.read_text()
        assert "no test row and no reporting seed was read" in text
        assert "The arm's own recipe (trial 0" in text
        for name in ("search.html", "trials.csv", "best.toml", "history.svg", "slices.png"):
            assert (page.parent / name).exists()
    words = [str(tmp_path / "pair.py"), "--profile", "smoke", "--seeds", "1", "--runs", str(root)]
    sets = ["--set", "train.epochs=4", "--set", "pseudo.threshold=0"]
    assert study_main([*words, *sets, "--tuned"]) == 0
    report = root / "reports" / "pair-smoke-tuned" / "report.md"
    assert "What tuning did" in report.read_text()
    assert f"--tuned {pages[0].parent.parent.name.removeprefix('search-')}" in report.read_text()
    recipe = ["--recipe", str(pages[0].parent / "best.toml"), "--dry-run"]
    assert study_main([*words, *recipe]) == 0
    (tmp_path / "bad.toml").write_text("train.ler = 1")
    assert study_main([*words, "--recipe", str(tmp_path / "bad.toml"), "--dry-run"]) == 2
    assert "did you mean 'train.lr'" in capsys.readouterr().err


def test_a_dry_run_shows_spaces_and_cost_and_does_nothing(tmp_path, capsys):
    root = tmp_path / "runs"
    words = ["teacher_size", "--per-arm", "--trials", "8", "--runs", str(root), "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "small teacher: 12 parameters: train.lr" in said
    assert said.count("minutes on one worker") == 4
    assert not root.exists()


def test_if_every_trial_fails_it_says_so_and_exits_1(tmp_path, capsys):
    root = tmp_path / "runs"
    own = search(root).recipe.at_seed(1000)
    run = Store(root).run(own)
    run.path.mkdir(parents=True)
    run.fail("Diverged: not a finite number", "traceback")
    words = ["soft_vs_hard", "--profile", "smoke", "--runs", str(root), "--trials", "1"]
    assert main([*words, "--json"]) == 1
    out, err = capsys.readouterr()
    assert "no trial of 'supervised' is complete: Diverged" in err
    (found,) = json.loads(out)["searches"]
    assert (found["best"], found["recipe"], found["trials"][0]["state"]) == (None, {}, "failed")
    page = next(root.glob("reports/search-*/*/search.md"))
    assert "No trial is complete" in page.read_text()


def test_help_needs_neither_torch_nor_optuna():
    code = "import sys, ns_bench.search; print([m for m in ('torch','optuna') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
