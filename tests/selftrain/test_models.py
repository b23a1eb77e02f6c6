"""Networks: the micro family, any timm model, and noise with a rate for each row."""

import copy
import math
from typing import Any

import pytest
import timm
import torch
from builders import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ns_bench.errors import UserError
from ns_bench.selftrain.models import MICRO, NANO, NoisedNet, build

torch.set_num_threads(1)

EFFICIENTNET = {  # (width, depth) of B0 to B4 in the paper's architecture table and official code
    "micro-b0": (1.0, 1.0),
    "micro-b1": (1.0, 1.1),
    "micro-b2": (1.1, 1.2),
    "micro-b3": (1.2, 1.4),
    "micro-b4": (1.4, 1.8),
}


def frozen_norms(name: str = "micro-b2", channels: int = 1) -> NoisedNet:
    """Return a network in train mode but for its batch norms, whose statistics are not trivial."""
    net = build(name, channels, 10, seed=0, generation=0).train()
    with torch.no_grad():
        net(torch.randn(64, channels, 8, 8, generator=seeded(1)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net


def images(batch: int, channels: int = 1, size: int = 8, seed: int = 2) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=seeded(seed))


def blocks(net: NoisedNet) -> list[nn.Module]:
    return [block for stage in net.net.blocks for block in stage]


def branches(net: NoisedNet, x: Tensor, rates: Tensor | None, seed: int) -> list[Tensor | None]:
    """Return what each residual block adds to its input, [B, C, H, W]; None without a shortcut."""
    added: list[Tensor | None] = []
    hooks = [
        block.register_forward_hook(
            lambda block, given, out: added.append(out - given[0] if block.has_skip else None)
        )
        for block in blocks(net)
    ]
    with torch.no_grad():
        net(x, None, rates, seeded(seed))
    for hook in hooks:
        hook.remove()
    return added


def stage_widths(net: NoisedNet) -> list[int]:
    """Return the channels of the stem, of each stage and of the features."""
    widths = [net.net.conv_stem.out_channels]
    hooks = [
        stage[-1].register_forward_hook(lambda _, given, out: widths.append(out.shape[1]))
        for stage in net.net.blocks
    ]
    with torch.no_grad():
        net.eval()(images(1))
    for hook in hooks:
        hook.remove()
    return [*widths, net.net.get_classifier().in_features]


# The micro family


def test_the_family_has_the_papers_coefficients() -> None:
    assert MICRO == EFFICIENTNET


def test_the_family_grows() -> None:
    sizes = [sum(p.numel() for p in build(name, 1, 10, 0, 0).parameters()) for name in MICRO]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", MICRO)
def test_width_and_depth_scale_as_efficientnet_does(name: str) -> None:
    width, depth = EFFICIENTNET[name]
    net, base = build(name, 1, 10, 0, 0), build("micro-b0", 1, 10, 0, 0)
    repeats = [len(stage) for stage in net.net.blocks]
    assert repeats == [math.ceil(depth * len(stage)) for stage in base.net.blocks]
    pairs = zip(stage_widths(net), stage_widths(base), strict=True)
    for wide, narrow in pairs:
        assert wide % 4 == 0
        assert abs(wide - width * narrow) <= 2  # the nearest multiple of 4


@pytest.mark.slow
@pytest.mark.parametrize("name", MICRO)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (32, 3)])
def test_the_family_takes_small_images(name: str, size: int, channels: int) -> None:
    net = build(name, channels, 7, 0, 0).train()
    logits = net(images(4, channels, size), torch.full((4,), 0.2), torch.full((4,), 0.2), seeded())
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", NANO)
@pytest.mark.parametrize("size", [14, 28])
def test_nano_networks_are_micro_ones_of_another_width_with_a_stem_of_stride_two(
    name: str, size: int
) -> None:
    net, base = build(name, 1, 10, 0, 0).train(), build("micro-b0", 1, 10, 0, 0)
    assert [len(stage) for stage in net.net.blocks] == [len(stage) for stage in base.net.blocks]
    for wide, narrow in zip(stage_widths(net), stage_widths(base), strict=True):
        # a multiple of 4, the next one where the nearest takes more than a tenth away
        assert wide % 4 == 0 and 0.9 * NANO[name] * narrow <= wide < NANO[name] * narrow + 4
    seen: list[int] = []
    for part in (net.net.conv_stem, *net.net.blocks):
        part.register_forward_hook(lambda _, given, out: seen.append(out.shape[-1]))
    noise = torch.full((4,), 0.2)
    logits = net.train()(images(4, 1, size), noise, noise, seeded())
    assert seen == {14: [7, 7, 4, 2], 28: [14, 14, 7, 4]}[size]
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_nano_family_spans_forty_times_the_weights() -> None:
    sizes = [sum(p.numel() for p in build(name, 1, 10, 0, 0).parameters()) for name in NANO]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] >= 40 * sizes[0]


