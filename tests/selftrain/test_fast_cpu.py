"""Faster training and prediction on a CPU: the same results as the plain layers, to rounding."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from ns_bench.data.split import load
from ns_bench.recipe import Recipe
from ns_bench.selftrain import fast_cpu
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
    return float(difference.detach().norm() / torch.cat([b.flatten() for b in exact]).norm())


# Each part against its plain form


class Silu(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(nn.BatchNorm2d(channels, eps=1e-3), nn.SiLU())


def convolution(*sizes: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(*sizes, kernel, stride, kernel // 2, groups=groups, bias=False)


def depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return convolution(channels, channels, kernel=kernel, stride=stride, groups=channels)


PARTS: dict[str, tuple[nn.Module, Callable[[Any], fast_cpu.Part], tuple[int, ...]]] = {
    "pointwise, to more": (convolution(8, 32), fast_cpu.Pointwise, (20, 8, 8, 8)),
    "pointwise, to few": (convolution(32, 8), fast_cpu.Pointwise, (20, 32, 8, 8)),
    "pointwise, few rows": (convolution(24, 6), fast_cpu.Pointwise, (3, 24, 2, 2)),
    "depthwise, smaller than its kernel": (
        depthwise(16, 3, 1),
        fast_cpu.Depthwise,
        (5, 16, 2, 2),
    ),
    "depthwise, one pixel": (depthwise(16, 3, 1), fast_cpu.Depthwise, (5, 16, 1, 1)),
    "depthwise": (depthwise(16, 3, 1), fast_cpu.Depthwise, (5, 16, 4, 7)),
    "depthwise, stride 2": (depthwise(16, 3, 2), fast_cpu.Depthwise, (5, 16, 7, 7)),
    "depthwise, stride 2 and small": (depthwise(16, 3, 2), fast_cpu.Depthwise, (5, 16, 2, 2)),
    "depthwise, 5x5": (depthwise(16, 5, 1), fast_cpu.Depthwise, (5, 16, 4, 4)),
    "depthwise, 5x5, stride 2": (depthwise(16, 5, 2), fast_cpu.Depthwise, (5, 16, 7, 8)),
    "norm of few elements": (
        nn.BatchNorm2d(8, eps=1e-3),
        partial(fast_cpu.Norm, silu=False),
        (9, 8, 5, 5),
    ),
    "norm of many": (
        nn.BatchNorm2d(8, eps=1e-3),
        partial(fast_cpu.Norm, silu=False),
        (128, 8, 14, 14),
    ),
    "norm of many, odd": (
        nn.BatchNorm2d(24, eps=1e-3),
        partial(fast_cpu.Norm, silu=False),
        (111, 24, 9, 7),
    ),
    "norm and silu": (Silu(12), lambda m: fast_cpu.Norm(m[0], silu=True), (20, 12, 4, 4)),
    "norm and silu of many": (
        Silu(64),
        lambda m: fast_cpu.Norm(m[0], silu=True),
        (50, 64, 8, 8),
    ),
    "excite": (
        SqueezeExcite(16, act_layer=nn.SiLU),
        fast_cpu.Excite,
        (7, 16, 4, 4),
    ),
}


def derived(
    module: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor, g: Tensor
) -> list[Tensor]:
    """Return the output, the gradients of input and weights, and the buffers after it."""
    x = x.clone().requires_grad_()
    out = call(x)
    out.backward(g)
    assert x.grad is not None
    weights = [w.grad for w in module.parameters()]
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


@pytest.mark.parametrize(("stride", "channels"), [(1, 1), (2, 3)])
def test_the_stem_is_a_convolution_and_gives_its_images_no_gradient(stride, channels) -> None:
    conv = convolution(channels, 8, kernel=3, stride=stride)
    x = torch.randn(40, channels, 9, 8, generator=seeded())
    exact = copy.deepcopy(conv).double()
    wanted = exact(x.double())
    out = fast_cpu.run(fast_cpu.Stem(conv), x)
    g = torch.randn(out.shape, generator=seeded(1))
    out.backward(g)
    wanted.backward(g.double())
    assert away([out, conv.weight.grad], [wanted, exact.weight.grad]) < CLOSE
    assert x.grad is None


# Whole networks


def step(net: nn.Module, x: Tensor, *, noise: bool = False) -> Tensor:
    """Do a forward and a backward pass; return the loss."""
    labels = torch.arange(len(x)) % 10
    rates = torch.full((len(x),), 0.3, dtype=x.dtype) if noise else None
    loss = nn.functional.cross_entropy(net(x, rates, rates, seeded(5)), labels)
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("micro-b0", (200, 1, 8, 8)),
        ("micro-b0", (64, 1, 14, 14)),
        ("micro-b4", (40, 1, 8, 8)),
        ("small-b0", (8, 3, 32, 32)),
    ],
)
def test_gradients_and_statistics_are_those_of_the_plain_network(name, shape) -> None:
    plain = build(name, shape[1], 10, 0, 0).train()
    own = fast(copy.deepcopy(plain)).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(plain).double()
    x = torch.randn(shape, generator=seeded())
    losses = [step(own, x), step(exact, x.double()), step(plain, x)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=CLOSE)
    grads = [[w.grad for w in net.parameters()] for net in (own, exact, plain)]
    # in deep networks torch's own float32 is that far from float64, too
    assert away(grads[0], grads[1]) < max(CLOSE, 3 * away(grads[2], grads[1]))
    buffers = [[b.double() for b in net.buffers()] for net in (own, exact)]
    assert away(buffers[0], buffers[1]) < CLOSE


def test_dropped_rows_are_those_of_the_plain_network() -> None:
    plain = build("micro-b2", 1, 10, 0, 0).train()
    own = fast(copy.deepcopy(plain))
    x = torch.randn(60, 1, 8, 8, generator=seeded())
    assert step(own, x, noise=True).item() == pytest.approx(step(plain, x, noise=True).item())
    grads = [[w.grad.double() for w in net.parameters()] for net in (own, plain)]
    assert away(grads[0], grads[1]) < CLOSE


def trained(monkeypatch, change: Callable[[nn.Module], nn.Module]) -> Tensor:
    """Return the averaged weights after a short training of a network that `change` changed."""
    recipe = Recipe().set({"train.epochs": 1, "train.lr": 0.01, "train.ema": 0.5})
    with monkeypatch.context() as patch:
        prepared = training._prepared
        patch.setattr(training, "_prepared", lambda net, on: prepared(change(net), on))
        average = training.train(recipe, load(recipe.data, 0))
    return torch.cat([w.detach().flatten() for w in average.parameters()])


def test_a_run_ends_where_the_plain_one_does(monkeypatch) -> None:
    runs: list[str] = []
    chain = fast_cpu.run
    monkeypatch.setattr(fast_cpu, "run", lambda *given: runs.append("chain") or chain(*given))
    plain = trained(monkeypatch, lambda net: net)
    assert not runs
    own = trained(monkeypatch, fast)
    assert runs
    first = build(Recipe().model, 1, 10, 0, 0)
    start = torch.cat([w.detach().flatten() for w in first.parameters()])
    assert (own - plain).norm() < 1e-3 * (plain - start).norm()


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


def of_several_processes(net: NoisedNet) -> Tensor:
    norm = net.net.bn1
    norm.forward = partial(type(norm).forward, norm)
    return torch.randn(20, 1, 8, 8)


def frozen(net: NoisedNet) -> Tensor:
    freeze(net, 1)
    return torch.randn(20, 1, 8, 8)


PLAIN: dict[str, Callable[[NoisedNet], Tensor]] = {
    "batch norm over several processes": of_several_processes,
    "a frozen stage": frozen,
    "images that want a gradient": lambda net: torch.randn(20, 1, 8, 8).requires_grad_(),
    "prediction": lambda net: net.eval() and torch.randn(20, 1, 8, 8),
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_plain_layers_run_where_a_chain_cannot(monkeypatch, name: str) -> None:
    monkeypatch.setattr(fast_cpu, "run", lambda *given: pytest.fail("a chain ran"))
    plain = build("micro-b0", 1, 10, 0, 0).train()
    own = fast(copy.deepcopy(plain))
    torch.manual_seed(0)
    x = PLAIN[name](own)
    PLAIN[name](plain)
    assert torch.equal(own(x), plain(x))


def test_a_compiled_network_is_the_plain_one(monkeypatch) -> None:
    monkeypatch.setattr(fast_cpu, "run", lambda *given: pytest.fail("a chain ran"))
    plain = build("micro-b0", 1, 10, 0, 0).train()
    own = fast(copy.deepcopy(plain))
    own.compile(fullgraph=True, backend="eager")
    x = torch.randn(20, 1, 8, 8, generator=seeded())
    assert torch.equal(own(x), plain(x))


def test_other_networks_stay_as_they_are() -> None:
    net = build("micro-resnet8", 1, 10, 0, 0)
    types = [type(module) for module in net.modules()]
    assert [type(module) for module in fast(net).modules()] == types


def test_blocks_that_are_not_known_run_plain(monkeypatch) -> None:
    monkeypatch.setattr(fast_cpu, "run", lambda *given: pytest.fail("a chain ran"))
    plain = build("efficientnet_es", 3, 10, 0, 0).train()  # blocks without a depthwise layer
    x = torch.randn(4, 3, 32, 32, generator=seeded())
    assert torch.equal(fast(copy.deepcopy(plain))(x), plain(x))


# Prediction


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
    left = sum(isinstance(m, nn.BatchNorm2d) for m in folded(net).modules())
    assert (left == 0) == (name != "micro-resnet8")
