"""`export`: the tables of a report for other tools."""

import pandas as pd
import pytest
from pages import analysis, filled, hostile

from ns_bench.report.__main__ import main
from ns_bench.report.export import parquet, tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("runs"), "teacher_size", "noise")


def test_parquet_holds_what_the_report_shows(store, tmp_path, capsys):
    words = ["export", "all", "--runs", str(store.root), "--out", str(tmp_path)]
    assert main(words) == 0
    assert f"parquet: {tmp_path / 'runs.parquet'}" in capsys.readouterr().out
    runs = pd.read_parquet(tmp_path / "runs.parquet")
    one = analysis(store, "teacher_size")
    mine = runs[(runs["study"] == "teacher_size") & (runs["arm"] == "small teacher")]
    theirs = one.runs[one.runs["arm"] == "small teacher"]
    assert list(mine["test_top1"]) == list(theirs["test_top1"]) and set(mine["profile"]) == {
        "digits"
    }
    assert set(runs["study"]) >= {"noise", "teacher_size"}  # and those that share runs
    curves = pd.read_parquet(tmp_path / "curves.parquet")
    assert (
        len(curves) == 10 * runs["state"].isin(["done", "unmeasured"]).sum()
        and curves["validation_top1"].notna().all()
    )
    found = pd.read_parquet(tmp_path / "findings.parquet")
    assert set(found[found["study"] == "teacher_size"]["verdict"]) <= {"reproduced", "equivalent"}


def test_written_twice_gives_the_same_bytes(store, tmp_path):
    found = [analysis(store, "teacher_size")]
    for folder in ("a", "b"):
        parquet(found, tmp_path / folder)
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        files = [path for path in folder.rglob("*") if path.is_file()]
        contents.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert contents[0] == contents[1] and len(contents[0]) >= 3


def test_missing_runs_and_hostile_names_are_exported(store, tmp_path):
    found = [analysis(filled(tmp_path, hostile(), seeds=3), hostile())]
    runs = tables(found)["runs"]
    assert list(runs["state"]).count("missing") == 10 and "<script>" in runs["arm"][0]
    parquet(found, tmp_path / "out")


def test_bad_input_is_refused(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["export", "all", "--runs", str(tmp_path / "nowhere"), *out]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["export", "all", "--runs", str(tmp_path), *out]) == 2
    assert "no results" in capsys.readouterr().err
