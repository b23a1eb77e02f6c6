"""`export`: the tables and curves of a report for other tools."""

import sys

import pandas as pd
import pytest
from pages import analysis, filled, hostile

from ns_bench.report.__main__ import main
from ns_bench.report.export import _folders, parquet, tables, tensorboard


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("runs"), "teacher_size", "noise")


def test_parquet_holds_what_the_report_shows(store, tmp_path, capsys):
    words = ["export", "all", "--runs", str(store.root), "--out", str(tmp_path)]
    assert main([*words, "--format", "parquet"]) == 0
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
        tensorboard(found, tmp_path / folder)
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
    if tensorboard(found, tmp_path / "out") is not None:
        names = {p.parent.parent.name for p in (tmp_path / "out").rglob("events*")}
        assert len(names) == 2 and not any(set(name) & set("<>/&|$") for name in names)


def test_two_arms_never_share_a_folder():
    names = list(_folders(["a:b", "a/b", "a_b", "..", "", "a_b-2"]).values())
    assert len(set(names)) == 6 and names[0] == "a_b"
    assert not {"", ".", ".."} & set(names)


def test_tensorboard_reads_the_curves(store, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    one = analysis(store, "teacher_size")
    assert tensorboard([one], tmp_path) == 32
    place = tmp_path / "teacher_size-digits/small teacher/seed-3"
    events = EventAccumulator(str(place))
    events.Reload()
    assert {"validation/top1", "validation/loss", "loss", "lr"} <= set(events.Tags()["scalars"])
    curve = one.curves[(one.curves["arm"] == "small teacher") & (one.curves["seed"] == 3)]
    read = events.Scalars("validation/top1")
    assert [e.step for e in read] == list(curve["step"])
    assert [e.value for e in read] == pytest.approx(list(curve["validation_top1"]), rel=1e-6)
    assert [e.wall_time for e in read] == pytest.approx(list(curve["seconds"]))


def test_without_tensorboard_it_says_so_in_a_line(store, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    words = ["export", "teacher_size", "--runs", str(store.root), "--out", str(tmp_path)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.count("parquet:") == 3 and err.count("\n") == 1 and "pip install tensorboard" in err
    assert main([*words, "--format", "tensorboard"]) == 2


def test_bad_input_is_refused(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["export", "all", "--runs", str(tmp_path / "nowhere"), *out]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["export", "all", "--runs", str(tmp_path), *out]) == 2
    assert "no results" in capsys.readouterr().err