@pytest.mark.parametrize(
    ("name", "last"), [("micro-b0", 4 / 5), ("small-b0", 15 / 16), ("micro-resnet14", 1.0)]
)
def test_drop_rates_rise_to_the_last_block(name: str, last: float) -> None:
    """By i/n in EfficientNets, as official, and by i/(n - 1) in ResNets, as in timm."""
    depths = [block.depth for block in build(name, 1, 10, 0, 0).drop_paths]
    assert depths[-1] == pytest.approx(last)
    assert depths == sorted(set(depths))


# Any timm model


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_atto", "densenet121"])
def test_a_timm_model_by_name(name: str) -> None:
    net = build(name, 3, 7, 0, 0).eval()
    x = images(2, 3, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net.net(x))  # nothing of the forward pass is lost
        net.train()
        assert net(x, torch.full((2,), 0.3), torch.full((2,), 0.3), seeded()).shape == (2, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnetv2_50", "mobilevit_xxs", "levit_128s"])
def test_an_unusual_timm_model_works_or_is_refused_in_a_line(name: str) -> None:
    """A convolution or a pair as classifier, residual blocks on patches instead of images."""
    size = 224 if name.startswith("levit") else 64
    try:
        net = build(name, 3, 7, 0, 0)
    except UserError as error:
        assert name in str(error)
        return
    x = images(2, 3, size)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), net.net.eval()(x))
        net.train()
        assert net(x, torch.full((2,), 0.3), torch.full((2,), 0.3), seeded()).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet81", "resnet18"), ("micro-b9", "micro-b"), ("micro-B2", "micro-b2")]
)
def test_an_unknown_name_is_an_error_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UserError) as error:
        build(name, 3, 10, 0, 0)
    message = str(error.value)
    assert name in message
    assert f"did you mean '{near}" in message
    assert "\n" not in message


def test_no_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    real = timm.create_model

    def offline(name: str, *args: object, **options: Any) -> nn.Module:
        assert not options.get("pretrained", False)
        assert not args
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    build("resnet18", 3, 10, 0, 0)


# Initial weights


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro-b1", "resnet18"])
def test_weights_depend_on_seed_and_generation_alone(name: str) -> None:
    def weights(seed: int, generation: int) -> Tensor:
        net = build(name, 1, 10, seed, generation)
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    torch.manual_seed(1)
    first = weights(3, 0)
    torch.manual_seed(2)
    torch.rand(5)
    assert torch.equal(first, weights(3, 0))
    assert not torch.equal(first, weights(4, 0))
    assert not torch.equal(first, weights(3, 1))


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    net = build("micro-b1", 1, 10, 0, 0).train()
    assert torch.equal(before, torch.get_rng_state())
    net(images(4), torch.full((4,), 0.5), torch.full((4,), 0.5), seeded())
    assert torch.equal(before, torch.get_rng_state())


# Noise by row


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    noisy=st.lists(st.booleans(), min_size=2, max_size=12),
    kind=st.sampled_from(["dropout", "depth", "both"]),
    seed=st.integers(0, 2**31),
)
def test_rows_without_noise_are_exactly_clean(noisy: list[bool], kind: str, seed: int) -> None:
    net = frozen_norms()
    x = images(len(noisy))
    rates = torch.tensor([0.9 if n else 0.0 for n in noisy])
    none = torch.zeros(len(noisy))
    dropout, depth = none if kind == "depth" else rates, none if kind == "dropout" else rates
    with torch.no_grad():
        clean, noised = net(x), net(x, dropout, depth, seeded(seed))
    for row, is_noisy in enumerate(noisy):
        if not is_noisy:
            assert torch.equal(clean[row], noised[row])
        elif kind != "depth":  # 100 features: one of them is dropped for certain
            assert not torch.equal(clean[row], noised[row])


@pytest.mark.parametrize("name", MICRO)
def test_stochastic_depth_changes_the_result_of_every_model(name: str) -> None:
    net, x = frozen_norms(name), images(64)
    with torch.no_grad():
        clean, noised = net(x), net(x, None, torch.full((64,), 0.9), seeded())
    assert (clean != noised).any()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), [("micro-b1", 0.8), ("micro-b4", 0.5)])
def test_stochastic_depth_decays_linearly(name: str, rate: float) -> None:
    """Block i of n is dropped with i/n of the rate, for each row on its own."""
    net, rows = frozen_norms(name), 2000
    x = images(1).expand(rows, -1, -1, -1)
    added = branches(net, x, torch.full((rows,), rate), seed=3)
    n, seen = len(added), 0
    for i, branch in enumerate(added):
        if branch is None:
            continue
        seen += 1
        dropped = (branch.flatten(1) == 0).all(1).float().mean().item()
        expected = rate * i / n
        error = 4 * math.sqrt(expected * (1 - expected) / rows)
        assert dropped == pytest.approx(expected, abs=error + 1e-9), f"block {i} of {n}"
    assert seen >= 4


def test_blocks_are_dropped_independently() -> None:
    net, rows = frozen_norms("micro-b4"), 2000
    added = branches(net, images(1).expand(rows, -1, -1, -1), torch.full((rows,), 0.8), seed=4)
    dropped = torch.stack([(b.flatten(1) == 0).all(1).float() for b in added if b is not None])
    last = dropped[dropped.mean(1) > 0]
    assert len(last) >= 3
    correlation = torch.corrcoef(last) - torch.eye(len(last))
    assert correlation.abs().max() < 4.5 / math.sqrt(rows)


