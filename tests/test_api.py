"""What a notebook calls: tables of a store's runs, claims with their verdicts, a command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import fake_runs

import ns_bench
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe
from ns_bench.runs.store import Store

ROOT = Path(__file__).parents[1]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three finished runs, a teacher and two students."""
    teacher = Recipe.of({"train.lr": 0.02})
    recipes = [Recipe.of({"train.lr": rate}, teacher) for rate in (0.02, 0.05)]
    store = Store(tmp_path / "runs")
    fake_runs(store, recipes, lambda recipe: 1000 * recipe.train.lr)
    return store.root


def test_runs_have_scores_and_the_fields_of_their_recipes(store: Path) -> None:
    runs = ns_bench.read_runs(store).set_index("run")
    assert len(runs) == 3 and set(runs["state"]) == {"done"}
    students = runs[runs["generation"] == 1]
    assert students["test_top1"].tolist() == (1000 * students["train.lr"]).tolist()
    assert set(students["teacher"]) == set(runs.index[runs["generation"] == 0])
    assert {"seed", "model", "data.name", "pseudo.threshold"} <= set(runs)


def test_curves_are_a_row_a_look(store: Path) -> None:
    curves = ns_bench.read_curves(store)
    assert len(curves) == 30 and set(curves["run"]) == set(ns_bench.read_runs(store)["run"])


def test_a_damaged_run_is_said_and_left_out(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ns_bench.read_runs(store)["run"][0]
    (store / first / "result.json").write_text("{")
    assert len(ns_bench.read_runs(store)) == 2
    assert f"ns_bench: {first} is left out: result.json" in capsys.readouterr().err


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    for read in (ns_bench.read_runs, ns_bench.read_curves):
        with pytest.raises(UserError, match="there is no store of runs"):
            read(tmp_path)


def test_findings_are_the_published_ones() -> None:
    found = ns_bench.read_findings(
        "teacher_size", ["digits"], folder=ROOT / "reports/published", published=True
    )
    assert len(found) == 4 and "reproduced" in set(found["verdict"])


def test_a_study_is_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--profile", "smoke", "--dry-run", "--runs", str(tmp_path / "runs")]
    assert ns_bench.run_study("teacher_size", *options) == 0
    assert "to do: " in capsys.readouterr().out
    assert ns_bench.run_study("teacher_sise") == 2
    assert ns_bench.run_study("teacher_size", "--bogus") == 2
    (tmp_path / "file").touch()
    assert ns_bench.run_study("teacher_size", *options, "--out", str(tmp_path / "file")) == 2
    assert "it is there, and no folder" in capsys.readouterr().err
    large = ["--profile", "imagenet", "--set", "pseudo.views=2", "--dry-run"]
    assert ns_bench.run_study("student_size", *large) == 2
    assert "is too large to be labeled for each student" in capsys.readouterr().err


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, ns_bench; print({'torch', 'timm', 'pandas', 'numpy'} & sys.modules.keys())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_the_page_shows_these_functions() -> None:
    page = (ROOT / "docs/how-to/python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"ns_bench\.(\w+)\(", page)) == set(ns_bench.__all__)
