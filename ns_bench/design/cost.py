"""What a recipe costs: FLOPs and storage.

FLOPs of a network are counted, once, by `ns_bench.selftrain.count`, whose table is read here.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ns_bench.data import catalog
from ns_bench.recipe import EVALUATIONS, Recipe

TABLE = Path(__file__).parent / "flops.csv"
COLUMNS = ("model", "side", "channels", "classes", "forward_flops", "parameters")

TRAINING = 3
"""Forward and backward pass in forward passes: a backward one takes twice as much (one product
each for the gradients of inputs and of weights)."""

COPIES = 4
"""Sets of weights in a checkpoint: weights, their average, RMSProp's two."""


class Shape(NamedTuple):
    """A network and the images that it sees, of `side` x `side` pixels."""

    model: str
    side: int
    channels: int
    classes: int


@dataclass(frozen=True)
class Network:
    """FLOPs of an image's forward pass, and parameters; `exact` where this size was counted."""

    forward: float
    parameters: int
    exact: bool


def shape_of(recipe: Recipe) -> Shape:
    """Return what a recipe's network looks like from outside."""
    side = recipe.train.resolution or catalog.side_of(recipe.data)
    channels, classes = catalog.channels_of(recipe.data), catalog.classes_of(recipe.data)
    return Shape(recipe.model, side, channels, classes)


@cache
def _table() -> dict[Shape, tuple[int, int]]:
    with TABLE.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {Shape(r[0], *map(int, r[1:4])): (int(r[4]), int(r[5])) for r in rows}


def counted() -> set[str]:
    """Return the models that were counted at some size."""
    return {shape.model for shape in _table()}


@cache
def network(shape: Shape) -> Network | None:
    """Return what a network costs; None if it was not counted at any size.

    At another size than those counted it has the FLOPs of the nearest by area of the image.
    """
    if shape in _table():
        return Network(*_table()[shape], exact=True)
    others = [other for other in _table() if other.model == shape.model]
    if not others:
        return None
    near = min(others, key=lambda other: (abs(other.side - shape.side), other))
    forward, parameters = _table()[near]
    return Network(forward * (shape.side / near.side) ** 2, parameters, exact=False)


def flops(recipe: Recipe) -> float | None:
    """Return the FLOPs of a run: training, evaluation, labelling its pool; None if not known.

    A large pool counts for every run, though it is labeled only where there are students.
    """
    net = network(shape_of(recipe))
    if net is None:
        return None
    data = recipe.data
    # Validation rows once more at the end.
    once = catalog.pool_size(data) + data.test + (EVALUATIONS + 1) * data.validation
    return net.forward * (TRAINING * recipe.passes + once)


@dataclass(frozen=True)
class Storage:
    """Bytes of a run: weights (float32), labels of its pool (all logits in float16, or the top
    classes), checkpoint while it runs."""

    weights: float
    labels: float
    checkpoint: float


def storage(recipe: Recipe) -> Storage | None:
    """Return what a run takes in the store; None if its model was not counted."""
    net = network(shape_of(recipe))
    if net is None:
        return None
    weights = 4.0 * net.parameters
    sparse = catalog.sparse_labels(recipe.data)
    image = 4.0 * catalog.TOP if sparse else 2.0 * catalog.classes_of(recipe.data)
    return Storage(weights, image * catalog.pool_size(recipe.data), COPIES * weights)
