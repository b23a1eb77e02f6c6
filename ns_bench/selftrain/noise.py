"""Input noise: what happens to a batch of uint8 images before the network sees it."""

import math

import torch
from torch import Tensor, nn

from ns_bench.recipe import NO_NOISE, RowNoise, own_code
from ns_bench.selftrain.randaugment import cutout, randaugment
from ns_bench.selftrain.scale.row_random import Draws, draws_of


def augment(images: Tensor, noise: RowNoise, source: torch.Generator | Draws) -> Tensor:
    """Return noised uint8 images [B, C, H, W], each row with draws of its own.

    A resized crop first, as in the official code for large images. RandAugment, then cutout, then
    the padded crop: the order of the official small-image code, which mirrors nothing, for it knows
    digits alone; then mirroring, and a noise of your own (`custom`) last.
    """
    draws = draws_of(source, images)
    if noise.resized_crop:
        images = resized_crop(images, noise.resized_crop, draws)
    if noise.randaugment_n:
        n, m = noise.randaugment_n, noise.randaugment_m
        images = randaugment(images, n, m, draws, noise.randaugment_cutout)
    if noise.cutout:
        images = cutout(images, noise.cutout, draws)
    if noise.crop_padding:
        images = padded_crop(images, noise.crop_padding, draws)
    if noise.flip:
        images = mirrored(images, draws)
    if noise.custom:
        images = own_code.load(noise.custom)(images, draws)
    return images


def weak(noise: RowNoise, side: int) -> RowNoise:
    """Return weak augmentation for images of `side` pixels: shifts by up to an eighth of it, and
    mirroring where `noise` has it (FixMatch, arXiv 2001.07685, section 2.3); no model noise."""
    return RowNoise(**{**NO_NOISE, "crop_padding": max(side // 8, 1), "flip": noise.flip})


ASPECTS = (3 / 4, 4 / 3)
"""Widths over heights of resized crops."""


def crops(area: float, draws: Draws) -> Tensor:
    """Draw which part of each image is taken: float32 [4, rows], see `data.decode`.

    The share of its area is uniform from `area` to 1, width over height log-uniform in `ASPECTS`,
    the place uniform (Szegedy et al. 2015).
    """
    drawn = draws.uniform(4)
    low, high = (math.log(aspect) for aspect in ASPECTS)
    return torch.stack(
        [area + (1 - area) * drawn[0], (low + (high - low) * drawn[1]).exp(), *drawn[2:]]
    )


def resized_crop(images: Tensor, area: float, source: torch.Generator | Draws) -> Tensor:
    """Cut a part out of each image [B, C, H, W], see `crops`, and resize it to the whole. Bilinear.

    A part that is wider or higher than the image is cut there.
    """
    drawn = crops(area, draws_of(source, images)).to(images.device, non_blocking=True)
    size, aspect, across, down = drawn
    width, height = (size * aspect).sqrt().clamp(max=1), (size / aspect).sqrt().clamp(max=1)
    # of the free space -1 ... 1, which the crop's centre has
    x, y = (2 * across - 1) * (1 - width), (2 * down - 1) * (1 - height)
    zero = torch.zeros_like(x)
    moves = torch.stack([width, zero, x, zero, height, y], dim=1).view(-1, 2, 3)
    grid = nn.functional.affine_grid(moves, list(images.shape), align_corners=False)
    crop = nn.functional.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return crop.round().short().to(torch.uint8)  # floats take 3 times as long to uint8 on a CPU


def mirrored(images: Tensor, source: torch.Generator | Draws) -> Tensor:
    """Mirror each image [B, C, H, W] left to right with probability 1/2."""
    turned = draws_of(source, images).uniform() < 0.5
    return replaced(images, images.flip(3), turned)


def replaced(images: Tensor, others: Tensor, which: Tensor) -> Tensor:
    """Return `others` [B, C, H, W] where `which`, bool [B], on the host, is true, else `images`."""
    which = which.to(torch.uint8).to(images.device, non_blocking=True).view(-1, 1, 1, 1)
    return images * (1 - which) + others * which  # torch.where takes 7 times as long on a CPU


def padded_crop(images: Tensor, padding: int, source: torch.Generator | Draws) -> Tensor:
    """Shift each image [B, C, H, W] by up to `padding` pixels in x and y, reflected at the edge."""
    height, width = images.shape[2:]
    drawn = draws_of(source, images).integers(-padding, padding + 1, 2)[:, :, None]
    offset = drawn.to(images.device, non_blocking=True)
    y = _reflect(torch.arange(height, device=images.device) + offset[0], height)
    x = _reflect(torch.arange(width, device=images.device) + offset[1], width)
    row = torch.arange(len(images), device=images.device)
    return images[row[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Fold indices beyond [0, size) back inside, without repeating the edge pixel."""
    period = max(2 * (size - 1), 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index).clamp(max=size - 1)
