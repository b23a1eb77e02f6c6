"""Faster training and prediction on a CPU: the same results as the plain layers, to rounding."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from builders import present
from timm.layers import BatchNormAct2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from ns_bench.data.split import load
from ns_bench.recipe import Recipe
from ns_bench.selftrain import fast_cpu, products
from ns_bench.selftrain import train as training
from ns_bench.selftrain.fast_cpu import fast, folded
from ns_bench.selftrain.methods import Pair
from ns_bench.selftrain.models import NoisedNet, build, freeze

torch.set_num_threads(1)

CLOSE = 1e-5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def away(tensors: list[Tensor], exact: list[Tensor]) -> float:
    """Return how far some tensors are from those in float64, relative to all of these."""
    difference = torch.cat(
        [(a.double() - b).flatten() for a, b in zip(tensors, exact, strict=True)]
    )
    whole = torch.cat([b.detach().flatten() for b in exact])
    return float(difference.detach().norm() / whole.norm())


# Each part against its plain form


def convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return convolution(channels, channels, kernel=kernel, stride=stride, groups=channels)


def norm(channels: int, act: bool = True) -> BatchNormAct2d:
    return BatchNormAct2d(channels, eps=1e-3, act_layer=nn.SiLU, apply_act=act, inplace=False)


def widened(narrow: int, wide: int) -> nn.Module:
    return nn.Sequential(convolution(narrow, wide), norm(wide))


def widen(pair: Any) -> fast_cpu.Part:
    return fast_cpu.Widen(*pair)


PARTS: dict[str, tuple[nn.Module, Callable[[Any], fast_cpu.Part], tuple[int, ...]]] = {
    "widen": (widened(8, 32), widen, (20, 8, 8, 8)),
    "widen, to fewer": (widened(12, 5), widen, (9, 12, 5, 3)),
    "pointwise, to few": (convolution(32, 8), fast_cpu.Pointwise, (20, 32, 8, 8)),
    "depthwise, smaller than its kernel": (depthwise(16, 3, 1), fast_cpu.Depthwise, (5, 16, 2, 2)),
    "depthwise, one pixel": (depthwise(16, 3, 1), fast_cpu.Depthwise, (5, 16, 1, 1)),
    "depthwise": (depthwise(16, 3, 1), fast_cpu.Depthwise, (5, 16, 4, 7)),
    "depthwise, stride 2": (depthwise(16, 3, 2), fast_cpu.Depthwise, (5, 16, 7, 7)),
    "depthwise, stride 2 and small": (depthwise(16, 3, 2), fast_cpu.Depthwise, (5, 16, 2, 2)),
    "depthwise, 5x5": (depthwise(16, 5, 1), fast_cpu.Depthwise, (5, 16, 4, 4)),
    "depthwise, 5x5, stride 2": (depthwise(16, 5, 2), fast_cpu.Depthwise, (5, 16, 7, 8)),
    "norm": (norm(8, act=False), partial(fast_cpu.Norm, silu=False), (9, 8, 5, 5)),
    "norm and silu": (norm(12), partial(fast_cpu.Norm, silu=True), (20, 12, 4, 4)),
    "excite": (SqueezeExcite(16, act_layer=nn.SiLU), fast_cpu.Excite, (7, 16, 4, 4)),
}


def derived(
    module: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor, g: Tensor
) -> list[Tensor]:
    """Return the output, the gradients of input and weights, and the buffers after it."""
    x = x.clone().requires_grad_()
    out = call(x)
    out.backward(g)
    assert x.grad is not None
    weights = [present(w.grad) for w in module.parameters()]
    return [out.detach(), x.grad, *weights, *(b.to(g) for b in module.buffers())]


@pytest.mark.parametrize("name", PARTS)
def test_each_part_and_its_derivative_are_those_of_the_plain_layers(name: str) -> None:
    module, make, shape = PARTS[name]
    torch.manual_seed(1)
    plain = copy.deepcopy(module).train()
    for weights in plain.parameters():
        nn.init.normal_(weights)
    own, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    x = 1 + 2 * torch.randn(shape, generator=seeded(2))
    g = torch.randn(plain(x).shape, generator=seeded(3))
    for module in (plain, own, exact):
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
    found = derived(own, lambda x: fast_cpu.run(make(own), x), x, g)
    wanted = derived(exact, exact, x.double(), g.double())
    for one, other in zip(found, wanted, strict=True):
        assert away([one], [other]) < CLOSE


def test_a_widening_whose_channels_nearly_cancel_keeps_its_statistics() -> None:
    """Inputs that share one strong direction, weights nearly at right angles to it."""
    pair: Any = widened(16, 8).train()
    strong = 300 * torch.randn(50, 1, 4, 4, generator=seeded(1))
    x = torch.randn(50, 16, 4, 4, generator=seeded()) + strong
    with torch.no_grad():
        pair[0].weight -= pair[0].weight.mean(1, keepdim=True)
    exact = copy.deepcopy(pair).double()
    own = copy.deepcopy(pair)
    found = [fast_cpu.run(widen(own), x), own[1].running_var]
    others = [pair(x), pair[1].running_var]
    wanted = [exact(x.double()), exact[1].running_var]
    assert away(found, wanted) < 2 * away(others, wanted) + CLOSE


@pytest.mark.parametrize(("stride", "channels"), [(1, 1), (2, 3)])
def test_the_stem_is_a_convolution_and_gives_its_images_no_gradient(stride, channels) -> None:
    pair = nn.Sequential(convolution(channels, 8, kernel=3, stride=stride), norm(8)).train()
    x = torch.randn(40, channels, 9, 8, generator=seeded())
    exact = copy.deepcopy(pair).double()
    wanted = exact(x.double())
    out = fast_cpu.run(fast_cpu.Stem(*pair), x)
    g = torch.randn(out.shape, generator=seeded(1))
    out.backward(g)
    wanted.backward(g.double())
    grads = [[present(w.grad) for w in module.parameters()] for module in (pair, exact)]
    assert away([out, *grads[0]], [wanted, *grads[1]]) < CLOSE
    assert x.grad is None


# Whole networks


def step(net: nn.Module, x: Tensor, *, noise: bool = False) -> Tensor:
    """Do a forward and a backward pass; return the loss."""
    labels = torch.arange(len(x)) % 10
    rates = torch.full((len(x),), 0.3, dtype=x.dtype) if noise else None
    loss = nn.functional.cross_entropy(net(x, rates, rates, seeded(5)), labels)
    loss.backward()
    return loss


@pytest.mark.slow
@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("micro-b0", (200, 1, 8, 8)),
        ("micro-b0", (64, 1, 14, 14)),
        ("micro-b4", (40, 1, 8, 8)),
        ("small-b0", (8, 3, 32, 32)),
    ],
)
def test_gradients_and_statistics_are_those_of_the_plain_network(
    monkeypatch, name, shape, onednn
) -> None:
    monkeypatch.setattr(products, "by_onednn", lambda: onednn)
    plain = build(name, shape[1], 10, 0, 0).train()
    own = fast(copy.deepcopy(plain)).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(plain).double()
    x = torch.randn(shape, generator=seeded())
    losses = [step(own, x), step(exact, x.double()), step(plain, x)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=CLOSE)
    grads = [[present(w.grad) for w in net.parameters()] for net in (own, exact, plain)]
    # in deep networks torch's own float32 is that far from float64, too
    assert away(grads[0], grads[1]) < max(CLOSE, 3 * away(grads[2], grads[1]))
    buffers = [[b.double() for b in net.buffers()] for net in (own, exact)]
    assert away(buffers[0], buffers[1]) < CLOSE


def test_dropped_rows_are_those_of_the_plain_network() -> None:
    plain = build("micro-b2", 1, 10, 0, 0).train()
    own = fast(copy.deepcopy(plain))
    x = torch.randn(60, 1, 8, 8, generator=seeded())
    assert step(own, x, noise=True).item() == pytest.approx(step(plain, x, noise=True).item())
    grads = [[present(w.grad).double() for w in net.parameters()] for net in (own, plain)]
    assert away(grads[0], grads[1]) < CLOSE


def trained(machine: training.Machine = training.CPU, **more: Any) -> Tensor:
    """Return the averaged weights after a short training."""
    recipe = Recipe().set({"train.epochs": 1, "train.lr": 0.01, "train.ema": 0.5, **more})
    average = training.train(recipe, load(recipe.data, 0), machine=machine)
    return torch.cat([w.detach().flatten() for w in average.parameters()])


def test_a_run_trains_through_the_chain_and_ends_where_the_plain_one_does(monkeypatch) -> None:
    runs: list[str] = []
    chain = fast_cpu.run

    def noted(*given: Any) -> Tensor:
        runs.append("chain")
        return chain(*given)

    monkeypatch.setattr(fast_cpu, "run", noted)
    own = trained()
    assert runs
    runs.clear()
    monkeypatch.setattr(training, "fast", lambda net: net)
    plain = trained()
    assert not runs
    first = build(Recipe().model, 1, 10, 0, 0)
    start = torch.cat([w.detach().flatten() for w in first.parameters()])
    assert 0 < (own - plain).norm() < 1e-3 * (plain - start).norm()


def test_a_compiled_run_has_no_chain(monkeypatch) -> None:
    monkeypatch.setattr(fast_cpu, "run", lambda *given: pytest.fail("a chain ran"))
    monkeypatch.setattr(NoisedNet, "compile", lambda net: None)
    training._prepared(build("micro-b0", 1, 10, 0, 0), training.Machine(compiled=True))(
        torch.randn(2, 1, 8, 8)
    )


def test_names_of_weights_stay_and_copies_are_their_own() -> None:
    plain = build("micro-b0", 1, 10, 0, 0)
    own = fast(copy.deepcopy(plain)).train()
    assert list(own.state_dict()) == list(plain.state_dict())
    twin = copy.deepcopy(own)
    step(twin, torch.randn(20, 1, 8, 8))
    assert all(w.grad is None for w in own.parameters())
    own.load_state_dict(twin.state_dict())
    pair = fast(Pair(build("micro-b0", 1, 10, 0, 0), build("micro-b0", 1, 10, 0, 1)))
    types = [type(m) for m in pair.modules()]
    assert types.count(fast_cpu.FastEfficientNet) == 2


# Where the plain layers run


def of_several_processes(net: Any) -> None:
    net.bn1.forward = partial(type(net.bn1).forward, net.bn1)


def frozen(net: Any) -> None:
    freeze(NoisedNet(net), 1)


def hooked(net: Any) -> None:
    net.blocks[1][0].se.register_forward_hook(lambda *given: None)


def of_another_activation(net: Any) -> None:
    net.blocks[1][0].bn1.act = nn.ReLU()


def dilated(net: Any) -> None:
    net.blocks[1][1].conv_dw.dilation = (2, 2)
    net.blocks[1][1].conv_dw.padding = (2, 2)


UNKNOWN: list[Callable[[Any], None]] = [
    of_several_processes, frozen, hooked, of_another_activation, dilated,
]  # fmt: skip


@pytest.mark.parametrize("change", UNKNOWN)
def test_a_network_with_a_layer_that_no_part_knows_stays_as_it_is(change) -> None:
    net = build("micro-b0", 1, 10, 0, 0).train()
    change(net.net)
    fast(net)
    assert not any(isinstance(module, fast_cpu.FastEfficientNet) for module in net.modules())


@pytest.mark.parametrize("wants", [True, False])
def test_the_plain_layers_predict_and_give_images_their_gradient(monkeypatch, wants) -> None:
    monkeypatch.setattr(fast_cpu, "run", lambda *given: pytest.fail("a chain ran"))
    plain = build("micro-b0", 1, 10, 0, 0).train()
    own = fast(copy.deepcopy(plain))
    for net in (plain, own):
        net.train(wants)
    x = torch.randn(20, 1, 8, 8, requires_grad=wants)
    assert torch.equal(own(x), plain(x))


def test_other_networks_stay_as_they_are() -> None:
    net = build("micro-resnet8", 1, 10, 0, 0)
    types = [type(module) for module in net.modules()]
    assert [type(module) for module in fast(net).modules()] == types


@pytest.mark.parametrize("name", ["efficientnet_es", "tf_efficientnet_b0", "mobilenetv2_050"])
def test_timms_relatives_stay_as_they_are(name: str) -> None:
    net = build(name, 3, 10, 0, 0).train()  # no depthwise layer, padding by size, no excitation
    types = [type(module) for module in net.modules()]
    assert [type(module) for module in fast(net).modules()] == types


def of_ones_own(channels: int, classes: int) -> nn.Module:
    """Return a network as a user writes it, with timm's own inside."""
    inner = build("micro-b0", channels, classes, 0, 0).net
    return nn.Sequential(nn.Upsample(scale_factor=2), inner)


def test_an_efficientnet_in_a_network_of_ones_own_goes_through_too() -> None:
    net = fast(of_ones_own(1, 10).train())
    assert isinstance(list(net.children())[1], fast_cpu.FastEfficientNet)
    x = torch.randn(8, 1, 4, 4, generator=seeded())
    plain = of_ones_own(1, 10).train()
    assert torch.allclose(net(x), plain(x), atol=1e-5)


# Prediction


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro-b0", "small-b0", "tf_efficientnet_b0", "micro-resnet8"])
def test_a_folded_network_predicts_what_the_network_does(name: str) -> None:
    net = fast(build(name, 3, 10, 0, 0)).train()
    x = torch.randn(16, 3, 32, 32, generator=seeded())
    with torch.no_grad():
        for _ in range(3):
            net(x)  # statistics that are not trivial
    net.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.inference_mode():
        exact = copy.deepcopy(net).double()(x.double())
        assert away([folded(net)(x)], [exact]) < CLOSE
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    twin = folded(net)
    left = sum(isinstance(m, nn.BatchNorm2d) for m in twin.modules())
    assert (left == 0) == (name != "micro-resnet8")
