"""A finished run's network, used elsewhere: by `load`, or by plain timm from an exported folder."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from builders import in_memory
from PIL import Image

from ns_bench.data.split import class_names
from ns_bench.errors import UserError
from ns_bench.execute import timm_folder
from ns_bench.execute.run_one import run_one
from ns_bench.execute.trained import dataset_of, load, network_of
from ns_bench.recipe import Data, Recipe
from ns_bench.report.__main__ import main
from ns_bench.runs.store import Run, Store
from ns_bench.selftrain.evaluate import predict

pytestmark = pytest.mark.slow

torch.set_num_threads(1)

FIELDS: dict[str, Any] = {
    **{f"data.{part}": 10 for part in ("labeled", "validation", "unlabeled")},
    "data.test": 20,
    "train.epochs": 2,
    "train.batch_size": 10,
    "train.resolution": 32,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store") / "runs")


@pytest.fixture(scope="module", params=["test_resnet", "test_vit", "micro-b0"])
def run(request: pytest.FixtureRequest, store: Store) -> Run:
    run = store.run(Recipe.of({**FIELDS, "model": request.param}))
    run_one(run)
    return run


def pictures(run: Run) -> list[Image.Image]:
    """Return the test images, as files would have them."""
    return [Image.fromarray(image[0].numpy()) for image in in_memory(dataset_of(run).test.images)]


def expected(run: Run) -> torch.Tensor:
    data = dataset_of(run)
    return predict(network_of(run, data, "cpu"), data.test.images)


def test_load_gives_what_predicts_as_the_run_did(run: Run, store: Store) -> None:
    trained = load(run.path)
    batch = torch.stack([trained.transform(image) for image in pictures(run)])
    with torch.inference_mode():
        torch.testing.assert_close(trained.network(batch), expected(run), rtol=1e-3, atol=1e-3)
    assert trained.classes == list("0123456789")
    for name in (run.id, run.id[-12:]):
        assert load(name, store.root).recipe == run.recipe
    with pytest.raises(UserError, match="nor such a run in"):
        load("0123456789ab", store.root)
    assert not any(name.startswith("net.") for name in trained.network.state_dict())


def test_plain_timm_predicts_by_the_five_lines_of_the_card(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "exported"
    code = main(["export", str(run.path), "--timm", "--out", str(folder)])
    assert (code == 2) == (run.recipe.model == "micro-b0")
    if code:
        assert not folder.exists()
        return
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    assert len(lines.splitlines()) == 5 and "ns_bench" not in lines
    for image, logits in zip(pictures(run)[:2], expected(run), strict=False):
        image.save(tmp_path / "image.png")
        printed: list[torch.Tensor] = []
        monkeypatch.chdir(tmp_path)
        with torch.inference_mode():
            exec(lines.replace("PATH", str(folder)), {"print": printed.append})
        torch.testing.assert_close(printed[0][0], logits.softmax(0), rtol=1e-3, atol=1e-3)
    with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["classes"]) == list("0123456789")
        assert json.loads(file.metadata()["input_size"]) == [1, 32, 32]
    with pytest.raises(UserError, match="expected a new folder"):
        timm_folder.write(load(run.path), folder)


def test_what_is_no_finished_run_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        load(tmp_path)
    planned = store.run(Recipe.of({**FIELDS, "train.lr": 0.5}))
    planned.path.mkdir()
    (planned.path / "recipe.json").write_text(json.dumps(planned.recipe.to_dict()))
    with pytest.raises(UserError, match="the run is not done"):
        load(planned.path)


def test_classes_have_their_names() -> None:
    assert class_names(Data(name="glyphs", unlabeled=10))[:3] == ["0", "1", "2"]
