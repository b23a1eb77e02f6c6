"""Perturbation sequences in the manner of ImageNet-P (Hendrycks and Dietterich 2019, section 4.4).

A sequence shows one image ever more, or ever otherwise, perturbed; a network that is stable gives
all of its frames one label. Frames and strengths are those of CIFAR-10-P below 128 pixels, those of
ImageNet-P from there on (github.com/hendrycks/robustness, ImageNet-P/create_p); angles and factors
are as published, shifts are times side / 32 or side / 224 (bilinear where that is no whole pixel),
radii of blurs as in `severities`. ImageNet-P moves a crop of a larger image, CIFAR-10-P and this
the image itself, before a black ground. Motion blur of CIFAR-10-P goes around 180 degrees in 21
frames, as published.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ns_bench.robustness import PERTURBATIONS
from ns_bench.robustness.corruptions import brightened, snowed
from ns_bench.robustness.filters import (
    clipped_zoom,
    grid,
    motion,
    normal,
    sample,
    to_bytes,
    to_float,
)
from ns_bench.robustness.severities import LARGE

FROM_FIRST = ("gaussian_noise", "shot_noise")
"""Noise has no order: its frames are compared with the first one, which is clean."""


def frames(images: Tensor, name: str, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the frames of a sequence, uint8 [B, C, H, W] each, in order.

    Args:
        images: uint8 [B, C, H, W] with 1 or 3 channels, on the CPU; not modified.
        name: one of `PERTURBATIONS`.
        generator: source of every draw, on the CPU.

    Raises:
        ValueError: there is no such sequence.
    """
    if name not in PERTURBATIONS:
        raise ValueError(f"there is no perturbation {name!r}")
    x = to_float(images)
    large = max(images.shape[2:]) >= LARGE
    scale = max(images.shape[2:]) / (224 if large else 32)
    if name in ("gaussian_noise", "shot_noise", "zoom_blur"):
        yield images
    if name == "gaussian_noise":
        for _ in range(30):
            yield to_bytes(x + (0.03 if large else 0.02) * normal(x, generator))
    elif name == "shot_noise":
        photons = 300 if large else 700
        for _ in range(30):
            yield to_bytes(torch.poisson(x * photons, generator=generator) / photons)
    elif name == "motion_blur":
        for i in range(31 if large else 21):
            angle = torch.full((len(x),), (i - 30) * 4.0 if large else (i - 20) * 9.0)
            radius, sigma = (round(10 * scale), 3 * scale) if large else _least(6, 1.8, scale)
            yield to_bytes(motion(x, radius, sigma, angle))
    elif name == "zoom_blur":
        total = x
        for i in range(1, 31):
            total = total + _moved(x, zoom=1 + 0.004 * i)
            yield to_bytes(total / (i + 1))
    elif name == "snow":
        yield from _snow(x, generator, large, scale)
    elif name == "brightness":
        for i in range(31):
            yield to_bytes(brightened(x, (i - 15) * (0.02 if large else 0.015)))
    elif name == "translate":
        for i in range(41 if large else 16):
            yield to_bytes(_moved(x, right=(i - (20 if large else 7)) * scale))
    elif name == "rotate":
        for i in range(31):
            yield to_bytes(_moved(x, degrees=i - 15.0))
    elif name == "tilt":
        for i in range(31):
            yield to_bytes(_tilted(x, (i - 15) * (1.0 if large else 0.75), scale))
    else:
        for i in range(31):
            yield to_bytes(_moved(x, zoom=(i * 2.5 + 40 if large else i * 2 + 70) / 100))


def _least(radius: int, sigma: float, scale: float) -> tuple[int, float]:
    return round(radius * max(scale, 1)), sigma * max(scale, 1)


def _snow(x: Tensor, random: torch.Generator, large: bool, scale: float) -> Iterator[Tensor]:
    """Fall in one direction after another: the flakes are drawn once."""
    radius, sigma = (round(14 * scale), 4 * scale) if large else _least(10, 2.0, scale)
    flakes = clipped_zoom(0.05 + 0.3 * normal(x, random, 1), 3 if large else 2)
    flakes = to_float(to_bytes(torch.where(flakes < 0.5, 0.0, flakes)))
    for i in range(31):
        angle = torch.full((len(x),), i * 4.0 - 150)
        yield to_bytes(snowed(x, motion(flakes, radius, sigma, angle), 0.85))


def _moved(x: Tensor, *, degrees: float = 0.0, zoom: float = 1.0, right: float = 0.0) -> Tensor:
    """Turn clockwise, enlarge and shift about the centre, as `torchvision`'s `affine` does."""
    rows, columns = grid(x)
    y, x_ = rows - (x.shape[2] - 1) / 2, columns - (x.shape[3] - 1) / 2 - right
    cos, sin = (f(math.radians(degrees)) / zoom for f in (math.cos, math.sin))
    from_x = cos * x_ + sin * y + (x.shape[3] - 1) / 2
    from_y = -sin * x_ + cos * y + (x.shape[2] - 1) / 2
    shape = (len(x), *x.shape[2:])
    return sample(x, from_y.expand(shape), from_x.expand(shape), "zero")


def _tilted(x: Tensor, degrees: float, depth: float) -> Tensor:
    """Turn the image plane about both of its axes, seen from its diagonal away: a homography.

    The plane lies `depth` behind the axes, 1 pixel as published.
    """
    height, width = x.shape[2:]
    turn, far = math.radians(degrees), math.hypot(height, width)
    cos, sin = math.cos(turn), math.sin(turn)
    flat = [[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, depth], [0, 0, 1]]
    about_x = [[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]]
    about_y = [[cos, 0, -sin, 0], [0, 1, 0, 0], [sin, 0, cos, 0], [0, 0, 0, 1]]
    away = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, far], [0, 0, 0, 1]]
    seen = [[far, 0, width / 2, 0], [0, far, height / 2, 0], [0, 0, 1, 0]]
    steps = [torch.tensor(m, dtype=torch.float64) for m in (seen, away, about_x, about_y, flat)]
    back = torch.linalg.inv(torch.linalg.multi_dot(steps)).float()
    rows, columns = grid(x)
    from_x, from_y, depth = (row[0] * columns + row[1] * rows + row[2] for row in back)
    shape = (len(x), height, width)
    return sample(x, (from_y / depth).expand(shape), (from_x / depth).expand(shape), "zero")


def flips(labels: Tensor, name: str) -> float:
    """Return the flip probability, in %, of predicted labels, int64 [frames, B], of a sequence.

    The share of frames whose label differs from the one before, or, for noise, from the first:
    equations for FP and FP of noise in section 4.4.
    """
    before = labels[:1] if name in FROM_FIRST else labels[:-1]
    return 100 * (labels[1:] != before).double().mean().item()
