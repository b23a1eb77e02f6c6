"""Input noise: what happens to a batch of uint8 images before the network sees it."""

import dataclasses

import torch
from torch import Tensor

from ns_bench.recipe import RowNoise
from ns_bench.selftrain.parallel import Share
from ns_bench.selftrain.randaugment import cutout, randaugment


def augment(
    images: Tensor, noise: RowNoise, generator: torch.Generator, share: Share | None = None
) -> Tensor:
    """Return noised uint8 images [B, C, H, W], each row with draws of its own.

    RandAugment, then cutout, then the padded crop: the order of the official small-image code,
    which mirrors nothing, for it knows digits alone; mirroring comes last.
    With a `share`, `images` are those rows of a larger batch, for all of which draws are made.
    """
    if noise.randaugment_n:
        images = randaugment(images, noise.randaugment_n, noise.randaugment_m, generator, share)
    if noise.cutout:
        images = cutout(images, noise.cutout, generator, share)
    if noise.crop_padding:
        images = padded_crop(images, noise.crop_padding, generator, share)
    if noise.flip:
        images = mirrored(images, generator, share)
    return images


def weak(noise: RowNoise, side: int) -> RowNoise:
    """Return weak augmentation for images of `side` pixels: shifts by up to an eighth of it, and
    mirroring where `noise` has it (FixMatch, arXiv 2001.07685, section 2.3); no model noise."""
    clean = RowNoise(0, 0.0, dropout=0.0, stochastic_depth=0.0)
    return dataclasses.replace(clean, crop_padding=max(side // 8, 1), flip=noise.flip)


def mirrored(images: Tensor, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """Mirror each image [B, C, H, W] left to right with probability 1/2."""
    batch, rows = share or Share(len(images))
    drawn = torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device)
    return torch.where((drawn[rows] < 0.5).to(images.device), images.flip(3), images)


def padded_crop(
    images: Tensor, padding: int, generator: torch.Generator, share: Share | None = None
) -> Tensor:
    """Shift each image [B, C, H, W] by up to `padding` pixels in x and y, reflected at the edge."""
    height, width = images.shape[2:]
    batch, rows = share or Share(len(images))
    drawn = torch.randint(
        -padding, padding + 1, (2, batch, 1), generator=generator, device=generator.device
    )
    offset = drawn[:, rows].to(images.device, non_blocking=True)
    y = _reflect(torch.arange(height, device=images.device) + offset[0], height)
    x = _reflect(torch.arange(width, device=images.device) + offset[1], width)
    row = torch.arange(len(images), device=images.device)
    return images[row[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Fold indices beyond [0, size) back inside, without repeating the edge pixel."""
    period = max(2 * (size - 1), 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index).clamp(max=size - 1)
