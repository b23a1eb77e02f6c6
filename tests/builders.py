"""What many tests build: generators, networks, labels, batches; and what they know to be there."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from ns_bench.data.split import Dataset, Images
from ns_bench.recipe import Recipe
from ns_bench.selftrain.methods import method_of
from ns_bench.selftrain.models import Normalise
from ns_bench.selftrain.rows import Rows, joint_rows
from ns_bench.selftrain.targets import PseudoLabeled, SparseTargets, smooth_one_hot

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return what has to be there: a result, a teacher, labels."""
    assert value is not None
    return value


def in_memory(images: Images) -> Tensor:
    """Return images that have to be in memory, uint8 [N, C, H, W]."""
    assert isinstance(images, Tensor)
    return images


def dense(targets: Tensor | SparseTargets) -> Tensor:
    """Return targets that have to be whole, float32 [N, classes]."""
    assert isinstance(targets, Tensor)
    return targets


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator whose draws `seed` decides."""
    return torch.Generator().manual_seed(seed)


def seeing(net: nn.Module, data: Dataset) -> nn.Module:
    """Return the network with the normalisation for the images of `data` in it."""
    net.normalise = Normalise(data.mean, data.std)
    return net


def labels_for(data: Dataset, seed: int = 0, kind: str = "soft") -> PseudoLabeled:
    """Return labels that some teacher might have given, of every row of the pool."""
    logits: Tensor = 2 * torch.randn(len(data.unlabeled), data.classes, generator=seeded(seed))
    probabilities = logits.softmax(1)
    targets = probabilities
    if kind == "hard":
        targets = smooth_one_hot(probabilities.argmax(1), data.classes, 0.1)
    return PseudoLabeled(torch.arange(len(data.unlabeled)), probabilities, targets)


def rows_of(recipe: Recipe, data: Dataset, labels: PseudoLabeled | None = None) -> list[Rows]:
    """Return the kinds of rows that a recipe's batches are made of, on the CPU."""
    return joint_rows(recipe, data, labels, method_of(recipe), "cpu")
