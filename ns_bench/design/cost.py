"""What a recipe costs: FLOPs and storage.

FLOPs of a network are counted, once, by `ns_bench.selftrain.count`, whose table is read here.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ns_bench.data.catalog import describe
from ns_bench.errors import UserError
from ns_bench.recipe import EVALUATIONS, Data, Recipe

TABLE = Path(__file__).parent / "flops.csv"
COLUMNS = ("model", "side", "channels", "classes", "forward_flops", "parameters")

TRAINING = 3
"""Forward and backward pass in forward passes: a backward one takes twice as much (one product
each for the gradients of inputs and of weights)."""

COPIES = 4
"""Sets of weights in a checkpoint: weights, their average, RMSProp's two."""

WHOLE_LOGITS = 4e9
"""Bytes of a pool's logits, float16 [pool, classes], up to which all of them are stored."""

TOP = 10
"""Classes kept of each image, four bytes each, where they are not."""

SHARD = 100_000
"""Images of which the labels are in one file, at most: what is lost by a kill while labelling."""


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
    data = describe(recipe.data)
    side = recipe.train.resolution or data.side
    return Shape(recipe.model, side, data.channels, data.classes)


@cache
def _table() -> dict[Shape, tuple[int, int]]:
    with TABLE.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {Shape(r[0], *map(int, r[1:4])): (int(r[4]), int(r[5])) for r in rows}


def counted() -> set[str]:
    """Return the models that were counted at some size."""
    return {shape.model for shape in _table()}


def learn(shape: Shape, forward: int, parameters: int) -> None:
    """Take note, for this process, of a network that was counted just now."""
    _learned[shape] = (forward, parameters)
    network.cache_clear()


_learned: dict[Shape, tuple[int, int]] = {}


@cache
def network(shape: Shape) -> Network | None:
    """Return what a network costs; None if it was not counted at any size.

    At another size than those counted it has the FLOPs of the nearest by area of the image.
    """
    table = _table() | _learned
    if shape in table:
        return Network(*table[shape], exact=True)
    others = [other for other in table if other.model == shape.model]
    if not others:
        return None
    near = min(others, key=lambda other: (abs(other.side - shape.side), other))
    forward, parameters = table[near]
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
    once = describe(data).pool + data.test + (EVALUATIONS + 1) * data.validation
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
    data = describe(recipe.data)
    image = 4.0 * TOP if sparse_labels(recipe.data) else 2.0 * data.classes
    return Storage(weights, image * data.pool, COPIES * weights)


def sparse_labels(data: Data) -> bool:
    """Whether a pool is so large that of its labels the top classes are stored, in shards."""
    known = describe(data)
    return 2.0 * known.pool * known.classes > WHOLE_LOGITS


def check_labels(recipe: Recipe) -> None:
    """Raise UserError if a student of `recipe` has labels of its own of too large a pool."""
    for run in recipe.generations:
        own = {"noised_teacher": run.pseudo.noised_teacher, "views": run.pseudo.views > 1}
        for name in (name for name, asked in own.items() if asked and sparse_labels(run.data)):
            value = str(getattr(run.pseudo, name)).lower()
            raise UserError(
                f"pseudo.{name}={value}: a pool of {describe(run.data).pool:,} images is too large "
                "to be labeled for each student"
            )
