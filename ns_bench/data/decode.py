"""From a file's bytes to an image: decoded, cropped in its middle, resized."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np


def decode(
    cell: Mapping[str, Any] | None,
    channels: int,
    pixels: int,
    fast: bool = False,
    means: bool = False,
) -> np.ndarray:
    """Return an image, uint8 [channels, pixels, pixels], of any mode and size.

    Grey, palette, RGBA and CMYK images are converted. What is not square is cropped in its middle;
    another size is resized (bilinear, antialiased).

    Args:
        cell: of an undecoded column of `datasets.Image`: {"bytes", "path"}.
        fast: decode a JPEG at a half, a quarter or an eighth of its size where that is at least
            twice what is wanted; pixels differ a little.
        means: a square whose side is a multiple of `pixels` is shrunk to the means of its parts,
            rounded, halves up.

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
            image.draft("L" if channels == 1 else "RGB", (2 * pixels, 2 * pixels))
        upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    if means and upright.width == upright.height and upright.width % pixels == 0:
        upright = upright.reduce(upright.width // pixels)
    if upright.size != (pixels, pixels):
        upright = ImageOps.fit(upright, (pixels, pixels), Image.Resampling.BILINEAR)
    return np.asarray(upright).reshape(pixels, pixels, channels).transpose(2, 0, 1)
