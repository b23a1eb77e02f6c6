"""Evaluation and labelling on clean images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ns_bench.data.split import Images, Labeled
from ns_bench.data.streams import stream
from ns_bench.recipe import RowNoise
from ns_bench.selftrain.fast_cpu import folded
from ns_bench.selftrain.models import NoisedNet
from ns_bench.selftrain.noise import augment, weak
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.scale.accumulate import out_of_memory
from ns_bench.selftrain.targets import Sparse, sparse

CACHED_PIXELS = 2**16
"""Pixels of a chunk on a CPU: more leave its cache, and take twice the time at 32x32."""

DRAWN = 512
"""Images of a chunk whose noise is drawn together: another number gives other labels."""


@torch.inference_mode()
def predict(net: nn.Module, images: Images) -> Tensor:
    """Return logits, float32 [N, classes], of clean uint8 images [N, C, H, W] in eval mode.

    A batch that does not fit into memory is halved.
    """
    net.eval()
    device, batch = _device(net), 512
    if device.type == "cpu":
        batch = min(batch, max(CACHED_PIXELS // (images.shape[2] * images.shape[3]), 16))
        net = folded(net)

    def logits(chunk: Tensor) -> Tensor:
        try:
            return net(chunk.to(device)).float().cpu()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or len(chunk) == 1:
                raise
        return torch.cat([logits(half) for half in chunk.tensor_split(2)])

    return torch.cat([logits(chunk) for chunk in images.split(batch)])


def predict_sparse(
    net: nn.Module, images: Images, k: int, classes: int, alive: Callable[[], None] = lambda: None
) -> Sparse:
    """Return the `k` most likely classes of clean images, like `predict`, chunk by chunk.

    `alive` is called before each of 1,024 images, and may raise.
    """
    parts = [sparse(torch.zeros(0, classes), k)]
    for chunk in images.split(1024):
        alive()
        parts.append(sparse(predict(net, chunk), k))
    return Sparse(
        torch.cat([part.classes for part in parts]),
        torch.cat([part.log_probabilities for part in parts]),
        classes,
    )


def predict_views(net: nn.Module, images: Images, noise: RowNoise, views: int, seed: int) -> Tensor:
    """Return log-probabilities, float32 [N, classes], of the mean prediction over views.

    The first view is the clean image, the others are weakly augmented (data distillation,
    Radosavovic et al. 2018, section 3.1); the draws come from the stream "views". Several
    processes share the work.
    """
    weakly = weak(noise, images.shape[3])

    def mean(chunk: Tensor, draws: torch.Generator) -> Tensor:
        copies = [chunk, *(augment(chunk, weakly, draws) for _ in range(views - 1))]
        probabilities = predict(net, torch.cat(copies)).softmax(1)
        return probabilities.view(views, len(chunk), -1).mean(0).clamp(min=1e-30).log()

    return _in_chunks(images, _device(net), seed, "views", mean)


@torch.inference_mode()
def predict_noised(net: nn.Module, images: Images, noise: RowNoise, seed: int) -> Tensor:
    """Return logits like `predict`, of noised images through the noised network (Table 6).

    Batch norm keeps its averaged statistics; the draws come from the stream "noised teacher".
    Several processes share the work.
    """
    net.eval()
    for part in net.modules():
        if isinstance(part, NoisedNet):  # its own switch: dropout and stochastic depth, no more
            part.training = True
    device = _device(net)

    def logits(chunk: Tensor, draws: torch.Generator) -> Tensor:
        x = augment(chunk, noise, draws)
        rates = [torch.full((len(x),), rate) for rate in (noise.dropout, noise.stochastic_depth)]
        if device.type != "cpu":  # the network's draws are made where it is
            draws = torch.Generator(device).manual_seed(draws.initial_seed())
        return net(x, *(rate.to(device) for rate in rates), draws).float().cpu()

    try:
        return _in_chunks(images, device, seed, "noised teacher", logits)
    finally:
        net.eval()


def _in_chunks(
    images: Images,
    device: torch.device,
    seed: int,
    purpose: str,
    label: Callable[[Tensor, torch.Generator], Tensor],
) -> Tensor:
    """Return the labels of all images on every process, each chunk from draws of its own."""
    rows = torch.arange(len(images))
    taken = rows[rows // DRAWN % parallel.world() == parallel.rank()]
    labels = [
        label(chunk.to(device), stream(seed, purpose, parallel.rank() + k * parallel.world()))
        for k, chunk in enumerate(images[taken].split(DRAWN))
    ]
    return parallel.assembled(torch.cat(labels), taken, len(images))


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def score(logits: Tensor, labels: Tensor, bins: int = 15) -> dict[str, float]:
    """Return top-1 (%), top-5 (% if more than 10 classes), loss (nats) and calibration error (%).

    The expected calibration error is Guo et al. 2017's: the mean gap between confidence and
    accuracy over `bins` equal bins of confidence, weighted by the rows in them.
    """
    probabilities = logits.softmax(1)
    confidence, label = probabilities.max(1)
    right = (label == labels).float()
    which = (confidence.nan_to_num() * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins).index_add_(0, which, right - confidence)
    scores = {
        "top1": 100 * right.mean().item(),
        "loss": nn.functional.cross_entropy(logits, labels).item(),
        "ece": 100 * (gaps.abs().sum() / len(labels)).item(),
    }
    if logits.shape[1] > 10:
        top5 = logits.topk(5, dim=1).indices
        scores["top5"] = 100 * (top5 == labels[:, None]).any(1).float().mean().item()
    return scores


def evaluate(net: nn.Module, part: Labeled) -> dict[str, float]:
    """Return `score` of `net` on the clean images of `part`; empty if it has no rows."""
    return score(predict(net, part.images), part.labels) if len(part) else {}
