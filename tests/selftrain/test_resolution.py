"""A network's own resolution, frozen stages, and what fixes the train-test discrepancy."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from builders import in_memory, present
from PIL import Image
from torch import Tensor

from ns_bench.data import split
from ns_bench.design.profile import load_profile
from ns_bench.errors import UserError
from ns_bench.execute.run_one import run_one
from ns_bench.recipe import Data, Recipe
from ns_bench.robustness import measure as measuring
from ns_bench.runs.store import MODEL, Run, Store
from ns_bench.selftrain.models import build, freeze

pytestmark = pytest.mark.slow

QUICK = {
    "train.epochs": 2,
    "train.warmup_epochs": 0.0,
    "train.ema": 0.5,
    "data.test": 100,
    "pseudo.threshold": 0,
}


def test_every_part_is_resized_and_nothing_else_changes():
    plain, large = split.load(Data(), 3), split.load(Data(), 3, resolution=12)
    for part in ("labeled", "unlabeled", "validation", "test"):
        before, after = getattr(plain, part).images, getattr(large, part).images
        assert after.shape == (len(before), 1, 12, 12) and after.dtype == torch.uint8
    assert torch.equal(plain.test.labels, large.test.labels)
    assert torch.equal(plain.mean, large.mean) and torch.equal(plain.std, large.std)
    same = split.load(Data(), 3, resolution=8)
    assert torch.equal(in_memory(same.test.images), in_memory(plain.test.images))
    assert split.load(Data(validation=0), 3, resolution=4).validation.images.shape == (0, 1, 4, 4)


@pytest.mark.parametrize("side", [5, 8, 19])
def test_resizing_is_pillows(side):
    """An image that streams is resized by Pillow: it must be the same one."""
    images = in_memory(split.load(Data(), 0).test.images[:20])
    ours = in_memory(split._resized(images, side))
    for image, resized in zip(images, ours, strict=True):
        theirs = Image.fromarray(image[0].numpy()).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(theirs, int) - resized[0].numpy().astype(int)).max() <= 1


# --- frozen stages --------------------------------------------------------------------------


def test_stages_are_counted_from_the_input():
    net = build("micro-b0", 1, 10, 0, 0)
    freeze(net.train(), 2)
    learning = {name for name, weights in net.net.named_parameters() if weights.requires_grad}
    parts = {name.partition(".")[0] for name in learning}
    assert parts == {"blocks", "conv_head", "bn2", "classifier"}
    assert not any(name.startswith("blocks.0.") for name in learning)
    assert any(name.startswith("blocks.1.") for name in learning)
    assert not net.net.bn1.training and not net.net.blocks[0][0].bn1.training
    assert net.net.blocks[1].training and net.net.bn2.training
    freeze(net.train(), 0)
    assert net.net.bn1.training  # and none is the default


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_b0", "small-b0"])
def test_any_timm_network_has_stages(name):
    net = build(name, 3, 10, 0, 0)
    freeze(net.train(), 1)
    frozen = {n.partition(".")[0] for n, w in net.net.named_parameters() if not w.requires_grad}
    assert frozen <= {"conv1", "bn1", "conv_stem"} and len(frozen) == 2


def test_a_network_cannot_be_frozen_altogether():
    net = build("micro-b0", 1, 10, 0, 0)
    with pytest.raises(UserError, match="the network has 4 stages before its last"):
        freeze(net, 5)
    freeze(net, 4)
    learning = [name for name, weights in net.net.named_parameters() if weights.requires_grad]
    assert learning == ["classifier.weight", "classifier.bias"]


# --- the fix --------------------------------------------------------------------------------


def test_what_the_fix_is():
    profile = load_profile("imagenet")
    run = profile.student("large", profile.supervised("large"))
    fix = run.at_higher_resolution(800)
    assert fix.teacher == run and fix.model == run.model and fix.data == run.data
    assert (run.train.resolution, fix.train.resolution) == (600, 800)
    # paper, section 4.1: 1.5 epochs, labeled images, not augmented, shallow layers fixed
    assert (fix.train.epochs, fix.train.rows, fix.batch) == (1.5, "labeled", (2048, 0))
    assert fix.steps == int(1.5 * run.data.labeled) // 2048
    noise = fix.noise.labeled
    assert not any((noise.randaugment_n, noise.crop_padding, noise.cutout, noise.resized_crop))
    assert not any((noise.flip, noise.dropout, noise.stochastic_depth))
    assert (fix.train.start, fix.train.frozen) == ("teacher", 4)
    assert fix.train.lr == pytest.approx(0.128 * 0.97**145)
    assert fix.train.warmup_epochs == 0
    assert fix.at_higher_resolution(900).teacher == fix
    cosine = run.set({"train.schedule": "cosine"})
    assert cosine.at_higher_resolution(800).train.lr == pytest.approx(0.00128)
    assert Recipe.from_dict(fix.to_dict()).id == fix.id


def weights(run: Run) -> dict[str, Tensor]:
    return safetensors.torch.load_file(run.path / MODEL)


def test_a_run_goes_on_at_a_higher_resolution(tmp_path: Path):
    store = Store(tmp_path / "runs")
    teacher = Recipe.of(QUICK)
    low = store.run(Recipe.of({**QUICK, "train.resolution": 6}, teacher))
    high = store.run(low.recipe.at_higher_resolution(12, epochs=1.5, frozen=2))
    for run in (store.run(teacher), low, high):
        result = run_one(run)
        assert result.test["top1"] > 0
    assert high.recipe.steps == 1  # of 50 rows, and then half an epoch
    before, after = weights(low), weights(high)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("net.conv_stem", "net.bn1", "net.blocks.0.")
    assert not [name for name in changed if name.startswith(frozen)]
    assert "net.classifier.weight" in changed and "net.bn2.running_mean" in changed
    # its teacher's logits are of the same pool, at another resolution
    kept = present(low.result()).artifacts["logits.safetensors"]["sha256"]
    assert present(high.result()).teacher_logits == kept


def test_a_noised_teacher_labels_at_its_own_resolution(tmp_path: Path, monkeypatch):
    from ns_bench.selftrain import algorithm as module

    seen = []

    def noised(net, images, *more):
        seen.append(tuple(images.shape[2:]))
        return torch.zeros(len(images), 10).index_fill_(1, torch.tensor(3), 9.0)

    monkeypatch.setattr(module, "predict_noised", noised)
    store = Store(tmp_path / "runs")
    teacher = Recipe.of({**QUICK, "train.resolution": 10})
    student = Recipe.of({**QUICK, "pseudo.noised_teacher": True}, teacher)
    run_one(store.run(teacher))
    run_one(store.run(student))
    assert seen == [(10, 10)]


def test_a_network_is_measured_at_its_own_resolution(tmp_path: Path, monkeypatch):
    sides = []

    def measure(group, net, dataset, seed, tick):
        sides.append(dataset.test.images.shape[2:])
        return {"auroc": 50.0}

    monkeypatch.setattr(measuring, "measure", measure)
    run = Store(tmp_path).run(Recipe.of({**QUICK, "train.resolution": 10}), ("out_of_domain",))
    run_one(run)
    assert sides == [(10, 10)]
