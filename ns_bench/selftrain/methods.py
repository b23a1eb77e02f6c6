"""Methods: what each row of a batch loses. One class is one method.

`Method` is Noisy Student's own, and that of labels alone: every row has a target. `Distillation`
adds a teacher's distribution on labeled rows. In the others unlabeled rows are labeled while
training, without a teacher's phase before: in each step a labeler predicts one view of an image,
and the network is trained to agree with it on another, noised view. They differ in who labels, in
what is made of its prediction, and in the distance:

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
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ns_bench.data.split import Dataset
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe, RowNoise, own_code
from ns_bench.selftrain.loss import criterion_of, distilled_loss
from ns_bench.selftrain.models import Normalise, build
from ns_bench.selftrain.noise import weak


class Batch(NamedTuple):
    """The rows of a step: labeled ones, then unlabeled ones, then other views of the unlabeled.

    Attributes:
        step: from 0.
        images: noised uint8 [rows, C, H, W] that the network sees.
        labeler_images: the other views, uint8 [unlabeled, C, H, W], where the average labels them;
            else they are the last rows of `images`, or None where there are none.
        targets: float32 [labeled + unlabeled, classes]; only those of labeled rows count where
            training labels the others.
        labeled: int64 [labeled], which of the labeled images.
    """

    step: int
    images: Tensor
    labeler_images: Tensor | None
    targets: Tensor
    labeled: Tensor


class Method:
    """Every row has a target, and its loss is the cross entropy with that, or the criterion that
    `train.criterion` names: Noisy Student, and labels alone.

    Attributes:
        online: unlabeled rows are labeled in each step, from another view of them.
        averaged: the averaged network makes these labels, not the one that learns.
        weighting: of the two kinds of rows in a batch, see `loss.loss_weights`.
    """

    online = False
    averaged = False

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.criterion = criterion_of(recipe.train.criterion)
        self.weighting: str = recipe.train.loss

    def network(self, data: Dataset) -> nn.Module:
        """Build what is trained, for the images and classes of `data`."""
        return self._with_normalised(self._build(data), data)

    def losses(self, logits: Tensor, batch: Batch, average: Tensor | None) -> Tensor:
        """Return the loss of each labeled and each unlabeled row, float32 [labeled + unlabeled].

        Args:
            logits: float32 [rows of `batch.images`, classes].
            average: the averaged network's on `batch.labeler_images`.
        """
        return self.criterion(logits, batch.targets)

    def _build(self, data: Dataset, *names: str) -> nn.Module:
        recipe, (_, channels, _, side) = self.recipe, data.labeled.images.shape
        seed, generation = recipe.seed, recipe.generation
        sizes = (channels, data.classes)
        first = str(recipe.pretrained)
        return build(recipe.model, *sizes, seed, generation, *names, side=side, pretrained=first)

    def _with_normalised(self, net: nn.Module, data: Dataset) -> nn.Module:
        net.normalise = Normalise(data.mean, data.std)
        return net


class Distillation(Method):
    """The teacher's distribution takes the place of a share of the labels (Hinton et al. 2015,
    arXiv 1503.02531, section 2).

    Args:
        teacher: its logits on the labeled images, float32 [labeled, classes].
    """

    def __init__(self, recipe: Recipe, teacher: Tensor) -> None:
        super().__init__(recipe)
        self.teacher = teacher

    def losses(self, logits: Tensor, batch: Batch, average: Tensor | None) -> Tensor:
        spec, labeled = self.recipe.distillation, len(batch.labeled)
        losses = super().losses(logits, batch, average)
        teacher = self.teacher[batch.labeled]
        distilled = distilled_loss(logits[:labeled], teacher, spec.temperature)
        mixed = torch.lerp(losses[:labeled], distilled, spec.weight)
        return torch.cat([mixed, losses[labeled:]])


class Consistency(Method):
    """Unlabeled rows are labeled in each step; a subclass says how, and what the distance is.

    The loss is the mean of labeled rows and `consistency.weight` times that of unlabeled ones.
    """

    online = True
    detached = True  # no gradient goes through the labels

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.spec = recipe.consistency
        self.weighting = "sum"

    def view(self, noise: RowNoise, side: int) -> RowNoise:
        """Return the noise of the view that is labeled, of images of `side` pixels."""
        return weak(noise, side)

    def unlabeled_loss(self, logits: Tensor, labeler: Tensor) -> Tensor:
        """Return the loss of each unlabeled row, float32 [rows], before its weight.

        Args:
            logits: of the network on the noised view, [rows, classes].
            labeler: logits of the labeler on its view, [rows, classes].
        """
        raise NotImplementedError

    def losses(self, logits: Tensor, batch: Batch, average: Tensor | None) -> Tensor:
        rows, labeled = len(batch.targets), len(batch.labeled)
        labeler = logits[rows:] if average is None else average
        if self.detached:
            labeler = labeler.detach()
        unlabeled = self.unlabeled_loss(logits[labeled:rows], labeler)
        supervised = self.criterion(logits[:labeled], batch.targets[:labeled])
        return torch.cat([supervised, self.weight(batch.step) * unlabeled])

    def weight(self, step: int) -> float:
        """Return the weight of unlabeled rows at `step` (from 0).

        It rises by the Gaussian exp(-5 (1 - t)^2) of Laine & Aila 2017, section 3, t from 0 to 1.
        """
        spec = self.spec
        passed = min(step / (spec.ramp * self.recipe.steps), 1.0) if spec.ramp else 1.0
        return spec.weight * math.exp(-5 * (1 - passed) ** 2)


class PiModel(Consistency):
    """Laine & Aila 2017 (arXiv 1610.02242), Algorithm 1: squared difference of the probabilities,
    mean over the classes, of two noised views; both have a gradient."""

    detached = False

    def view(self, noise: RowNoise, side: int) -> RowNoise:
        return noise

    def unlabeled_loss(self, logits: Tensor, labeler: Tensor) -> Tensor:
        return (logits.softmax(1) - labeler.softmax(1)).square().mean(1)


class MeanTeacher(Consistency):
    """Tarvainen & Valpola 2017 (arXiv 1703.01780), equation 1: squared difference to the averaged
    network's probabilities, mean over the classes."""

    averaged = True

    def unlabeled_loss(self, logits: Tensor, labeler: Tensor) -> Tensor:
        return (logits.softmax(1) - labeler.softmax(1)).square().mean(1)


