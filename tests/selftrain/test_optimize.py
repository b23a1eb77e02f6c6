"""Updates of the weights and of their average, and the learning rate."""

import copy
import io
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from builders import seeded
from timm.optim import Lion
from torch import nn

from ns_bench.recipe import Train
from ns_bench.selftrain.models import build
from ns_bench.selftrain.optimize import (
    EndToEnd,
    State,
    learning_rate,
    make_optimizer,
    update_average,
    weight_groups,
)

torch.set_num_threads(1)


# Schedule


def test_the_rate_warms_up_and_falls_by_stairs() -> None:
    spec = Train(lr=0.128, epochs=350, warmup_epochs=5, decay_rate=0.97, decay_epochs=2.4)
    assert learning_rate(spec, 1.0) == pytest.approx(0.128 / 5)
    assert learning_rate(spec, 2.5) == pytest.approx(0.128 / 2)
    assert learning_rate(spec, 4.999) == pytest.approx(0.128, rel=1e-3)
    assert learning_rate(spec, 5.0) == pytest.approx(0.128 * 0.97**2)
    assert learning_rate(spec, 7.1) == pytest.approx(0.128 * 0.97**2)
    assert learning_rate(spec, 7.3) == pytest.approx(0.128 * 0.97**3)
    assert learning_rate(spec, 349.99) == pytest.approx(0.128 * 0.97**145)
    twice = replace(spec, epochs=700, decay_epochs=4.8)
    assert learning_rate(twice, 699.99) == pytest.approx(0.128 * 0.97**145)


def test_the_stairs_are_flat_between_their_edges() -> None:
    spec = Train(lr=1.0, epochs=50, warmup_epochs=0)
    rates = [learning_rate(spec, i / 100) for i in range(5000)]
    assert len(set(rates)) == math.ceil(50 / 2.4)
    assert rates == sorted(rates, reverse=True)


def test_the_cosine_ends_at_zero() -> None:
    spec = Train(lr=0.4, epochs=100, warmup_epochs=20, schedule="cosine")
    assert learning_rate(spec, 10) == pytest.approx(0.2)
    assert learning_rate(spec, 20) == pytest.approx(0.4)
    assert learning_rate(spec, 60) == pytest.approx(0.2)
    assert learning_rate(spec, 40) == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(spec, 100) == pytest.approx(0.0, abs=1e-9)
    assert learning_rate(spec, 101) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("warmup", [0, 6, 50])
def test_a_warm_up_of_nothing_or_of_everything(warmup: int) -> None:
    for schedule in ("cosine", "staircase"):
        spec = Train(lr=1.0, epochs=6, warmup_epochs=warmup, schedule=schedule)
        rates = [learning_rate(spec, step / 10) for step in range(1, 61)]
        assert all(0 <= rate <= 1 for rate in rates)
        assert rates[0] == pytest.approx(0.1 / warmup) if warmup else rates[0] > 0.99


@pytest.mark.parametrize(
    ("optimizer", "biases"),
    [("rmsprop", False), ("sgd", False), ("rmsprop", True), ("adamw", False), ("lion", True)],
)
def test_weight_decay_spares_norms_and_biases(optimizer: str, biases: bool) -> None:
    net = build("micro-b1", 1, 10, 0, 0)
    spec = Train(optimizer=optimizer, weight_decay=0.5, lr=0.1)  # type: ignore[arg-type]
    updater = make_optimizer(weight_groups(net, biases), spec)
    with torch.no_grad():  # a norm's weight of 1 and bias of 0 would hide what decays
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=seeded()))
    before = copy.deepcopy(net)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    updater.step()
    moved = 0
    for (name, module), old in zip(net.named_modules(), before.modules(), strict=True):
        for kind, p in module.named_parameters(recurse=False):
            spared = (kind == "bias" and not biases) or isinstance(module, nn.BatchNorm2d)
            same = torch.equal(p, getattr(old, kind))
            assert same == spared, f"{name}.{kind}"
            moved += not same
    assert moved > 10
    trained = [p for group in updater.param_groups for p in group["params"]]
    assert len({id(p) for p in trained}) == len(trained) == len(list(net.parameters()))


