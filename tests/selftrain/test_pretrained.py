"""First weights that were trained before: from a file or timm's, part of the id, in jobs too."""

import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ns_bench.data.split import load
from ns_bench.errors import UserError
from ns_bench.execute import run_one as executed
from ns_bench.recipe import Recipe, pretrained
from ns_bench.runs.store import MODEL, Store
from ns_bench.selftrain.methods import network
from ns_bench.selftrain.models import build
from ns_bench.study import main

torch.set_num_threads(1)

NAME = "test_resnet"
FIELDS: dict[str, Any] = {
    **{f"data.{part}": 10 for part in ("labeled", "validation", "test")},
    "data.unlabeled": 30,
    "pseudo.threshold": 0.0,
    "model": NAME,
    "train.epochs": 1,
    "train.batch_size": 10,
    "train.resolution": 32,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of a colour network with timm's number of classes."""
    path = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    safetensors.torch.save_file(build(NAME, 3, 1000, seed=5, generation=0).net.state_dict(), path)
    return path


def state(recipe: Recipe) -> dict[str, Tensor]:
    """Return the weights that a recipe's network begins with, by timm's names."""
    net: Any = network(recipe, load(recipe.data, 0, resolution=32))
    return dict(net.net.state_dict())


def test_a_network_begins_with_them_but_for_its_classifier(weights: Path) -> None:
    expected, drawn = safetensors.torch.load_file(weights), state(Recipe.of(FIELDS))
    found = state(Recipe.of({**FIELDS, "pretrained": str(weights)}))
    for name, value in found.items():
        if name.startswith("fc."):
            assert torch.equal(value, drawn[name]) and len(value) == 10
        elif name == "conv1.0.weight":  # digits are grey: the sum over the colours
            torch.testing.assert_close(value, expected[name].sum(1, keepdim=True))
        else:
            assert torch.equal(value, expected[name]), name


def test_the_id_is_of_the_content_wherever_the_file_is(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / weights.name
    copy.write_bytes(weights.read_bytes())
    plain, one, other = (
        Recipe.of({**FIELDS, "pretrained": path}) for path in ("", str(weights), str(copy))
    )
    assert one.id == other.id != plain.id
    assert Recipe.from_dict(one.to_dict()) == one
    tensors = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({n: v + 1 for n, v in tensors.items()}, copy)
    assert Recipe.of({**FIELDS, "pretrained": str(copy)}).id not in (one.id, plain.id)
    student = Recipe.of({**FIELDS, "train.start": "teacher", "pretrained": str(copy)}, one)
    assert student.pretrained == ""  # its first weights are its teacher's


@pytest.mark.slow
def test_a_run_finds_them_in_its_store_and_its_own_weights_are_first_weights(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.of({**FIELDS, "pretrained": str(weights)})
    store = Store(tmp_path / "runs")
    pretrained.keep([recipe.canonical()], store.root)
    monkeypatch.setattr(pretrained, "_files", {})  # as in a process that never saw the file
    run = store.run(recipe)
    executed.run_one(run)
    again = Recipe.of({**FIELDS, "pretrained": str(run.path / MODEL)})
    ours, published = state(again), safetensors.torch.load(run.artifact(MODEL).read_bytes())
    assert torch.equal(ours["layer1.0.conv1.weight"], published["net.layer1.0.conv1.weight"])


def test_what_cannot_be_had_is_refused_in_one_line(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(match: str, **fields: Any) -> None:
        with pytest.raises(UserError, match=match) as caught:
            recipe = Recipe.of({**FIELDS, **fields})
            build(recipe.model, 1, 10, 0, 0, side=32, pretrained=str(recipe.pretrained))
        assert "\n" not in str(caught.value)

    own, other = str(weights), tmp_path / "weights.pth"
    other.touch()
    refused("^pretrained=gone: expected true or a file", pretrained="gone")
    refused("format of safetensors", pretrained=str(other))
    refused("not weights of test_vit: there is no cls_token", pretrained=own, model="test_vit")
    refused("^pretrained=true: there are no such weights", pretrained=True, model="micro-b0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused(
        r"^pretrained=true: timm/test_resnet\.r160_in1k is not in the hub's cache.*a path to its",
        pretrained="true",
    )


def test_timms_own_come_from_the_hub(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub itself is out of reach of tests: what it would give is a file here."""
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file: str(weights))
    pretrained._of_timm.cache_clear()
    recipe = Recipe.of({**FIELDS, "pretrained": True})
    digits = str(Recipe.of({**FIELDS, "pretrained": str(weights)}).pretrained)[-12:]
    assert recipe.pretrained == f"timm/test_resnet.r160_in1k@{digits}"
    pretrained._of_timm.cache_clear()


@pytest.mark.slow
def test_the_study_in_the_docs_asks_whether_a_pretrained_teacher_needs_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file: str(weights))
    pretrained._of_timm.cache_clear()
    page = (Path(__file__).parents[2] / "docs/how-to/networks.md").read_text(encoding="utf-8")
    profile, study = tmp_path / "tiny.toml", tmp_path / "mine.py"
    (source,) = [p for p in re.findall(r"```python\n(.*?)```", page, re.S) if "def design" in p]
    study.write_text(source)
    lines = ['extends = "smoke"', "[ladder]", f'small = "{NAME}"', "[recipe]"]
    fields = {n: v for n, v in FIELDS.items() if n != "model"}
    profile.write_text("\n".join([*lines, *(f"{n} = {v}" for n, v in fields.items())]))
    out, options = tmp_path / "out", ["--profile", str(profile), "--runs", str(tmp_path / "runs")]
    assert main([str(study), *options, "--seeds", "1", "--workers", "1", "--out", str(out)]) == 0
    report = next(out.rglob("report.md")).read_text()
    digits = str(Recipe.of({**FIELDS, "pretrained": str(weights)}).pretrained)[-12:]
    assert f"trained before: timm/test_resnet.r160_in1k@{digits}." in report
    pretrained._of_timm.cache_clear()