class Uda(Consistency):
    """Xie et al. 2020 (arXiv 1904.12848), equation 1 with the confidence mask and sharpening of
    section 2.4, but without its annealing of labeled rows."""

    def unlabeled_loss(self, logits: Tensor, labeler: Tensor) -> Tensor:
        confident = labeler.softmax(1).amax(1) >= self.spec.threshold
        target = (labeler / self.spec.temperature).log_softmax(1)
        divergence = functional.kl_div(
            logits.log_softmax(1), target, reduction="none", log_target=True
        )
        return divergence.sum(1) * confident


class FixMatch(Consistency):
    """Sohn et al. 2020 (arXiv 2001.07685), equation 4: cross entropy with the label of the weak
    view, where that is confident."""

    def unlabeled_loss(self, logits: Tensor, labeler: Tensor) -> Tensor:
        confidence, label = labeler.softmax(1).max(1)
        loss = functional.cross_entropy(logits, label, reduction="none")
        return loss * (confidence >= self.spec.threshold)


class CoTraining(FixMatch):
    """Blum & Mitchell 1998: two networks, one for each half of an image, each labeling for the
    other; the loss is FixMatch's, of which both are summed."""

    def network(self, data: Dataset) -> nn.Module:
        pair = Pair(self._build(data), self._build(data, "right"))
        return self._with_normalised(pair, data)

    def losses(self, logits: Tensor, batch: Batch, average: Tensor | None) -> Tensor:
        """Return losses as `Method.losses`, of logits [2, rows, classes]."""
        other = logits[:, len(batch.targets) :].flip(0)
        return torch.stack(
            [
                super(CoTraining, self).losses(half, batch, labeler)
                for half, labeler in zip(logits, other, strict=True)
            ]
        ).sum(0)


class Pair(nn.Module):
    """Two networks, one for each half of an image (Blum & Mitchell 1998, sections 2 and 5).

    Each sees its half alone; the other half has the data's mean. Where it trains, their logits
    stay apart; else the class probabilities are multiplied, as there (Table 2, "combined").
    """

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right
        self.normalise: nn.Module = nn.Identity()

    def forward(self, images: Tensor, *noise: object) -> Tensor:
        """Return logits [B, classes] of images [B, C, H, W]; [2, B, classes] in training. `noise`
        as in `NoisedNet.forward`."""
        left, right = halves(self.normalise(images))
        logits = torch.stack([self.left(left, *noise), self.right(right, *noise)])
        return logits if self.training else logits.log_softmax(2).sum(0)


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return both views of normalised images [B, C, H, W]: all but a half is 0, the mean."""
    left = torch.arange(images.shape[3], device=images.device) < images.shape[3] // 2
    return images * left, images * ~left


METHODS: dict[str, type[Method]] = {
    "none": Method,
    "pi-model": PiModel,
    "mean-teacher": MeanTeacher,
    "uda": Uda,
    "fixmatch": FixMatch,
    "co-training": CoTraining,
}
"""Methods by the name that `consistency.method` takes."""


def method_of(recipe: Recipe, distilled: Tensor | None = None) -> Method:
    """Return the method of a recipe.

    Args:
        distilled: the teacher's logits on the labeled images, float32 [labeled, classes], where
            the student learns from them.

    Raises:
        UserError: your own cannot be loaded, or is not a subclass of `Method`.
    """
    if distilled is not None:
        return Distillation(recipe, distilled)
    name = recipe.consistency.method
    method: type[Method] = METHODS[name] if name in METHODS else own_code.load(name)
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise UserError(f"consistency.method={name}: expected a subclass of Method or Consistency")
    return method(recipe)


def network(recipe: Recipe, data: Dataset) -> nn.Module:
    """Build what a recipe trains, with new weights; it takes uint8 images as they are in `data`."""
    return method_of(recipe).network(data)
