"""--json: results for programs, alone on stdout."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from builders import present
from pages import analysis, filled, hostile

from ns_bench.report import results
from ns_bench.report.__main__ import main as report
from ns_bench.runs.store import Store
from ns_bench.study import main as study

pytestmark = pytest.mark.slow


def keys(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled(tmp_path_factory.mktemp("made") / "runs", "teacher_size")


def strict(text: str) -> Any:
    """Read JSON as others do, who know no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_stdout_of_a_study_is_results_alone(store: Store, capsys: pytest.CaptureFixture) -> None:
    words = ["teacher_size", "--runs", str(store.root), "--json"]
    assert study(words) == 0
    out, err = capsys.readouterr()
    assert "REPRODUCED" in err and "report: " in err
    document = strict(out)
    assert (document["schema"], document["command"]) == (results.SCHEMA, "study")
    (found,) = document["studies"]
    assert list(document) == keys(results.Document)
    assert list(found) == keys(results.Study)
    for name, kind in (("claims", results.Claim), ("arms", results.Arm), ("runs", results.Run)):
        assert [list(each) for each in found[name]] == [keys(kind)] * len(found[name])
    ours = analysis(store, "teacher_size")
    assert (found["seeds"], found["looks"], found["spending"]) == (8, [8], [1.0])
    for each, result in zip(found["claims"], ours.claims, strict=True):
        assert each["claim"] == result.claim.text and each["verdict"] == result.verdict.word
        assert each["effect"]["mean"] == pytest.approx(present(result.contrast).mean)
        assert each["judged_at"] == each["n"] == 8
        assert each["p_adjusted"] == pytest.approx(result.p_holm)
        assert each["chance"] is None and math.isnan(result.chance)
    assert {run["id"] for run in found["runs"]} == set(ours.runs["run"])
    assert {run["state"] for run in found["runs"]} == {"done"}
    trained = {run["id"]: run["seconds"] for run in found["runs"]}
    assert found["seconds"] == pytest.approx(sum(trained.values()))


def test_report_says_the_same_of_the_store_and_of_its_tables(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["teacher_size", "--json", "--profile", "digits"]
    assert report([*words, "--runs", str(store.root), "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("report: ")
    stored = strict(out)
    assert stored["command"] == "report" and len(stored["studies"]) == 1
    assert report([*words, "--from", str(tmp_path)]) == 0
    assert strict(capsys.readouterr().out) == stored


def test_a_failed_run_is_there_with_its_reason_and_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = filled(tmp_path / "runs", hostile())
    lost = store.run(hostile().design(analysis(store, hostile()).profile).arms[1].recipe.at_seed(3))
    lost.discard()
    lost.fail("Diverged: <b>", "Traceback ...")
    (found,) = strict(results.of_studies("study", [analysis(store, hostile())]))["studies"]
    (failed,) = [run for run in found["runs"] if run["state"] == "failed"]
    assert (failed["id"], failed["reason"], failed["top1"]) == (lost.id, "Diverged: <b>", None)
    assert found["claims"][0]["judged_at"] is None and found["claims"][1]["effect"] is None
    root = filled(tmp_path / "other", "teacher_size").root
    for path in root.glob("*-s5-*/result.json"):
        path.unlink()
    assert study(["teacher_size", "--runs", str(root), "--json", "--read-only"]) == 0
    missing = strict(capsys.readouterr().out)["studies"][0]["runs"]
    assert sum(run["state"] == "missing" for run in missing) > 0


def test_nothing_is_done_yet(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    filled(tmp_path / "runs")
    assert study(["teacher_size", "--runs", str(tmp_path / "runs"), "--json", "--read-only"]) == 0
    (found,) = strict(capsys.readouterr().out)["studies"]
    assert {run["state"] for run in found["runs"]} == {"missing"}
    assert {claim["effect"] for claim in found["claims"]} == {None}


@pytest.mark.parametrize(
    "words",
    [["--dry-run"], ["--pilot", "2"], ["--status"], ["--cancel"], ["--logs", "x"], ["--list"]],
)
def test_what_has_no_results_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert study(["teacher_size", "--json", "--runs", str(tmp_path / "runs"), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == f"ns_bench: --json shows results: {words[0]} has none\n"
    assert report(["teacher_size", "--json", "--live", "--runs", str(tmp_path)]) == 2
    assert "--live has no place beside it" in capsys.readouterr().err