def test_stochastic_depth_is_unbiased() -> None:
    """What is kept is scaled by 1 / (probability to keep it)."""
    net, rows, rate = frozen_norms("micro-b1"), 400, 0.9
    x = images(1).expand(rows, -1, -1, -1)
    clean = branches(net, x, None, seed=5)
    noised = branches(net, x, torch.full((rows,), rate), seed=5)
    assert torch.equal(clean[0], noised[0])  # type: ignore[arg-type]
    # block 1 is the first that can be dropped: its input is the clean one
    keep = 1 - rate / len(clean)
    assert clean[1] is not None
    assert noised[1] is not None
    kept = ~(noised[1].flatten(1) == 0).all(1)
    assert 0 < kept.sum() < rows
    torch.testing.assert_close(noised[1][kept], clean[1][kept] / keep, rtol=1e-4, atol=1e-5)


def test_dropout_is_unbiased_and_at_the_rate_of_its_row() -> None:
    net, rows = frozen_norms(), 500
    x = images(1).expand(rows, -1, -1, -1)
    seen: list[Tensor] = []
    hook = net.net.get_classifier().register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    rates = torch.where(torch.arange(rows) % 2 == 0, 0.25, 0.6)
    with torch.no_grad():
        net(x)
        net(x, rates, None, seeded())
    hook.remove()
    clean, noised = seen
    for rate in (0.25, 0.6):
        here = rates == torch.tensor(rate)
        dropped = (noised[here] == 0) & (clean[here] != 0)
        count = dropped.numel()
        error = 4 * math.sqrt(rate * (1 - rate) / count)
        assert dropped.float().mean().item() == pytest.approx(rate, abs=error)
        torch.testing.assert_close(noised[here][~dropped], clean[here][~dropped] / (1 - rate))


def test_eval_mode_has_no_noise() -> None:
    net, x = build("micro-b2", 1, 10, 0, 0).eval(), images(6)
    with torch.no_grad():
        rates = torch.full((6,), 0.9)
        assert torch.equal(net(x), net(x, rates, rates, seeded()))


def test_noise_of_one_pass_does_not_stay_for_the_next() -> None:
    net, x = frozen_norms(), images(32)
    rates = torch.full((32,), 0.9)
    with torch.no_grad():
        clean = net(x)
        net(x, rates, rates, seeded())
        assert torch.equal(net(x), clean)
        net(x, rates, rates, seeded())
        net.eval()
        assert torch.equal(net(x), clean)


def test_rows_share_batch_statistics() -> None:
    """Labeled and unlabeled rows are normalised together, as in one plain pass over both."""
    x = torch.cat([images(8, seed=3), 5 * images(24, seed=4) + 2])
    dropout = torch.cat([torch.zeros(8), torch.full((24,), 0.5)])
    noised, plain, apart = (build("micro-b1", 1, 10, 0, 0).train() for _ in range(3))
    with torch.no_grad():
        noised(x, dropout, torch.zeros(32), seeded())
        plain(x)
        apart(x[:8])
        apart(x[8:])
    for name, value in noised.named_buffers():
        assert torch.equal(value, dict(plain.named_buffers())[name]), name
    first = "net.bn1.running_mean"
    assert not torch.allclose(noised.state_dict()[first], apart.state_dict()[first])


def test_draws_come_from_the_generator_that_is_given() -> None:
    net, x, rates = frozen_norms(), images(16), torch.full((16,), 0.5)
    with torch.no_grad():
        torch.manual_seed(0)
        first = net(x, rates, rates, seeded(1))
        torch.manual_seed(99)
        again = net(x, rates, rates, seeded(1))
        other = net(x, rates, rates, seeded(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dropout_draws_do_not_move_with_the_depth_rate() -> None:
    """Taking one kind of noise away leaves the draws of the other: arms stay paired."""
    net, x, rates = frozen_norms(), images(16), torch.full((16,), 0.5)
    seen: list[Tensor] = []
    hook = net.net.get_classifier().register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    with torch.no_grad():
        net(x, rates, torch.zeros(16), seeded(1))
        net(x, rates, torch.full((16,), 0.9), seeded(1))
    hook.remove()
    assert torch.equal(seen[0] == 0, seen[1] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro-b1", "micro-resnet8"])
def test_a_network_is_compiled_whole(name: str) -> None:
    """In one graph, noise included, though without a compiler of machine code; it is the same."""
    plain = build(name, 1, 10, 0, 0).train()
    compiled = copy.deepcopy(plain)
    compiled.compile(fullgraph=True, backend="aot_eager")
    x = torch.randn(6, 1, 8, 8, generator=seeded())
    dropout, depth = torch.full((6,), 0.3), torch.linspace(0, 0.9, 6)
    for step in range(2):
        both = [net(x, dropout, depth, seeded(step)) for net in (plain, compiled)]
        torch.testing.assert_close(*both)
        for logits in both:
            logits.square().sum().backward()
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
