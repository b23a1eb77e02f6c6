"""Common corruptions in the manner of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261).

15 corruptions and 4 extra ones at severities 1 to 5, on batches of uint8 images with 1 or 3
channels, each image with draws of its own. Two sets of parameters were published: CIFAR-10-C's,
for 32 pixels, is used below 128 pixels, ImageNet-C's, for 224 pixels, from there on; see
`severities`.

Lengths in pixels (widths of blurs, radii of motion, reach of glass) are those published times
side / 32, but never less than those published, and times side / 224 in large images. So at 8 pixels
they are those of 32: a fourth of them would be less than a pixel and do nothing. A blur is then
strong for its image: severities compare within a data set, not across image sizes. Elastic
displacements are shares of the side, as published; noise, colours and zooms have no length.

Where it is not the published arithmetic:

* frost is drawn, not photographed: fractal ridges in the tint and at the levels of the photographs
  that the published code overlays, which cannot be shipped;
* spatter finds the outlines of drops by erosion and its distances are exact, where the published
  code takes Canny's edges and OpenCV's approximate distances;
* motion blur is ImageMagick's, sampled at whole pixels; elastic maps are sampled in floating point,
  where OpenCV rounds to 1/32 pixel;
* in grey images colours are their luma, and saturate changes nothing.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ns_bench.robustness import CORRUPTIONS, EXTRA, SEVERITIES
from ns_bench.robustness.filters import (
    box_resize,
    clipped_zoom,
    defocus,
    filtered,
    gaussian,
    gray,
    grid,
    motion,
    normal,
    plasma,
    sample,
    to_bytes,
    to_float,
    uniform,
)
from ns_bench.robustness.severities import LARGE, parameters


def corrupt(images: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """Return corrupted images.

    Args:
        images: uint8 [B, C, H, W] with 1 or 3 channels, on the CPU; not modified.
        name: one of `CORRUPTIONS` or `EXTRA`.
        severity: 1 to 5.
        generator: source of every draw, on the CPU.

    Returns:
        uint8 [B, C, H, W].

    Raises:
        ValueError: an argument is not as described.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        got = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"images must be uint8 [B, C, H, W] with 1 or 3 channels, got {got}")
    if name not in (*CORRUPTIONS, *EXTRA) or severity not in SEVERITIES:
        raise ValueError(f"there is no corruption {name!r} of severity {severity!r}")
    if len(images) == 0:
        return images
    if name in _ON_BYTES:
        return _ON_BYTES[name](images, *parameters(name, severity, _side(images)))
    x = to_float(images)
    return to_bytes(_DRAWN[name](x, generator, *parameters(name, severity, _side(images))))


def _side(images: Tensor) -> int:
    return max(images.shape[2:])


# --- noise ----------------------------------------------------------------------------------


def _gaussian_noise(x: Tensor, random: torch.Generator, sigma: float) -> Tensor:
    return x + sigma * normal(x, random)


def _shot_noise(x: Tensor, random: torch.Generator, photons: float) -> Tensor:
    return torch.poisson(x * photons, generator=random) / photons


def _impulse_noise(x: Tensor, random: torch.Generator, amount: float) -> Tensor:
    """Salt and pepper in equal parts, for each channel by itself: `skimage.util.random_noise`."""
    hit, kind = (torch.rand(x.shape, generator=random) for _ in range(2))
    return torch.where(hit < amount, (kind < 0.5).float(), x)


def _speckle_noise(x: Tensor, random: torch.Generator, sigma: float) -> Tensor:
    return x + sigma * x * normal(x, random)


# --- blur -----------------------------------------------------------------------------------


def _gaussian_blur(x: Tensor, random: torch.Generator, sigma: float) -> Tensor:
    return gaussian(x, sigma)


def _defocus_blur(x: Tensor, random: torch.Generator, radius: float, alias: float) -> Tensor:
    return defocus(x, radius, alias)


def _glass_blur(x: Tensor, random: torch.Generator, sigma: float, reach: int, times: int) -> Tensor:
    """Pixels take the place of near ones.

    The published swap of two pixels is a copy in NumPy, whose rows are views: so it is here.
    """
    x = to_float(to_bytes(gaussian(x, sigma)))
    batch, _, height, width = x.shape
    row = torch.arange(batch)
    source = torch.arange(height * width).view(1, height, width).repeat(batch, 1, 1)
    for _ in range(times):
        shape = (2, height, width, batch)
        offset = torch.randint(-reach, reach, shape, generator=random)
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                right, down = offset[:, h, w]
                source[:, h, w] = source[row, h + down, w + right]
    index = source.flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return gaussian(x.flatten(2).gather(2, index).view(x.shape), sigma)


