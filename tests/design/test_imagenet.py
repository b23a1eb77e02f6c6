"""The profile `imagenet` is the paper's recipe: each value, with where it was read.

P4: arXiv 1911.04252v4. C: google-research/noisystudent. V1: the model table of the first version.
"""

import dataclasses
import math
from typing import Any

import pytest
import timm
import torch
from builders import present
from timm.layers import BatchNormAct2d
from timm.models._efficientnet_builder import round_channels

from ns_bench.data import catalog
from ns_bench.design.profile import Profile, load_profile
from ns_bench.recipe import Recipe
from ns_bench.selftrain.models import build
from ns_bench.selftrain.optimize import learning_rate, make_optimizer, weight_groups

B = [f"tf_efficientnet_b{i}" for i in range(8)]
L2 = "tf_efficientnet_l2"
MODELS = [*B, L2]

# Width, depth, resolution and dropout: C, efficientnet_builder.py; L2's training resolution: V1.
FAMILY = {
    "tf_efficientnet_b0": (1.0, 1.0, 224, 0.2),
    "tf_efficientnet_b1": (1.0, 1.1, 240, 0.2),
    "tf_efficientnet_b2": (1.1, 1.2, 260, 0.3),
    "tf_efficientnet_b3": (1.2, 1.4, 300, 0.3),
    "tf_efficientnet_b4": (1.4, 1.8, 380, 0.4),
    "tf_efficientnet_b5": (1.6, 2.2, 456, 0.4),
    "tf_efficientnet_b6": (1.8, 2.6, 528, 0.5),
    "tf_efficientnet_b7": (2.0, 3.1, 600, 0.5),
    "tf_efficientnet_l2": (4.3, 5.3, 475, 0.5),
}
PARAMETERS = {"tf_efficientnet_b7": 66e6, "tf_efficientnet_l2": 480e6}  # V1

# RandAugment's magnitude; None is without. P4 (B7, L2), C (scripts).
MAGNITUDE = dict(zip(MODELS, [None, None, 6, 12, 15, 18, 24, 27, 27], strict=True))
RATIO = dict(zip(MODELS, [1, 3, 3, 3, 3, 3, 3, 3, 14], strict=True))  # P4, C
# "350 if larger than B4, 700 for smaller", P4; which of the two is B4's: train_ratio=2 in C.
EPOCHS = dict(zip(MODELS, [700] * 5 + [350] * 4, strict=True))

# Fields that no model has for its own, each with its source.
EVERYWHERE: dict[str, tuple[Any, str]] = {
    "train.batch_size": (2048, "P4"),
    "train.lr": (0.128, "P4; C: 0.016 for 256 images"),
    "train.decay_rate": (0.97, "P4"),
    "train.schedule": ("staircase", "C"),
    "train.warmup_epochs": (5.0, "C"),
    "train.optimizer": ("rmsprop", "C"),
    "train.momentum": (0.9, "C"),
    "train.weight_decay": (1e-5, "C"),
    "train.label_smoothing": (0.1, "C"),
    "train.ema": (0.9999, "C"),
    "train.loss": ("ratio", "C"),
    "train.start": ("scratch", "P4, C"),
    "train.rows": ("joint", "P4"),
    "noise.labeled.stochastic_depth": (1 - 0.8, "P4, C: survival of 0.8 at the last layer"),
    "noise.unlabeled.stochastic_depth": (1 - 0.8, "P4, C"),
    "noise.labeled.flip": (True, "C, preprocessing.py"),
    "noise.unlabeled.flip": (True, "C, preprocessing.py"),
    "noise.labeled.resized_crop": (0.08, "C, preprocessing.py"),
    "noise.unlabeled.resized_crop": (0.08, "C, preprocessing.py"),
    "data.crop": ("photo", "C, preprocessing.py"),
    "noise.labeled.cutout": (0, "C"),
    "noise.unlabeled.cutout": (0, "C"),
    "noise.unlabeled_schedule": ("constant", "P4"),
    "pseudo.kind": ("soft", "P4"),
    "pseudo.temperature": (1.0, "C: teacher_softmax_temp"),
    "pseudo.threshold": (0.3, "P4"),
    "pseudo.ceiling": (1.0, "P4"),
    "pseudo.limit": (0, "P4"),
    "pseudo.balance": (True, "P4"),
    "pseudo.per_class": (130_000, "P4"),
    "pseudo.noised_teacher": (False, "P4, C: the teacher is not noised"),
}


def with_model(profile: Profile, model: str) -> Profile:
    return dataclasses.replace(profile, ladder={"small": model})


@pytest.fixture(scope="module")
def students() -> dict[str, Recipe]:
    """Of every model the student of its own size, as in the paper's Figure 2."""
    profile = load_profile("imagenet")
    found = {}
    for model in MODELS:
        own = with_model(profile, model)
        found[model] = own.student("small", own.supervised("small"))
    return found


@pytest.mark.parametrize("field", EVERYWHERE)
def test_values_of_all_models(field, students):
    expected, source = EVERYWHERE[field]
    for model, student in students.items():
        assert student.field(field) == pytest.approx(expected), (model, source)


