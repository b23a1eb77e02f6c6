"""What a plan costs before any of it runs: FLOPs, hours, storage, the longest chain.

FLOPs of a network are counted, once, by `ns_bench.selftrain.count`, whose table is read here.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ns_bench.data import catalog
from ns_bench.recipe import Recipe
from ns_bench.runs.plan import longest_chain

if TYPE_CHECKING:
    from ns_bench.design.profile import Profile
    from ns_bench.runs.store import Run

TABLE = Path(__file__).parent / "flops.csv"
COLUMNS = ("model", "side", "channels", "classes", "forward_flops", "parameters")

TRAINING = 3
"""Forward and backward pass in forward passes: a backward one takes twice as much (one product
each for the gradients of inputs and of weights)."""

EVALUATIONS = 11
"""Passes over the validation rows: ten in training and the last (`selftrain.train`)."""

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
    once = catalog.pool_size(data) + data.test + EVALUATIONS * data.validation
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


def lines(runs: "list[Run]", profile: "Profile") -> list[str]:
    """Return the price of `runs`, teachers before students, as lines for a terminal."""
    if not runs:
        return []
    rows = [("model", "pixels", "runs", "images", "forward FLOPs", "total FLOPs", "hours")]
    shapes: dict[Shape, list[Recipe]] = {}
    for run in runs:
        shapes.setdefault(shape_of(run.recipe), []).append(run.recipe)
    exact = True
    for shape, mine in shapes.items():
        net, total = network(shape), sum(flops(recipe) or 0 for recipe in mine)
        exact = exact and (net is None or net.exact)
        rows.append(
            (
                shape.model,
                f"{shape.side}",
                f"{len(mine)}",
                f"{sum(recipe.images for recipe in mine):,}",
                _si(net.forward) + ("" if net.exact else "*") if net else "?",
                _si(total) if net else "?",
                _hours(sum(map(profile.estimate, mine))),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    said = [_aligned(row, widths) for row in rows]
    said.append(
        f"total FLOPs: {TRAINING} forward passes an image trained on, one an image labelled or "
        "evaluated" + ("" if exact else "; *: by area from the nearest size that was counted")
    )
    seconds = sum(profile.estimate(run.recipe) for run in runs)
    said.append(
        f"time: {_hours(seconds)} hours of {profile.machine or 'one worker'}{_source(profile)}"
    )
    said += _disk(runs, profile)
    chain = longest_chain(runs, profile.estimate)
    seconds = sum(profile.estimate(run.recipe) for run in chain)
    said.append(
        f"longest chain: {len(chain)} runs one after another, {_hours(seconds)} hours, "
        f"however many workers; it ends in {chain[-1].id}"
    )
    return said


def _source(profile: "Profile") -> str:
    gpu = profile.gpu
    return f", at {gpu.tflops:g} TFLOP/s ({gpu.source})" if gpu else ""


def _disk(runs: "list[Run]", profile: "Profile") -> Iterable[str]:
    known = {run.id: stored for run in runs if (stored := storage(run.recipe)) is not None}
    unknown = (len(runs) - len(known)) * profile.run_megabytes * 1e6
    weights = sum(stored.weights for stored in known.values())
    checkpoint = max((stored.checkpoint for stored in known.values()), default=0.0)
    teachers = {run.teacher.id for run in runs if run.teacher is not None and run.recipe.batch[1]}
    labels = sum(
        known[run.id].labels
        for run in runs
        if run.id in known and (run.id in teachers or not catalog.sparse_labels(run.recipe.data))
    )
    yield (
        f"disk: {_bytes(weights + labels + unknown)}: weights {_bytes(weights)}, labels of the "
        f"pool {_bytes(labels)}"
        + (f", models not counted {_bytes(unknown)}" if unknown else "")
        + f"; and while they run up to {_bytes(checkpoint)} of checkpoint each"
    )
    data = runs[0].recipe.data
    if decoded := catalog.decoded_bytes(data):
        yield f"data: {_bytes(decoded)}, '{data.name}' decoded once"


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = (
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 99.5 else f"{hours:.3g}"


def _si(value: float) -> str:
    """Return a number with three digits and a prefix: 771.6 M."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 999.5 or prefix == "E":
            return f"{value:.3g} {prefix}".rstrip()
        value /= 1000
    raise AssertionError


def _bytes(value: float) -> str:
    return f"{_si(value)}B" if value >= 999.5 else f"{value:.0f} B"
