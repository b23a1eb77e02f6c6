"""Count what networks cost: `python -m ns_bench.selftrain.count` writes `design/flops.csv`.

A plan is priced from that file, so that it needs no torch. It has every model that a profile names,
at the size of the images that the profile gives it.
"""

import csv
import sys
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from ns_bench.design.cost import COLUMNS, TABLE, Shape, shape_of
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.selftrain.models import build


def count(shape: Shape) -> tuple[int, int]:
    """Return FLOPs of one image's forward pass, and parameters.

    A multiply-add is two. Convolutions and matrix products are counted, nothing else.
    """
    with torch.device("meta"):  # shapes alone: nothing is computed
        net = build(shape.model, shape.channels, shape.classes, 0, 0, side=shape.side)
        net.eval().requires_grad_(False)
        image = torch.empty(1, shape.channels, shape.side, shape.side)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(image)
    return counter.get_total_flops(), sum(weights.numel() for weights in net.parameters())


def named_shapes() -> list[Shape]:
    """Return the networks of all profiles, in their ladders, families and beside them."""
    shapes = set()
    for name in profile_names():
        profile = load_profile(name)
        families = profile.architectures.values()
        for model in [*profile.ladder.values(), *profile.by_model, *families]:
            alone = replace(profile, ladder={"small": model})
            shapes.add(shape_of(alone.supervised("small")))
    return sorted(shapes)


def main(shapes: Iterable[Shape]) -> None:
    """Write the table, a row a network."""
    with TABLE.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for shape in shapes:
            table.writerow([*shape, *count(shape)])
            print(*shape, file=sys.stderr)


if __name__ == "__main__":
    main(named_shapes())
