"""A network of each large family of timm: trains, goes on after a stop, labels, has a student."""

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import register_model
from timm.models.deit import VisionTransformerDistilled
from timm.models.mlp_mixer import MlpMixer
from timm.models.swin_transformer import SwinTransformer

from ns_bench.data.split import load
from ns_bench.errors import UserError
from ns_bench.execute.run_one import Interrupted, run_one
from ns_bench.recipe import Recipe
from ns_bench.runs.store import LOGITS, MODEL, OUTCOMES, Store
from ns_bench.selftrain.methods import network
from ns_bench.selftrain.models import build
from ns_bench.selftrain.optimize import weight_groups
from ns_bench.selftrain.train import Lesson, train

torch.set_num_threads(1)

SMALLER: dict[str, tuple[type, dict[str, Any]]] = {
    "deit_small_test": (VisionTransformerDistilled, {"embed_dim": 24, "depth": 2}),
    "swin_small_test": (
        SwinTransformer,
        {"embed_dim": 12, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 3, 6)},
    ),
    "mixer_small_test": (MlpMixer, {"embed_dim": 16, "num_blocks": 2}),
}
"""Those of which timm has no small one, cut down: what has millions of weights takes seconds."""


def register(name: str) -> str:
    """Let timm know a network that is cut down; returns its name."""

    def small(pretrained: bool = False, **options: Any) -> Any:
        network, shape = SMALLER[name]
        own = {key: options[key] for key in options if "pretrained" not in key}
        own.pop("cache_dir", None)
        return network(**own, **shape)

    small.__name__, small.__module__ = name, __name__
    return register_model(small).__name__


FAMILIES = [
    *("test_convnext", "test_vit", "test_resnet", "test_efficientnet"),
    *("regnetx_002", "mobilenetv3_small_050"),
    *map(register, SMALLER),
]

__all__: list[str] = []  # timm adds the networks that it is told of


def recipes(model: str, side: int) -> tuple[Recipe, Recipe]:
    """Return a supervised run of two steps, and its student's."""
    sizes = {"labeled": 10, "validation": 10, "test": 10, "unlabeled": 20}
    fields: dict[str, Any] = {
        **{f"data.{part}": size for part, size in sizes.items()},
        "train.epochs": 1,
        "train.batch_size": 5,
        "train.ratio": 1,
        "train.warmup_epochs": 0,
        "train.resolution": side,
        "pseudo.threshold": 0.0,
        "model": model,
    }
    teacher = Recipe.of(fields)
    assert teacher.steps == 2
    return teacher, Recipe.of(fields, teacher)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "side"), [(m, 32) for m in FAMILIES] + [("test_convnext", 35), ("test_vit", 48)]
)
def test_it_trains_goes_on_bit_for_bit_labels_and_has_a_student(
    model: str, side: int, tmp_path: Path
) -> None:
    teacher, student = recipes(model, side)
    whole, stopped = (Store(tmp_path / name).run(teacher) for name in ("whole", "stopped"))
    run_one(whole)
    with pytest.raises(Interrupted):
        run_one(stopped, should_stop=lambda: True)
    assert run_one(stopped).resumed == 1
    for name in (MODEL, LOGITS, OUTCOMES):
        assert whole.artifact(name).read_bytes() == stopped.artifact(name).read_bytes(), name
    assert run_one(Store(whole.path.parent).run(student)).pseudo is not None


def test_a_network_for_one_size_is_built_for_the_images() -> None:
    assert build("test_vit", 3, 10, 0, 0, side=48).net.patch_embed.img_size == (48, 48)
    assert build("test_vit", 3, 10, 0, 0).net.patch_embed.img_size == (160, 160)


def test_positions_and_tokens_do_not_decay() -> None:
    net = build("test_vit", 3, 10, 0, 0, side=32)
    decayed, rest = weight_groups(net, biases=True)
    spared = {id(p) for p in rest}
    assert {id(net.net.pos_embed), id(net.net.cls_token)} <= spared
    assert id(net.net.head.weight) in {id(p) for p in decayed}


def test_weights_for_images_of_another_size_are_refused() -> None:
    teacher, _ = recipes("test_vit", 48)
    recipe = teacher.at_higher_resolution(32)
    weights = network(teacher, load(teacher.data, 0, resolution=48)).state_dict()
    with pytest.raises(UserError, match=r"^train.start=teacher: test_vit is built for images of"):
        train(recipe, load(recipe.data, 0), Lesson(weights=weights))
