"""Measurements of a trained network: {name: value} by group, percentages all of them.

Every draw is from a stream of the seed that knows nothing of the arm, so that arms are compared on
the same corrupted images.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ns_bench.data import glyphs
from ns_bench.data.split import Dataset
from ns_bench.data.streams import stream
from ns_bench.errors import UserError
from ns_bench.recipe import own_code
from ns_bench.robustness import (
    CORRUPTIONS,
    EPSILONS,
    EXTRA,
    OTHER,
    OVERLAPPING,
    PERTURBATIONS,
    PGD_EPSILONS,
    SEVERITIES,
)
from ns_bench.robustness.adversarial import gradient, pgd
from ns_bench.robustness.corruptions import corrupt
from ns_bench.robustness.perturbations import flips, frames
from ns_bench.selftrain.evaluate import predict, score

_CHUNK = 1024
"""Images corrupted or attacked at a time; what is drawn depends on it."""

Tick = Callable[[], None]
"""Is called every now and then: a sign of life, or a reason to stop."""


def measure(
    group: str, net: nn.Module, dataset: Dataset, seed: int, tick: Tick
) -> dict[str, float]:
    """Return the metrics of a group of `ns_bench.robustness.GROUPS` on the test images, or the one
    of one's own that is called "".

    Args:
        net: with the weights to measure, on any device; it is left in eval mode and channels-last,
            which takes two thirds of the time on a CPU.
        dataset: the seed's split.
        tick: is called after every few predictions.

    Raises:
        UserError: one's own is not to be found, or is no finite number.
    """
    net.eval().to(memory_format=torch.channels_last)
    if own_code.is_reference(group):
        metric, logits = own_code.load(group), predict(net, dataset.test.images)
        try:
            value = float(metric(logits, dataset.test.labels))
        except Exception as error:  # whatever it is, of somebody else's code
            raise UserError(f"{group}: {type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise UserError(f"{group}: {value}: expected a finite number")
        return {"": value}
    return _MEASURES[group](net, dataset, seed, tick)


def _corruption(net: nn.Module, dataset: Dataset, seed: int, tick: Tick) -> dict[str, float]:
    """Top-1 by corruption (mean over severities) and by severity (mean over the 15), and means.

    A drop is clean top-1 minus corrupted top-1: what robustness is beyond accuracy, in the sense of
    Taori et al. 2020's effective robustness in its simplest form.
    """
    test = dataset.test
    clean = score(predict(net, test.images), test.labels)["top1"]
    top1: dict[str, dict[int, float]] = {}
    ece = 0.0
    for name in (*CORRUPTIONS, *EXTRA):
        for severity in SEVERITIES:
            logits = []
            for at, images in enumerate(test.images.split(_CHUNK)):
                draws = stream(seed, "corruption", name, severity, at)
                corrupted = corrupt(images, name, severity, draws)
                logits.append(predict(net, corrupted))
                tick()
            scores = score(torch.cat(logits), test.labels)
            top1.setdefault(name, {})[severity] = scores["top1"]
            ece += scores["ece"] if name in CORRUPTIONS else 0.0
    mean = {name: sum(values.values()) / len(values) for name, values in top1.items()}

    def over(names: tuple[str, ...]) -> float:
        return sum(mean[name] for name in names) / len(names)

    return {
        "top1": over(CORRUPTIONS),
        "drop": clean - over(CORRUPTIONS),
        "overlapping_top1": over(tuple(OVERLAPPING)),
        "overlapping_drop": clean - over(tuple(OVERLAPPING)),
        "other_top1": over(OTHER),
        "other_drop": clean - over(OTHER),
        "ece": ece / (len(CORRUPTIONS) * len(SEVERITIES)),
        **mean,
        **{
            f"severity_{s}": sum(top1[name][s] for name in CORRUPTIONS) / len(CORRUPTIONS)
            for s in SEVERITIES
        },
    }


def _perturbation(net: nn.Module, dataset: Dataset, seed: int, tick: Tick) -> dict[str, float]:
    """Flip probability by sequence, and their mean."""
    probability = {}
    for name in PERTURBATIONS:
        labels = []
        for at, images in enumerate(dataset.test.images.split(_CHUNK)):
            draws = stream(seed, "perturbation", name, at)
            sequence = []
            for frame in frames(images, name, draws):
                sequence.append(predict(net, frame).argmax(1))
                tick()
            labels.append(torch.stack(sequence))
        probability[name] = flips(torch.cat(labels, 1), name)
    return {"flips": sum(probability.values()) / len(probability), **probability}


def _adversarial(net: nn.Module, dataset: Dataset, seed: int, tick: Tick) -> dict[str, float]:
    """Top-1 under FGSM and PGD by size; PGD starts at a random point of the ball."""
    device = next(net.parameters()).device
    right = {f"fgsm_{e}": 0 for e in EPSILONS} | {f"pgd_{e}": 0 for e in PGD_EPSILONS}

    def count(attacked: Tensor, truth: Tensor) -> int:
        with torch.inference_mode():
            return int((net(attacked).argmax(1) == truth).sum())

    parts = zip(dataset.test.images.split(_CHUNK), dataset.test.labels.split(_CHUNK), strict=True)
    for at, (part, labels) in enumerate(parts):
        images, truth = part.to(device).float(), labels.to(device)
        noise = torch.rand(images.shape, generator=stream(seed, "adversarial", at)).to(device)
        uphill = gradient(net, images, truth).sign()  # the same for every size
        for e in EPSILONS:
            right[f"fgsm_{e}"] += count((images + e * uphill).clamp(0, 255), truth)
            tick()
        for e in PGD_EPSILONS:
            start = images + e * (2 * noise - 1)
            attacked = pgd(net, images, truth, e, start=start)
            right[f"pgd_{e}"] += count(attacked, truth)
            tick()
    return {name: 100 * n / len(dataset.test) for name, n in right.items()}


def _out_of_domain(net: nn.Module, dataset: Dataset, seed: int, tick: Tick) -> dict[str, float]:
    """Tell test images from foreign ones by the largest probability (Hendrycks and Gimpel 2017).

    The foreign images are characters that are no class of any data set: as many as there are test
    images, drawn at their size (8 to 64 pixels, then resized), in grey.
    """
    test = dataset.test
    foreign = strangers(test.images.shape, dataset.classes, seed)
    known, strange = (predict(net, images).softmax(1).amax(1) for images in (test.images, foreign))
    tick()
    return {
        "auroc": 100 * auroc(known, strange),
        "confidence": 100 * strange.mean().item(),
        "confidence_in_domain": 100 * known.mean().item(),
    }


def strangers(shape: Sequence[int], classes: int, seed: int) -> Tensor:
    """Draw characters that are no class: uint8 of shape [N, C, H, W]."""
    count, channels, height, width = shape
    side = min(max(height, width, glyphs.MIN_PIXELS), glyphs.MAX_PIXELS)
    drawn = glyphs.out_of_domain(
        count,
        "characters",
        classes=min(max(classes, 10), 36),
        pixels=side,
        difficulty=1.0,
        generator=stream(seed, "out of domain"),
    )
    if (side, side) != (height, width):
        drawn = torch.nn.functional.interpolate(drawn.float(), (height, width), mode="bilinear")
        drawn = drawn.round().to(torch.uint8)
    return drawn.expand(-1, channels, -1, -1).contiguous()


def auroc(positive: Tensor, negative: Tensor) -> float:
    """Return how often a score of `positive` is above one of `negative`, a tie being half."""
    ordered = negative.double().sort().values
    below, up_to = (
        torch.searchsorted(ordered, positive.double(), right=right) for right in (False, True)
    )
    return ((below + up_to).double().mean() / (2 * len(ordered))).item()


_MEASURES: dict[str, Callable[[nn.Module, Dataset, int, Tick], dict[str, float]]] = {
    "corruption": _corruption,
    "perturbation": _perturbation,
    "adversarial": _adversarial,
    "out_of_domain": _out_of_domain,
}