def _motion_blur(x: Tensor, random: torch.Generator, radius: int, sigma: float) -> Tensor:
    return motion(x, radius, sigma, uniform(-45, 45, (len(x),), random))


def _zoom_blur(x: Tensor, random: torch.Generator, end: float, step: float) -> Tensor:
    factors = np.arange(1, end, step)
    total = x + sum(clipped_zoom(x, float(factor)) for factor in factors)
    return total / (len(factors) + 1)


# --- weather --------------------------------------------------------------------------------


def _snow(
    x: Tensor,
    random: torch.Generator,
    mean: float,
    sigma: float,
    zoom: float,
    threshold: float,
    radius: int,
    blur: float,
    kept: float,
) -> Tensor:
    flakes = clipped_zoom(mean + sigma * normal(x, random, 1), zoom)
    flakes = to_float(to_bytes(torch.where(flakes < threshold, 0.0, flakes)))
    angle = uniform(-135, -45, (len(x),), random)
    return snowed(x, motion(flakes, radius, blur, angle), kept)


def snowed(x: Tensor, flakes: Tensor, kept: float) -> Tensor:
    """Lay flakes, [B, 1, H, W], over whitened images, and the same flakes upside down."""
    flakes = (flakes * 255).round() / 255
    x = kept * x + (1 - kept) * torch.maximum(x, gray(x) * 1.5 + 0.5)
    return x + flakes + flakes.rot90(2, (2, 3))


def _frost(x: Tensor, random: torch.Generator, kept: float, frost: float) -> Tensor:
    """Overlay drawn frost: ridges of a fractal, as bright and as blue as the photographs."""
    clouds = plasma(len(x), _power_of_two(_side(x)), 1.7, random)
    ridges = 1 - (2 * clouds - 1).abs()
    level = uniform(0.35, 0.8, (len(x), 1, 1), random)
    ice = (level + 0.5 * (ridges - 0.5))[:, None, : x.shape[2], : x.shape[3]]
    tint = [0.0] if x.shape[1] == 1 else [-0.06, 0.0, 0.05]
    return kept * x + frost * (ice + torch.tensor(tint).view(1, -1, 1, 1)).clamp(0, 1)


def _fog(x: Tensor, random: torch.Generator, amount: float, decay: float) -> Tensor:
    clouds = plasma(len(x), _power_of_two(_side(x)), decay, random)[:, None]
    highest = x.amax((1, 2, 3), keepdim=True)
    foggy = x + amount * clouds[..., : x.shape[2], : x.shape[3]]
    return foggy * highest / (highest + amount)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _brightness(x: Tensor, random: torch.Generator, more: float) -> Tensor:
    return brightened(x, more)


def brightened(x: Tensor, more: float) -> Tensor:
    """Add to the value of HSV, which scales all channels alike."""
    value = x.amax(1, keepdim=True)
    target = (value + more).clamp(0, 1)
    return torch.where(value > 0, x * (target / value.clamp(min=1e-6)), target)


# --- digital --------------------------------------------------------------------------------


def _contrast(x: Tensor, random: torch.Generator, share: float) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * share + mean


def _elastic_transform(
    x: Tensor, random: torch.Generator, alpha: float, sigma: float, affine: float
) -> Tensor:
    """A random affine map of three points, then smooth random displacements; in shares of a side.

    ImageNet-C's shares are of 244, as published.
    """
    side = min(x.shape[2:])
    unit = side * (244 / 224 if _side(x) >= LARGE else 1)
    centre, third = side // 2, side // 3
    points = torch.tensor(
        [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64
    ) * third + centre  # fmt: skip
    shift = affine * unit
    moved = points + uniform(-shift, shift, (len(x), 3, 2), random)
    # from where each pixel of the result comes: points of the result to those of the image
    homogeneous = torch.cat([moved, torch.ones(len(x), 3, 1)], 2)
    back = torch.linalg.solve(homogeneous, points.expand(len(x), 3, 2))[..., None].float()
    rows, columns = grid(x)
    from_x, from_y = (columns * c[:, 0, None] + rows * c[:, 1, None] + c[:, 2, None]
                      for c in back.unbind(2))  # fmt: skip
    x = sample(x, from_y, from_x, "mirror")
    if alpha == 0:
        return x
    field = uniform(-1, 1, (len(x), 2, *x.shape[2:]), random)
    field = gaussian(field, sigma * unit, border="reflect", truncate=3) * (alpha * unit)
    return sample(x, rows + field[:, 1], columns + field[:, 0], "reflect")


def _pixelate(images: Tensor, share: float) -> Tensor:
    height, width = images.shape[2:]
    small = box_resize(images, int(height * share), int(width * share))
    return box_resize(small, height, width)


def _jpeg_compression(images: Tensor, quality: int) -> Tensor:
    done = np.empty(images.shape, np.uint8)
    for image, out in zip(images.numpy(), done, strict=True):
        file = io.BytesIO()
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(file))
        out[:] = decoded if decoded.ndim == 2 else decoded.transpose(2, 0, 1)
    return torch.from_numpy(done)


