"""From a file's bytes to an image: decoded, cropped, resized."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def decode(
    cell: Mapping[str, Any] | None,
    channels: int,
    pixels: int,
    fast: bool = False,
    means: bool = False,
    photo: bool = False,
    crop: Sequence[float] | None = None,
) -> np.ndarray:
    """Return an image, uint8 [channels, pixels, pixels], of any mode and size.

    Grey, palette, RGBA and CMYK images are converted. What is not square is cropped in its middle;
    another size is resized (bilinear, antialiased). With `photo` it is as in the official code
    (preprocessing.py): the middle P / (P + 32) of the shorter side for P pixels, bicubic.

    Args:
        cell: of an undecoded column of `datasets.Image`: {"bytes", "path"}.
        fast: decode a JPEG at a half, a quarter or an eighth of its size where that is at least
            twice what is wanted; pixels differ a little.
        means: a square whose side is a multiple of `pixels` is shrunk to the means of its parts,
            rounded, halves up.
        crop: of a photo, this part instead of its middle: share of its area, width over height,
            and place from 0 to 1 in what room there is, across and down. A part that is wider or
            higher than the photo is cut there.

    Raises:
        Exception: it cannot be decoded, or has more than 89 million pixels; Pillow mostly raises
            OSError, ValueError or SyntaxError.
    """
    from PIL import Image, ImageOps

    if cell is None:
        raise ValueError("it is empty")
    raw = cell["bytes"]
    with warnings.catch_warnings():
        # of more than 89 million pixels, which take 0.6 GB to decode, however small the file is
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        opened = Image.open(cell["path"] if raw is None else io.BytesIO(raw))
    with opened as image:
        if fast:
            wanted = (2 * pixels, 2 * pixels)
            if photo:
                left, upper, right, lower = _part(*image.size, pixels, crop)
                factor = 2 * pixels / min(right - left, lower - upper)
                wanted = (math.ceil(factor * image.width), math.ceil(factor * image.height))
            image.draft("L" if channels == 1 else "RGB", wanted)
        upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    if photo:
        part = _part(*upright.size, pixels, crop)
        upright = upright.resize((pixels, pixels), Image.Resampling.BICUBIC, box=part)
    if means and upright.width == upright.height and upright.width % pixels == 0:
        upright = upright.reduce(upright.width // pixels)
    if upright.size != (pixels, pixels):
        upright = ImageOps.fit(upright, (pixels, pixels), Image.Resampling.BILINEAR)
    return np.asarray(upright).reshape(pixels, pixels, channels).transpose(2, 0, 1)


def stamp(cell: Mapping[str, Any]) -> list[int]:
    """Return the size, and the time of the last change in ns, of an image's file.

    [0, 0] of an image that is in a table.
    """
    if cell["bytes"] is not None:
        return [0, 0]
    stat = Path(cell["path"]).stat()
    return [stat.st_size, stat.st_mtime_ns]


def _part(
    width: int, height: int, pixels: int, crop: Sequence[float] | None
) -> tuple[float, float, float, float]:
    """Return left, upper, right and lower edge of what is taken of a photo."""
    if crop is None:
        across = down = min(width, height) * pixels / (pixels + 32)
        x = y = 0.5
    else:
        area, aspect, x, y = crop
        across = min(math.sqrt(area * width * height * aspect), width)
        down = min(math.sqrt(area * width * height / aspect), height)
    left, upper = x * (width - across), y * (height - down)
    return left, upper, min(left + across, width), min(upper + down, height)
