"""RandAugment and Cutout for batches of uint8 images, drawn per image, run on the images' device.

Noisy Student (arXiv 1911.04252, section 3.1) noises the student with RandAugment (arXiv
1909.13719). The operations and the scale of the magnitude are those of ``randaugment.py`` in
google-research/noisystudent; the arithmetic on pixels is Pillow's, bit for bit. That decides where
the official code, a TensorFlow port of Pillow, differs from it:

* Contrast blends with the mean grey value; the official code divides the sum of the histogram,
  which is the number of pixels, by 256 and blends with that.
* Sharpness rounds smoothed pixels; the official code truncates them.
* Shears map centres of pixels; the official code maps corners, half the shear in pixels apart.
* Thresholds beyond 255 and more than 8 bits to keep leave an image as it is (Solarize and
  Posterize at magnitude 27); the official code passes TensorFlow what no uint8 can hold.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, pairwise

import torch
from torch import Tensor

from ns_bench.selftrain.scale.row_random import Draws, draws_of

OPERATIONS = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast"),
    *("Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "SolarizeAdd"),
)
"""Names of the operations, in the official order, in which Cutout is the last but one of 16."""

FILL = 128
"""Value of the pixels that an operation uncovers."""

MAX_LEVEL = 1000.0
"""Largest magnitude taken, for which coordinates of 1024 pixels still fit the fixed point."""


def randaugment(
    images: Tensor,
    n: int,
    m: float,
    source: torch.Generator | Draws,
    with_cutout: bool = False,
) -> Tensor:
    """Apply `n` random operations of magnitude `m` to each image.

    In each layer every image draws one of `OPERATIONS`, uniformly and with replacement, and a sign
    for the operations that have one. One call draws everything, before any pixel is looked at.

    The host dispatches the operations. It has the draws of a CPU generator at once and then never
    waits for the device of the images; a generator on a device costs one wait per call.

    Args:
        images: uint8 [B, C, H, W] with 1 or 3 channels; not modified.
        n: number of layers; 0 returns `images` itself.
        m: magnitude from 0 to `MAX_LEVEL`; 10 is the nominal maximum, the paper uses 27.
        source: of the draws, on any device.
        with_cutout: `cutout` is one of the operations, as it is in the official code.

    Returns:
        uint8 [B, C, H, W] on the device of `images`.

    Raises:
        ValueError: if `images`, `n` or `m` is not as described.
    """
    _check(images, m)
    if n < 0:
        raise ValueError(f"the number of layers must not be negative, got {n}")
    draws, last = draws_of(source, images), 2 * len(OPERATIONS)
    layers = draws.integers(0, last + 2 * with_cutout, n).cpu()
    if not with_cutout:
        for codes in layers:
            images = _apply(images, codes, m)
        return images
    height, width = images.shape[2:]
    centres = zip(draws.integers(0, height, n), draws.integers(0, width, n), strict=True)
    for codes, (down, across) in zip(layers, centres, strict=True):
        erased = _with_square(images, down, across, cutout_side(m, height, width))
        others = _apply(images, codes.clamp(max=last - 1), m)
        chosen = (codes >= last).to(torch.uint8).to(images.device, non_blocking=True)
        chosen = chosen.view(-1, 1, 1, 1)
        images = erased * chosen + others * (1 - chosen)
    return images


def cutout_side(level: float, height: int, width: int) -> int:
    """Return the side of RandAugment's Cutout in pixels, even.

    The official constants: at level 10 twice an eighth of a small image, and twice 40 pixels for
    those of ImageNet.
    """
    side = max(height, width)
    return 2 * int(level / 10 * (side // 8 if side <= 64 else 40))


def cutout(images: Tensor, size: int, source: torch.Generator | Draws) -> Tensor:
    """Fill a square of each image with `FILL` (Cutout, arXiv 1708.04552; official `cutout`).

    The centre is uniform over the pixels of the image, and borders clip the square.

    Args:
        images: uint8 [B, C, H, W] with 1 or 3 channels; not modified.
        size: side of the square in pixels, twice the official `pad_size`; 0 fills nothing.
        source: of the draws, on any device.

    Returns:
        uint8 [B, C, H, W] on the device of `images`.

    Raises:
        ValueError: if `images` is not as described or `size` is negative.
    """
    _check(images, 0)
    if size < 0:
        raise ValueError(f"the side of the square must not be negative, got {size}")
    draws, (height, width) = draws_of(source, images), images.shape[2:]
    return _with_square(images, draws.integers(0, height), draws.integers(0, width), size)


def _with_square(images: Tensor, down: Tensor, across: Tensor, size: int) -> Tensor:
    """Fill a square of each image [B, C, H, W] around row `down` and column `across`, int64 [B]."""

    def covered(centre: Tensor, length: int) -> Tensor:
        start = centre[:, None].to(images.device, non_blocking=True) - size // 2
        position = torch.arange(length, device=images.device)
        return (position >= start) & (position < start + size)

    rows, columns = covered(down, images.shape[2]), covered(across, images.shape[3])
    square = (rows[:, None, :, None] & columns[:, None, None, :]).to(torch.uint8)
    # Several times as fast on CPU as masked_fill.
    return images * (1 - square) + FILL * square


def _check(images: Tensor, level: float) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        got = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"images must be uint8 [B, C, H, W] with 1 or 3 channels, got {got}")
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"the magnitude must be from 0 to {MAX_LEVEL:g}, got {level}")


def _apply(images: Tensor, codes: Tensor, level: float) -> Tensor:
    """Apply operation ``codes[i] // 2`` of `_BY_FAMILY`, negative if even, to image i.

    The codes [B] are on the host. Sorted by `_places`, the images of an operation are one slice of
    known length, and so are those of a family, which takes one pass. Those that nothing changes, as
    Posterize and Solarize at the paper's magnitude, take none.
    """
    codes, order = _places(level)[codes].sort()
    counts = torch.bincount(codes // 2, minlength=len(OPERATIONS)).tolist()
    first = len(_fixed_tables(level, images.device)) + len(_FITTED_TABLES)
    last = first + len(_MOVED)
    end = last + len(_FILTERED)
    sizes = [sum(counts[a:b]) for a, b in pairwise((0, first, last, end, None))]
    ordered = images.index_select(0, order.to(images.device, non_blocking=True))
    tabled, moved, filtered, same = ordered.split(sizes)
    changed = (
        _look_up(tabled, counts[:first], level),
        _move(moved, codes.split(sizes)[1] - 2 * first, level),
        _filter(filtered, counts[last:end], level),
        same,
    )
    back = order.argsort().to(images.device, non_blocking=True)
    return torch.cat(changed).index_select(0, back)


def _grey(images: Tensor) -> Tensor:
    """Return Pillow's conversion to mode L: whole numbers, float32 [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.float().split(1, dim=1)
    # In 1/65536, where all sums are below 2^24, and exact.
    grey = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471)
    return grey.add_(0x8000).mul_(1 / 65536).floor_()