@pytest.mark.parametrize("model", MODELS)
def test_values_by_model(model, students):
    student = students[model]
    _, _, pixels, dropout = FAMILY[model]
    assert student.train.resolution == pixels
    assert (student.train.epochs, student.train.ratio) == (EPOCHS[model], RATIO[model])
    # P4: 2.4 epochs where there are 350, 4.8 where there are 700
    assert student.train.decay_epochs == {350: 2.4, 700: 4.8}[EPOCHS[model]]
    for noise in (student.noise.labeled, student.noise.unlabeled):
        assert noise.dropout == dropout
        assert noise.randaugment_n == (0 if MAGNITUDE[model] is None else 2)
        assert noise.randaugment_cutout  # official flag --cutout_op
        if noise.randaugment_n:
            assert noise.randaugment_m == MAGNITUDE[model]
    assert student.batch == (2048, 2048 * RATIO[model])
    teacher = student.teacher
    assert teacher is not None  # the baselines have RandAugment, too (P4, section 4.2)
    assert (teacher.noise.labeled, teacher.train.resolution) == (student.noise.labeled, pixels)
    assert teacher.steps == student.steps


def test_the_ratio_of_the_last_round_is_twice_that_of_l2(students):
    """Table 7: 14, 14 and 28."""
    last = students[L2].set({"train.ratio": 28})
    assert last.batch == (2048, 2048 * 28)


def test_the_data(students):
    student = students[L2]
    data = student.data
    assert data.labeled + data.validation == 1_281_167  # the training images of ILSVRC 2012
    assert data.test == 50_000
    assert catalog.describe(data).classes == 1000
    assert catalog.describe(data).takes_all
    # 130M rows an epoch after balancing, of a pool that is the user's; it is planned for 100M
    assert student.pseudo.per_class * 1000 == 130_000_000
    assert catalog.describe(data).pool == 100_000_000
    assert present(catalog.describe(data).file_set).names == ["imagenet", "pool"]


@pytest.mark.parametrize(("model", "epochs"), [(B[0], 700), (B[7], 350)])
def test_the_learning_rate_over_training(model, epochs, students):
    train = students[model].train
    assert train.lr / train.batch_size == pytest.approx(0.016 / 256)
    assert learning_rate(train, 2.5) == pytest.approx(0.128 / 2)
    assert learning_rate(train, 5.0) == pytest.approx(0.128 * 0.97 ** int(5 / train.decay_epochs))
    steps = epochs / train.decay_epochs  # 146 falls of 3 % either way
    assert math.ceil(steps) == 146
    assert learning_rate(train, epochs - 0.01) == pytest.approx(
        0.128 * 0.97 ** int(steps), rel=1e-6
    )


REPEATS = [1, 2, 2, 3, 3, 4, 1]  # blocks in each of B0's stages: C


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_models_are_timms(model):
    width, depth, pixels, _ = FAMILY[model]
    with torch.device("meta"):
        net = timm.create_model(model)
    assert isinstance(net.blocks, torch.nn.Sequential)
    assert [len([*stage.children()]) for stage in net.blocks] == [
        math.ceil(depth * n) for n in REPEATS
    ]
    assert net.num_features == round_channels(1280, width)  # C: multiples of 8
    assert present(timm.get_pretrained_cfg(model)).input_size == (3, pixels, pixels)
    if model in PARAMETERS:
        count = sum(p.numel() for p in net.parameters())
        assert count == pytest.approx(PARAMETERS[model], rel=0.01)


def test_batch_norm_and_stochastic_depth_are_the_official_ones():
    """C: momentum 0.99 (TensorFlow's, here 0.01), epsilon 1e-3; drop rate 0.2 x index / blocks."""
    net = build(B[0], 3, 1000, 0, 0)
    norms = [m for m in net.modules() if isinstance(m, BatchNormAct2d)]
    assert norms and {(m.momentum, m.eps) for m in norms} == {(0.01, 1e-3)}
    blocks = [block for stage in net.net.blocks for block in stage]
    found = {i: block.drop_path.depth for i, block in enumerate(blocks) if block.has_skip}
    assert len(found) == 9
    assert found == pytest.approx({i: i / len(blocks) for i in found})


def test_the_optimiser_is_the_official_one(students):
    """C: RMSProp with decay 0.9, momentum 0.9, epsilon 1e-3; no weight decay on batch norms."""
    net = build("micro-b0", 3, 10, 0, 0)
    train = students[B[0]].train
    optimizer = make_optimizer(weight_groups(net, train.decay_biases), train)
    decayed, rest = optimizer.param_groups
    for group in (decayed, rest):
        assert (group["alpha"], group["momentum"], group["eps"]) == (0.9, 0.9, 1e-3)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (1e-5, 0)
    norms = {id(p) for m in net.modules() if isinstance(m, BatchNormAct2d) for p in m.parameters()}
    assert norms == {id(p) for p in rest["params"]}


def test_imagenet_mini_is_a_tenth_of_it_at_64_pixels(students):
    mini, whole = load_profile("imagenet-mini"), load_profile("imagenet")
    assert mini.ladder == whole.ladder
    for model in MODELS:
        own = with_model(mini, model)
        student, large = own.student("small", own.supervised("small")), students[model]
        assert student.data.pixels == 64 and student.train.resolution == 0
        assert catalog.describe(student.data).pool == 1_281_167 - 25_000 - 128_000
        assert large.steps / student.steps == pytest.approx(10, rel=0.02)
        assert student.noise == large.noise
        differing = {
            f.name
            for f in dataclasses.fields(student.train)
            if getattr(student.train, f.name) != getattr(large.train, f.name)
        }
        assert differing == {"resolution"}
