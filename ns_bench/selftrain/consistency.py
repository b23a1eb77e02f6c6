"""Losses of unlabeled rows that are labeled while training, without a teacher's phase before.

In each step a labeler predicts one view of an unlabeled image, and the network is trained to agree
with it on another, noised view. The methods differ in who labels, in what is made of its prediction
and in the distance:

    method         labeler, its view              label                       distance
    pi-model       the network, as noised         its probabilities           squared error
    mean-teacher   its average (EMA), weak        its probabilities           squared error
    uda            the network, weak              sharpened, where confident  KL divergence
    fixmatch       the network, weak              top class, where confident  cross entropy
    co-training    the other half's, weak         top class, where confident  cross entropy

A weak view is shifted and, where the noise mirrors, mirrored (`ns_bench.selftrain.noise.weak`).
The noised view is the one a noisy student has, in every method: RandAugment, dropout and stochastic
depth, where the first two papers shift, mirror and add Gaussian noise.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ns_bench.recipe import Consistency
from ns_bench.selftrain.loss import cross_entropy


def unlabeled_loss(spec: Consistency, logits: Tensor, labeler: Tensor) -> Tensor:
    """Return the loss of each unlabeled row, float32 [rows], before its weight.

    `pi-model`: Laine & Aila 2017 (arXiv 1610.02242), Algorithm 1: squared difference of the
    probabilities, mean over the classes; both views have a gradient. `mean-teacher`: Tarvainen &
    Valpola 2017 (arXiv 1703.01780), equation 1, the same against the averaged network. `uda`: Xie
    et al. 2020 (arXiv 1904.12848), equation 1 with the confidence mask and sharpening of section
    2.4, but without its annealing of labeled rows. `fixmatch`: Sohn et al. 2020 (arXiv 2001.07685),
    equation 4. `co-training`: the same loss against the label of the network of the other half.

    Args:
        logits: of the network on the noised view, [rows, classes].
        labeler: logits of the labeler on its view, [rows, classes]; without a gradient, but for
            `pi-model`.
    """
    if spec.method in ("pi-model", "mean-teacher"):
        return (logits.softmax(1) - labeler.softmax(1)).square().mean(1)
    confidence, label = labeler.softmax(1).max(1)
    sure = confidence >= spec.threshold
    if spec.method == "uda":
        target = (labeler / spec.temperature).log_softmax(1)
        divergence = functional.kl_div(
            logits.log_softmax(1), target, reduction="none", log_target=True
        )
        return divergence.sum(1) * sure
    return functional.cross_entropy(logits, label, reduction="none") * sure


def joint_losses(
    spec: Consistency,
    logits: Tensor,
    targets: Tensor,
    labeled: int,
    average: Tensor | None,
    weight: float,
) -> Tensor:
    """Return the loss of each labeled and each unlabeled row of a batch, float32 [rows].

    Args:
        logits: [labeled + unlabeled + other views, classes], float32; of co-training's two
            networks [2, ..., classes], of which each labels for the other, and the losses are
            summed. Other views are those of the unlabeled rows that the network labels.
        targets: [labeled + unlabeled, classes], of which the first `labeled` count.
        average: the averaged network's logits on the other views, in place of these rows.
        weight: of the unlabeled rows' loss.
    """
    rows = len(targets)
    each = logits if logits.ndim == 3 else logits[None]
    labelers = each[:, rows:] if average is None else average[None]
    if spec.method != "pi-model":
        labelers = labelers.detach()
    losses = []
    for own, labeler in zip(each, labelers.flip(0), strict=True):
        supervised = cross_entropy(own[:labeled], targets[:labeled])
        unsupervised = weight * unlabeled_loss(spec, own[labeled:rows], labeler)
        losses.append(torch.cat([supervised, unsupervised]))
    return torch.stack(losses).sum(0)


def ramp(spec: Consistency, step: int, steps: int) -> float:
    """Return the weight of unlabeled rows at `step` (from 0) of `steps`.

    It rises by the Gaussian exp(-5 (1 - t)^2) of Laine & Aila 2017, section 3, t from 0 to 1.
    """
    passed = min(step / (spec.ramp * steps), 1.0) if spec.ramp else 1.0
    return spec.weight * math.exp(-5 * (1 - passed) ** 2)


class CoTraining(torch.nn.Module):
    """Two networks, one for each half of an image (Blum & Mitchell 1998, sections 2 and 5).

    Each sees its half alone; the other half has the data's mean. Where it trains, their logits
    stay apart; else the class probabilities are multiplied, as there (Table 2, "combined").
    """

    def __init__(self, left: torch.nn.Module, right: torch.nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, images: Tensor, *noise: object) -> Tensor:
        """Return logits [B, classes] of normalised images [B, C, H, W]; [2, B, classes] in
        training. `noise` as in `NoisedNet.forward`."""
        left, right = halves(images)
        logits = torch.stack([self.left(left, *noise), self.right(right, *noise)])
        return logits if self.training else logits.log_softmax(2).sum(0)


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return both views of normalised images [B, C, H, W]: all but a half is 0, the mean."""
    left = torch.arange(images.shape[3], device=images.device) < images.shape[3] // 2
    return images * left, images * ~left