def _blend(degenerate: Tensor | float, image: Tensor, level: float) -> Tensor:
    """Return ``Image.blend`` at the enhancement factor of `level`: float32, clipped, truncated."""
    factor = level / 10 * 1.8 + 0.1
    blended = (image.float() - degenerate).mul_(factor).add_(degenerate)
    # Truncated by way of int16, as floats take 3 times as long to uint8 on a CPU.
    return blended.clamp_(0, 255).short().to(torch.uint8)


@lru_cache(maxsize=64)
def _fixed_tables(level: float, device: torch.device) -> dict[str, Tensor]:
    """Return by name the lookup tables that fit every image, if they change any: uint8 [256]."""
    value = torch.arange(256)
    dropped = 8 - min(int(level / 10 * 4), 8)
    lighter = (value + int(level / 10 * 110)).clamp(max=255)
    tables = {
        "Invert": 255 - value,
        "Posterize": value >> dropped << dropped,
        "Solarize": torch.where(value < int(level / 10 * 256), value, 255 - value),
        "SolarizeAdd": torch.where(value < 128, lighter, value),
        "Brightness": _blend(0, value, level),
    }
    return {
        name: table.to(device, torch.uint8)
        for name, table in tables.items()
        if not torch.equal(table, value.to(table.dtype))
    }


