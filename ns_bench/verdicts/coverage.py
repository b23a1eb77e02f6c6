"""`python -m ns_bench.verdicts.coverage`: how often the intervals over seeds, and those over new
seeds and new images, hold the true difference, simulated. Writes a Markdown table.

Two arms are tested by every seed on the same images. An arm is right on an image where the sum of
normal variables is above 0: how easy the image is to both arms and to this one, how good the seed
is, and what is of seed and image together. So outcomes are 0 or 1, and the truth is known.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ns_bench.arguments import option, parse, whole_number
from ns_bench.errors import exit_code
from ns_bench.verdicts.images import spread
from ns_bench.verdicts.statistics import Array

CASES = {
    "of images": (0.05, 0.8, 0.3),
    "of all alike": (0.05, 0.3, 0.3),
    "of both together": (0.02, 0.05, 0.8),
    "of seeds": (0.3, 0.3, 0.5),
}
"""Where the spread of a difference is from: standard deviations of seeds, of images and of both
together, by arm; an image's own ease, for both arms, has 1."""

SIZES = ((8, 500), (16, 500), (8, 2000), (16, 2000))
"""Seeds, and test images."""


def coverage(case: str, seeds: int, images: int, studies: int) -> Array:
    """Return how often the intervals over seeds, and over new images too, hold the truth, and the
    mean widths of both, [4]; arms are right on 90 and 94 of 100 images in truth."""
    from scipy.special import ndtri

    by_seed, by_image, both = CASES[case]
    scale = np.sqrt(1 + by_seed**2 + by_image**2 + both**2)
    draw = np.random.default_rng([list(CASES).index(case), seeds, images])
    rows = []
    for _ in range(studies):
        right = (
            scale * ndtri([0.90, 0.94])[:, None, None]
            + draw.normal(size=images)
            + by_seed * draw.normal(size=(2, seeds, 1))
            + by_image * draw.normal(size=(2, 1, images))
            + both * draw.normal(size=(2, seeds, images))
        ) > 0
        found = spread(100.0 * right[1] - 100.0 * right[0])
        two = (found.interval, found.new_images)
        rows.append([*(i.low <= 4 <= i.high for i in two), *(i.high - i.low for i in two)])
    return np.mean(rows, axis=0, dtype=np.float64)


def table(studies: int) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| spread is mostly | seeds | images | over seeds | over new seeds and images |",
        "|---|---|---|---|---|",
    ]
    for case in CASES:
        for seeds, images in SIZES:
            held, new, width, wide = coverage(case, seeds, images, studies)
            cells = f"{held:.3f} ({width:.2f}) | {new:.3f} ({wide:.2f})"
            lines.append(f"| {case} | {seeds} | {images:,} | {cells} |")
    return lines


@dataclass(frozen=True, kw_only=True)
class _Options:
    studies: int = option(
        "of each row (default: 1000)", default=1000, type=whole_number, metavar="N"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parse(
        _Options,
        arguments,
        prog="python -m ns_bench.verdicts.coverage",
        description="Simulate how often 95 % intervals hold the truth; prints a Markdown table.",
    )
    return exit_code(lambda: _run(options), "stopped")


def _run(options: _Options) -> int:
    start = time.process_time()
    lines = table(options.studies)
    seconds = time.process_time() - start
    print("# Coverage of the intervals beside the ±\n")
    print(
        "Share of simulated studies whose 95 % interval holds the difference between two arms over "
        "all seeds and all images, with its mean width in points. All seeds are tested on the same "
        "images; the interval over seeds is about these alone, and promises nothing of others.\n"
    )
    print("\n".join(lines))
    command = f"python -m ns_bench.verdicts.coverage --studies {options.studies}"
    print(f"\nMade by `{command}` in {seconds:.0f} seconds of one core.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
