"""`export --track`: finished runs in MLflow and trackio, which a test environment need not have.

What goes to a tracker is seen by a fake one; the real ones are written to where they are installed.
"""

from pathlib import Path

import pytest
from pages import filled

from ns_bench.report import track
from ns_bench.report.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command, of a store with 8 runs of arms, one of which is not done."""
    store = filled(tmp_path / "runs", "teacher_size", profile="smoke", seeds=2)
    (next(store.root.glob("*gen1*-s1-*")) / "result.json").unlink()
    study = ["export", "teacher_size", "--profile", "smoke", "--runs", str(store.root)]
    return [*study, "--track"]


def test_a_tracker_is_given_recipe_scores_and_looks(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, list[track.Tracked]] = {}

    def fake(experiment: str, runs: list[track.Tracked]) -> int:
        given[experiment] = runs
        return len(runs)

    monkeypatch.setitem(track.TRACKERS, "mlflow", fake)
    assert main([*words, "mlflow"]) == 0
    assert capsys.readouterr().out == "mlflow: teacher_size-smoke: 7 runs added\n"
    (runs,) = given.values()
    first = runs[0]
    assert first.name.startswith("supervised · digits-micro-b0-sup-s0-")
    assert first.recipe["arm"] == "supervised" and first.recipe["train.lr"] > 0
    assert first.scores["test_top1"] == first.looks[-1][1]["validation_top1"] and first.looks[0][0]
    assert len(first.looks) == 10 and "loss" in first.looks[0][1]


def test_bad_input_is_refused_in_a_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> int:
        raise ModuleNotFoundError("No module named 'mlflow'")

    def gone(*_: object) -> int:
        raise RuntimeError("no\nserver")

    monkeypatch.setattr(track, "TRACKERS", {"mlflow": missing, "trackio": gone})
    refused = {
        "pip install 'ns_bench[mlflow]'": [*words, "mlflow"],
        "--track trackio: no server": [*words, "trackio"],
        "--out and --timm have no place beside it": [*words, "mlflow", "--out", "x"],
        "export needs --out DIR": words[:-1],
    }
    for why, asked in refused.items():
        assert main(asked) == 2
        said = capsys.readouterr().err
        assert why in said and said.count("\n") == 1


def test_mlflow_has_each_run_once(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert main([*words, "mlflow"]) == main([*words, "mlflow"]) == 0
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("teacher_size-smoke").experiment_id
    found = client.search_runs([place], order_by=["attributes.run_name"])
    assert len(found) == 7 and {run.info.status for run in found} == {"FINISHED"}
    supervised = found[-1]
    assert supervised.data.params["arm"] == "supervised" and len(supervised.data.params) > 50
    history = client.get_metric_history(supervised.info.run_id, "validation_top1")
    assert len(history) == 10 and history[-1].value == supervised.data.metrics["test_top1"]


def test_trackio_has_each_run_once(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    trackio = pytest.importorskip("trackio")
    assert main([*words, "trackio"]) == main([*words, "trackio"]) == 0
    found = [*trackio.Api().runs("teacher_size-smoke")]
    assert len(found) == len({run.name for run in found}) == 7
    assert {"supervised", "small teacher"} <= {run.config["arm"] for run in found}