# --- extra ----------------------------------------------------------------------------------


def _saturate(x: Tensor, random: torch.Generator, factor: float, more: float) -> Tensor:
    """Change the saturation of HSV; of a grey pixel the hue is red, as skimage has it."""
    if x.shape[1] == 1:
        return x
    high, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    saturation = (high - low) / high.clamp(min=1e-6)
    target = (saturation * factor + more).clamp(0, 1)
    coloured = high - (high - x) * (target / saturation.clamp(min=1e-6))
    red = high * torch.cat([torch.ones_like(target), 1 - target, 1 - target], 1)
    return torch.where(saturation > 0, coloured, red)


_WATER, _MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)


def _spatter(
    x: Tensor,
    random: torch.Generator,
    mean: float,
    sigma: float,
    smooth: float,
    threshold: float,
    strength: float,
    mud: int,
) -> Tensor:
    """Drops of water, or spots of mud of severity 4 on; `strength` of mud is a length."""
    liquid = gaussian(mean + sigma * normal(x, random, 1), smooth)
    liquid = torch.where(liquid < threshold, 0.0, liquid)
    if mud:
        mask = gaussian((liquid > threshold).float(), strength)
        mask = torch.where(mask < 0.8, 0.0, mask)
        return x * (1 - mask) + mask * _colour(_MUD, x)
    drops = (liquid.clamp(0, 1) * 255).floor()
    relief = drops * _relief(drops)
    highest = relief.amax((1, 2, 3), keepdim=True)
    return x + strength * relief / highest.clamp(min=1) * _colour(_WATER, x)


def _relief(drops: Tensor) -> Tensor:
    """Return the embossed distance from the outlines of drops: float32 [B, 1, H, W], 0 to 255."""
    wet = drops[:, 0].numpy() > 0
    cross = np.ones((1, 3, 3), bool)
    outline = wet & ~ndimage.binary_erosion(wet, cross, border_value=1)
    distance = np.full(wet.shape, 20.0)
    for i, edge in enumerate(outline):
        if edge.any():
            distance[i] = np.minimum(ndimage.distance_transform_edt(~edge), 20)
    mean = torch.full((3, 3), 1 / 9)
    levels = filtered(torch.from_numpy(distance).float()[:, None], mean).round().to(torch.uint8)
    emboss = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])
    return filtered(filtered(_equalized(levels), emboss).clamp(0, 255), mean)


def _equalized(levels: Tensor) -> Tensor:
    """Return `cv2.equalizeHist` of uint8 images [B, 1, H, W] as float32."""
    flat = levels.flatten(1).long()
    counts = torch.zeros(len(flat), 256).scatter_add_(1, flat, torch.ones(flat.shape))
    first = counts.gather(1, flat.amin(1, keepdim=True))
    rest = (flat.shape[1] - first).clamp(min=1)
    table = ((counts.cumsum(1) - first) * 255 / rest).round().clamp(0, 255)
    return table.gather(1, flat).view(levels.shape)


def _colour(colour: tuple[float, ...], x: Tensor) -> Tensor:
    whole = x.new_tensor(colour).view(1, 3, 1, 1)
    return whole if x.shape[1] == 3 else gray(whole)


_DRAWN: dict[str, Callable[..., Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "glass_blur": _glass_blur,
    "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "fog": _fog,
    "frost": _frost,
    "snow": _snow,
    "spatter": _spatter,
    "contrast": _contrast,
    "brightness": _brightness,
    "saturate": _saturate,
    "elastic_transform": _elastic_transform,
}
_ON_BYTES: dict[str, Callable[..., Tensor]] = {
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