@lru_cache(maxsize=8)
def _values(device: torch.device) -> Tensor:
    return torch.arange(256, dtype=torch.uint8, device=device)


def _autocontrast(images: Tensor, level: float) -> Tensor:
    pixels = images.flatten(2)
    low, high = pixels.amin(2, keepdim=True), pixels.amax(2, keepdim=True)  # faster than aminmax
    spread = high - low
    flat = spread == 0
    # Torch divides a number by a tensor as number * (1 / tensor), which rounds twice.
    whole = torch.full_like(spread, 255, dtype=torch.float64)
    scale = whole.div_(spread.masked_fill_(flat, 255))
    offset = low.masked_fill_(flat, 0) * scale
    return (_values(images.device) * scale).sub_(offset).clamp_(0, 255).to(torch.uint8)


def _equalize(images: Tensor, level: float) -> Tensor:
    pixels = images.flatten(2).long()
    histogram = pixels.new_zeros(*pixels.shape[:2], 256)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels))
    up_to = histogram.cumsum(2)
    # All pixels but the lightest, by a 255th.
    step = (up_to * (up_to < pixels.shape[2])).amax(2, keepdim=True) // 255
    darker = torch.where(step > 0, up_to.sub_(histogram).add_(step // 2), _values(images.device))
    # Floats, truncated, are as exact for images of less than 2^24 pixels, and 10 times as fast.
    return (darker / step.clamp_(min=1)).clamp_(max=255).to(torch.uint8)


def _contrast(images: Tensor, level: float) -> Tensor:
    pixels = images.shape[2] * images.shape[3]
    grey = _grey(images).sum((1, 2, 3), dtype=torch.float64).long()  # exact, as floats are not
    mean = (2 * grey + pixels) // (2 * pixels)
    return _contrasts(level, images.device).index_select(0, mean)[:, None]


@lru_cache(maxsize=8)
def _contrasts(level: float, device: torch.device) -> Tensor:
    """Return the table of Contrast by the rounded mean of an image: uint8 [256, 256]."""
    values = _values(device)
    return _blend(values[:, None].float(), values, level)


# Tables that depend on the image: uint8 [B, C, H, W] and a level to uint8 [B, C or 1, 256].
_FITTED_TABLES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Contrast": _contrast,
}


def _look_up(images: Tensor, counts: list[int], level: float) -> Tensor:
    """Apply the k-th table, of the fixed and then the fitted ones, to ``counts[k]`` images."""
    fixed = [*_fixed_tables(level, images.device).values()]
    fitted = zip(_FITTED_TABLES.values(), images.split(counts)[len(fixed) :], strict=True)
    tables = fixed + [fit(part, level) if len(part) else fixed[0] for fit, part in fitted]
    rows = [t.expand(k, images.shape[1], 256) for t, k in zip(tables, counts, strict=True)]
    return torch.cat(rows).gather(2, images.flatten(2).long()).view_as(images)


def _matrices(level: float, height: int, width: int) -> dict[str, tuple[float, ...]]:
    """Return by name the (a, b, c, d, e, f) of ``Image.transform`` for a level and its sign.

    Pixel (x, y) of the result is pixel (ax + by + c, dx + ey + f) of the image.
    """
    angle, shear, side = math.radians(level / 10 * 30), level / 10 * 0.3, max(height, width)
    # Pillow rounds these too: quarter turns are exact.
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = width / 2, height / 2
    # The official constants: an eighth of a small image, and 100 pixels for those of ImageNet.
    offset = level / 10 * (side // 8 if side <= 64 else 100)
    return {
        "Rotate": (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y),
        "ShearX": (1, shear, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, shear, 1, 0),
        "TranslateX": (1, 0, offset, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, offset),
    }


def _fixed_point_matrices(level: float, height: int, width: int) -> Tensor:
    """Return `_matrices`, negative and positive by turns, as Pillow holds them: int32 [10, 6].

    In 1/65536 pixel, they map centres of pixels.
    """
    signs = (_matrices(sign * level, height, width).values() for sign in (-1, 1))
    terms = [
        (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
        for a, b, c, d, e, f in chain.from_iterable(zip(*signs, strict=True))
    ]
    return (torch.tensor(terms, dtype=torch.float64) * 65536 + 0.5).floor().int()


@lru_cache(maxsize=4)
def _sources(level: float, height: int, width: int, device: torch.device) -> Tensor:
    """Return by row of `_fixed_point_matrices` from where each pixel is taken: int64 [10, H W].

    Pixels are counted row by row; H W is that of the pixels outside.
    """
    a, b, c, d, e, f = _fixed_point_matrices(level, height, width)[..., None, None].unbind(1)
    x, y = torch.arange(width, dtype=torch.int32), torch.arange(height, dtype=torch.int32)[:, None]
    column, row = (a * x + (b * y + c)) >> 16, (d * x + (e * y + f)) >> 16
    outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
    source = torch.where(outside, height * width, row * width + column)
    return source.flatten(1).long().to(device)


def _move(images: Tensor, turns: Tensor, level: float) -> Tensor:
    """Sample image i, nearest, by row ``turns[i]`` of `_sources`."""
    rows, channels, height, width = images.shape
    sources = _sources(level, height, width, images.device)
    source = sources.index_select(0, turns.to(images.device, non_blocking=True))
    pixels = torch.cat([images.flatten(2), images.new_full((rows, channels, 1), FILL)], dim=2)
    return pixels.gather(2, source[:, None].expand(-1, channels, -1)).view_as(images)


def _smooth(images: Tensor) -> Tensor:
    """Return ``ImageFilter.SMOOTH``, which copies the border: float32 [B, C, H, W]."""
    smooth = images.float()
    across = smooth[..., :-2] + smooth[..., 1:-1] + smooth[..., 2:]
    square = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    inner = smooth[..., 1:-1, 1:-1]
    # No integer plus 6.5 is a multiple of 13: a division that is inexact, as on CUDA, will do.
    inner.copy_(square.add_(inner, alpha=4).add_(6.5).div_(13).floor_())
    return smooth


def _filter(images: Tensor, counts: list[int], level: float) -> Tensor:
    """Blend ``counts[0]`` images with their grey, and the ``counts[1]`` others smoothed."""
    coloured, sharpened = images.split(counts)
    grey = _grey(coloured).expand(coloured.shape)
    return _blend(torch.cat((grey, _smooth(sharpened))), images, level)


_FIXED = ("Invert", "Posterize", "Solarize", "SolarizeAdd", "Brightness")
_MOVED = tuple(_matrices(0, 1, 1))
_FILTERED = ("Color", "Sharpness")
_BY_FAMILY = (*_FIXED, *_FITTED_TABLES, *_MOVED, *_FILTERED)


@lru_cache(maxsize=64)
def _places(level: float) -> Tensor:
    """Return by code where `_apply` puts an operation and its sign: int64 [30].

    Those that change nothing at this level are last.
    """
    changing = [*_fixed_tables(level, torch.device("cpu")), *_FITTED_TABLES, *_MOVED, *_FILTERED]
    order = changing + [name for name in _FIXED if name not in changing]
    return torch.tensor([2 * order.index(name) + sign for name in _BY_FAMILY for sign in (0, 1)])