def test_rmsprop_is_tensorflows() -> None:
    """Epsilon 1e-3 inside the root, decay 0.9, mean square from 1, the rate inside momentum."""
    p = nn.Linear(3, 2, bias=False)
    updater = make_optimizer(
        weight_groups(p), Train(optimizer="rmsprop", weight_decay=0.0, momentum=0.9)
    )
    weight, square, moment = p.weight.detach().clone(), torch.ones(2, 3), torch.zeros(2, 3)
    for step, rate in enumerate((0.1, 0.1, 0.02)):
        gradient = torch.randn(2, 3, generator=seeded(step))
        p.weight.grad = gradient.clone()
        for group in updater.param_groups:
            group["lr"] = rate
        updater.step()
        square = 0.9 * square + 0.1 * gradient**2
        moment = 0.9 * moment + rate * gradient / (square + 1e-3).sqrt()
        weight = weight - moment
        torch.testing.assert_close(p.weight.detach(), weight)


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        ("adamw", partial(torch.optim.AdamW, betas=(0.8, 0.95), weight_decay=0.1, foreach=False)),
        ("lion", partial(Lion, betas=(0.8, 0.95), weight_decay=0.1, foreach=False)),
    ],
)
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_state_moves_as_the_reference_does(
    optimizer: str, reference: Callable[..., torch.optim.Optimizer], clip: float
) -> None:
    """Weights laid end to end, with another rate in each step, of gradients that are cut."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False))
    plain = copy.deepcopy(net)
    fields = {"momentum": 0.8, "beta2": 0.95, "weight_decay": 0.1, "clip_grad": clip, "ema": 0.5}
    state = State(net, Train(optimizer=optimizer, **fields))  # type: ignore[arg-type]
    updater = reference(plain.parameters(), lr=1.0)
    for step, rate in enumerate((0.1, 0.01, 0.05)):
        x = torch.randn(7, 6, generator=seeded(step))
        for each in (net, plain):
            each.zero_grad()
            (10 * each(x)).square().mean().backward()
        before = nn.utils.get_total_norm([p.grad for p in plain.parameters() if p.grad is not None])
        assert before > 0.5
        if clip:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        updater.param_groups[0]["lr"] = rate
        updater.step()
        state.update(rate, step)
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_averages_take_in_batch_statistics() -> None:
    average, net = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        net.running_mean.fill_(1.0)  # type: ignore[union-attr]
        net.weight.fill_(3.0)
    means, weights = EndToEnd(average).tensors, EndToEnd(net).tensors
    update_average(means, weights, decay=0.5, step=1000)
    assert average.running_mean.tolist() == [0.5, 0.5]  # type: ignore[union-attr]
    assert average.weight.tolist() == [2.0, 2.0]
    update_average(means, weights, decay=0.5, step=0)  # the warm-up takes 1/10 of the old
    torch.testing.assert_close(average.weight.detach(), torch.full((2,), 2.9))


# Weights laid end to end


class Unused(nn.Module):
    """A network with a weight that no forward pass meets, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used, self.frozen, self.unused = nn.Linear(64, 10), nn.Linear(64, 64), nn.Linear(3, 3)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(self.frozen(x.flatten(1)))


NETS: dict[str, Callable[[], nn.Module]] = {
    **{
        name: partial(build, name, 1, 10, 0, 0)
        for name in ("micro-b0", "micro-resnet8", "small-b0", "resnet18", "vit_tiny_patch16_224")
    },
    "unused": Unused,
}


def steps(net: nn.Module, spec: Train, laid: bool, pixels: int) -> list[torch.Tensor]:
    """Return weights and averages after some steps, weights laid end to end or each on its own."""
    net = net.to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(net)
    weights, means = (EndToEnd(net), EndToEnd(average)) if laid else (None, None)
    groups = [[each] for each in weights.weights] if weights else weight_groups(net)
    optimizer = make_optimizer(groups, spec)
    for step in range(3):
        x = torch.randn(2, 1, pixels, pixels, generator=seeded(step))
        net.zero_grad()
        net(x.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        if weights and means:
            weights.take_gradients()
            assert all(w.grad is None for w in net.parameters())
        optimizer.step()
        if weights and means:
            update_average(means.tensors, weights.tensors, 0.9, step)
        else:
            each = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
            floats = [(a, b) for a, b in each if a.is_floating_point()]
            update_average([a for a, _ in floats], [b for _, b in floats], 0.9, step)
    return [*net.state_dict().values(), *average.state_dict().values()]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd", "adamw", "lion"])
@pytest.mark.parametrize("name", NETS)
def test_laid_end_to_end_they_move_as_one_by_one(name: str, optimizer: str) -> None:
    spec = Train(optimizer=optimizer, lr=0.1, weight_decay=0.01)  # type: ignore[arg-type]
    pixels = 224 if "vit" in name else 8
    if name == "unused":  # what nothing depends on would decay
        spec = replace(spec, weight_decay=0.0)
    alone, laid = (steps(NETS[name](), spec, how, pixels) for how in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(alone, laid, strict=True))
    first = next(iter(NETS[name]().state_dict().values()))
    assert not torch.equal(laid[0], first)


def test_what_is_laid_end_to_end_stays_the_networks_own() -> None:
    net = build("micro-b0", 1, 10, 0, 0).to(memory_format=torch.channels_last)
    before = copy.deepcopy(net)
    laid = EndToEnd(net)
    assert sum(w.numel() for w in laid.weights) == sum(w.numel() for w in net.parameters())
    for own, old in zip(net.parameters(), before.parameters(), strict=True):
        assert torch.equal(own, old)
        assert own.stride() == old.stride()
    with torch.no_grad():
        for weights in laid.weights:
            weights.zero_()
    assert not any(own.any() for own in net.parameters())
    net.load_state_dict(before.state_dict())
    assert all(weights.any() for weights in laid.weights)


def test_a_checkpoint_of_them_writes_each_weight_once() -> None:
    net = build("micro-b0", 1, 10, 0, 0)
    EndToEnd(net)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    numbers = sum(value.numel() for value in net.state_dict().values())
    assert len(buffer.getvalue()) < 2 * 4 * numbers
    buffer.seek(0)
    read = torch.load(buffer, weights_only=True)
    assert all(torch.equal(read[name], value) for name, value in net.state_dict().items())
