"""What a recipe costs: counted FLOPs, time, storage."""

import re

import pytest
import torch
from builders import present

from ns_bench.data.catalog import describe
from ns_bench.design import cost
from ns_bench.design.cost import Shape, network, shape_of
from ns_bench.design.profile import Gpu, load_profile, profile_names
from ns_bench.errors import UserError
from ns_bench.recipe import EVALUATIONS, Recipe
from ns_bench.selftrain import count
from ns_bench.selftrain.models import build
from ns_bench.selftrain.optimize import make_optimizer, weight_groups

# --- counting -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_is_what_is_counted():
    """`python -m ns_bench.selftrain.count` after a change to models or profiles."""
    shapes = count.named_shapes()
    assert list(cost._table()) == shapes
    light = [shape for shape in shapes if shape.model[-2:] not in ("b5", "b6", "b7", "l2")]
    for shape in light[::2]:
        assert cost._table()[shape] == count.count(shape)


def test_a_count_by_hand():
    """ResNet-18 at 224 pixels: 1.82 G multiply-adds (torchvision's table), 11.69 M weights."""
    flops, parameters = count.count(Shape("resnet18", 224, 3, 1000))
    assert flops == pytest.approx(2 * 1.82e9, rel=0.01)
    assert parameters == 11_689_512


def test_efficientnets_have_the_flops_of_their_paper():
    """arXiv 1905.11946, Table 2: 0.39 G multiply-adds for B0, 4.2 G for B4, 37 G for B7."""
    for model, side, expected in (("b0", 224, 0.39e9), ("b4", 380, 4.2e9), ("b7", 600, 37e9)):
        net = present(network(Shape(f"tf_efficientnet_{model}", side, 3, 1000)))
        assert net.forward == pytest.approx(2 * expected, rel=0.06)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_can_be_priced(name):
    profile = load_profile(name)
    teacher = profile.supervised("small")
    for rung in profile.rungs:
        recipe = profile.student(rung, teacher)
        net = present(network(shape_of(recipe)))
        assert net.exact
        assert present(cost.flops(recipe)) > 3 * net.forward * recipe.images


def test_other_sizes_go_by_area():
    counted = present(network(Shape("tf_efficientnet_l2", 475, 3, 1000)))
    larger = present(network(Shape("tf_efficientnet_l2", 800, 3, 1000)))
    assert larger.forward == pytest.approx(counted.forward * (800 / 475) ** 2)
    assert (counted.exact, larger.exact) == (True, False)
    assert network(Shape("resnet18", 224, 3, 1000)) is None
    assert cost.flops(Recipe(model="resnet18")) is None


@pytest.mark.slow
def test_the_backward_pass_takes_twice_the_forward_pass():
    """Counted, of a network without grouped convolutions: torch counts their backward pass as if
    they had one group."""
    from torch.utils.flop_counter import FlopCounterMode

    net, shape = build("resnet18", 3, 10, 0, 0), Shape("resnet18", 32, 3, 10)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, 3, 32, 32)).sum().backward()
    forward = 2 * count.count(shape)[0]
    assert counter.get_total_flops() == pytest.approx(cost.TRAINING * forward, rel=0.05)


# --- a run ----------------------------------------------------------------------------------


def test_flops_and_storage_of_a_run():
    recipe = Recipe(teacher=Recipe())
    net = present(network(Shape("micro-b0", 8, 1, 10)))
    pool = describe(recipe.data).pool
    assert recipe.images == 60_000
    evaluated = 500 + (EVALUATIONS + 1) * 100
    assert cost.flops(recipe) == net.forward * (3 * 60_000 + pool + evaluated)
    stored = present(cost.storage(recipe))
    assert stored.weights == 4 * net.parameters
    assert stored.labels == 2 * 10 * pool
    large = load_profile("imagenet").supervised("small")
    assert present(cost.storage(large)).labels == 40 * 100_000_000  # the ten top classes


def test_a_checkpoint_has_so_many_copies_of_the_weights(tmp_path):
    net = build("micro-b4", 1, 10, 0, 0)
    optimizer = make_optimizer(weight_groups(net), Recipe().train)
    net(torch.zeros(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    weights = sum(value.numel() for value in net.parameters())
    kept = sum(v.numel() for state in optimizer.state.values() for v in state.values()
               if torch.is_tensor(v))  # fmt: skip
    assert 2 * weights + kept == pytest.approx(cost.COPIES * weights, rel=0.01)


def test_a_models_own_resolution_is_priced():
    profile = load_profile("imagenet")
    assert shape_of(profile.supervised("large")).side == 600
    assert shape_of(load_profile("imagenet-mini").supervised("large")).side == 64
    assert shape_of(load_profile("stl10").supervised("small")) == Shape("small-b0", 48, 3, 10)
    own = Recipe.of({"data.name": "glyphs", "data.unlabeled": 500, "data.glyphs.pixels": 16})
    assert shape_of(own) == Shape("micro-b0", 16, 1, 10)


# --- a GPU ----------------------------------------------------------------------------------


def test_the_stated_throughput_is_that_of_its_source():
    """NVIDIA's README: images a second of one A100 in training, mixed precision."""
    gpu = present(load_profile("imagenet").gpu)
    speeds = {Shape("tf_efficientnet_b0", 224, 3, 1000): 2489,
              Shape("tf_efficientnet_b4", 380, 3, 1000): 331}  # fmt: skip
    tflops = [3 * present(network(shape)).forward * speed / 1e12 for shape, speed in speeds.items()]
    assert tflops == pytest.approx([5.8, 8.7], abs=0.05)
    assert gpu.tflops == pytest.approx((tflops[0] * tflops[1]) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('{ name = "a", tflops = 1 }', "mine.toml: there is no estimate.gpu.source"),
        (
            '{ name = "a", tflops = -1, source = "b" }',
            "mine.toml: estimate.gpu.tflops=-1: expected a number above 0",
        ),
        (
            '{ name = "a", tflops = true, source = "b" }',
            "estimate.gpu.tflops=True: expected a number above 0",
        ),
        ('{ name = "", tflops = 1, source = "b" }', "there is no estimate.gpu.name"),
    ],
)
def test_gpus_that_are_refused(table, said, tmp_path):
    (tmp_path / "mine.toml").write_text(f'extends = "smoke"\n[estimate]\ngpu = {table}\n')
    with pytest.raises(UserError, match=re.escape(said)):
        load_profile(str(tmp_path / "mine.toml"))


def test_a_gpu_of_ones_own(tmp_path):
    text = 'extends = "imagenet"\n[estimate.gpu]\nname = "H100"\ntflops = 14.2\nsource = "us"\n'
    (tmp_path / "mine.toml").write_text(text)
    mine, whole = load_profile(str(tmp_path / "mine.toml")), load_profile("imagenet")
    assert (mine.gpu, mine.machine) == (Gpu("H100", 14.2, "us"), "H100")
    recipe = mine.supervised("large")
    assert 2 * mine.estimate(recipe) == pytest.approx(whole.estimate(recipe))
