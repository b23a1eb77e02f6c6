"""What corruptions and perturbations are made of: functions of float32 images [B, C, H, W], 0 to 1.

Each does what the library that the published code calls does (named in its docstring), on a batch.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

LUMA = (0.299, 0.587, 0.114)


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 from 0 to 1."""
    return images.float() / 255


def to_bytes(images: Tensor) -> Tensor:
    """Return images as uint8, clipped and truncated as the published code does."""
    # A float32 that should be whole may be a little less: k / 255 * 255.
    return (images.clamp(0, 1) * 255 + 1e-3).to(torch.uint8)


def gray(images: Tensor) -> Tensor:
    """Return the luma, [B, 1, H, W], of images with 1 or 3 channels."""
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor(LUMA).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def normal(images: Tensor, generator: torch.Generator, channels: int | None = None) -> Tensor:
    """Draw standard normal numbers for images, in their shape or with so many channels."""
    batch, depth, height, width = images.shape
    return torch.randn(batch, channels or depth, height, width, generator=generator)


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


# --- borders --------------------------------------------------------------------------------


def fold(index: Tensor, size: int, *, edge: bool) -> Tensor:
    """Reflect indices into [0, size): with `edge` the border pixel counts twice.

    `edge` is "reflect" of SciPy and BORDER_REFLECT of OpenCV, else BORDER_REFLECT_101.
    """
    if edge:
        index = index.remainder(2 * size)
        return torch.minimum(index, 2 * size - 1 - index)
    period = max(2 * (size - 1), 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index).clamp(max=size - 1)


def padded(images: Tensor, padding: int, border: str) -> Tensor:
    """Return images with a border of `padding` pixels, of any width: nearest, mirror or reflect."""
    rows, columns = (torch.arange(-padding, size + padding) for size in images.shape[2:])
    height, width = images.shape[2:]
    if border == "nearest":
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    else:
        rows = fold(rows, height, edge=border == "reflect")
        columns = fold(columns, width, edge=border == "reflect")
    return images[:, :, rows][:, :, :, columns]


# --- blurs ----------------------------------------------------------------------------------


def gaussian(
    images: Tensor, sigma: float, *, border: str = "nearest", truncate: float = 4.0
) -> Tensor:
    """Return `scipy.ndimage.gaussian_filter` over height and width (skimage's is the same)."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return images
    position = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (position / sigma) ** 2)
    weights = (weights / weights.sum()).float()
    height, width = images.shape[2:]
    flat = padded(images, radius, border).flatten(0, 1)[:, None]
    flat = conv2d(conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return flat.view(*images.shape[:2], height, width)


def defocus(images: Tensor, radius: float, alias: float) -> Tensor:
    """Blur with a disk that is itself smoothed: `cv2.filter2D`, `cv2.GaussianBlur`."""
    return filtered(images, _disk(radius, alias))


@lru_cache(maxsize=64)
def _disk(radius: float, alias: float) -> Tensor:
    reach = 8 if radius <= 8 else math.ceil(radius)
    position = torch.arange(-reach, reach + 1, dtype=torch.float32)
    disk = (position**2 + position[:, None] ** 2 <= radius**2).float()
    near = 1 if radius <= 8 else 2
    taps = torch.exp(-(torch.arange(-near, near + 1, dtype=torch.float32) ** 2) / (2 * alias**2))
    smooth = torch.outer(taps, taps) / taps.sum() ** 2
    disk = filtered((disk / disk.sum())[None, None], smooth)[0, 0]
    # What is zero around it would only ask for a wider border.
    empty = int(((disk > 0).any(0)).nonzero()[0])
    return disk[empty : disk.shape[0] - empty, empty : disk.shape[1] - empty]


def filtered(images: Tensor, kernel: Tensor) -> Tensor:
    """Return `cv2.filter2D` with a square kernel of an odd side: correlation, mirrored border."""
    flat = padded(images, len(kernel) // 2, "mirror").flatten(0, 1)[:, None]
    return conv2d(flat, kernel[None, None].to(images)).view(images.shape)


def motion(images: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """Blur each image along its own angle (degrees [B]), one-sided: ImageMagick's MotionBlurImage.

    Where the motion leaves the image its border pixel goes on.
    """
    height, width = images.shape[2:]
    taps = 2 * radius + 1
    weights = torch.exp(-(torch.arange(taps, dtype=torch.float64) ** 2) / (2 * sigma**2))
    weights = (weights / weights.sum()).float()
    turn = torch.deg2rad(angle.double())
    blurred = torch.zeros_like(images)
    flat = images.flatten(2)
    for step in range(taps):
        down = torch.ceil(step * turn.sin() - 0.5).long()
        right = torch.ceil(step * turn.cos() - 0.5).long()
        row = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
        column = (torch.arange(width) + right[:, None]).clamp(0, width - 1)
        index = (row[:, :, None] * width + column[:, None, :]).flatten(1)[:, None]
        moved = flat.gather(2, index.expand(-1, images.shape[1], -1))
        blurred += weights[step] * moved.view(images.shape)
    return blurred


def clipped_zoom(images: Tensor, factor: float) -> Tensor:
    """Return the middle of images enlarged by `factor` >= 1: `scipy.ndimage.zoom`, linear."""
    height, width = images.shape[2:]
    rows, columns = (math.ceil(size / factor) for size in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    size = (round(rows * factor), round(columns * factor))
    middle = images[:, :, top : top + rows, left : left + columns]
    large = interpolate(middle, size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, :, top : top + height, left : left + width]


# --- warps ----------------------------------------------------------------------------------


def sample(images: Tensor, rows: Tensor, columns: Tensor, border: str) -> Tensor:
    """Look images up, bilinear, at float positions [B, H, W]; border: mirror, reflect or zero."""
    height, width = images.shape[2:]
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    flat = images.flatten(2)

    def corner(row: Tensor, column: Tensor) -> Tensor:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        if border == "zero":
            row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        else:
            row = fold(row, height, edge=border == "reflect")
            column = fold(column, width, edge=border == "reflect")
        index = (row * width + column).long().flatten(1)[:, None]
        value = flat.gather(2, index.expand(-1, images.shape[1], -1)).view(
            *images.shape[:2], *rows.shape[1:]
        )
        return value * inside[:, None] if border == "zero" else value

    upper = corner(top, left) * (1 - right) + corner(top, left + 1) * right
    lower = corner(top + 1, left) * (1 - right) + corner(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row and the column of every pixel, float32 [H, 1] and [1, W]."""
    height, width = images.shape[2:]
    return torch.arange(height).float()[:, None], torch.arange(width).float()[None]


def box_resize(images: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 images [B, C, H, W] as `PIL.Image.resize` with BOX does, to the last bit."""
    for axis, size in ((3, width), (2, height)):
        weights = _box(images.shape[axis], size)
        moved = torch.movedim(images.double(), axis, -1) @ weights.T
        images = torch.movedim((moved + 0.5 + 1e-6).floor().clamp(0, 255), -1, axis)
    return images.to(torch.uint8)


@lru_cache(maxsize=64)
def _box(old: int, new: int) -> Tensor:
    """Return Pillow's weights of a pass, float64 [new, old]."""
    step = old / new
    scale = max(step, 1.0)
    weights = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        centre = (i + 0.5) * step
        for k in range(max(int(centre - 0.5 * scale + 0.5), 0),
                       min(int(centre + 0.5 * scale + 0.5), old)):  # fmt: skip
            if -0.5 < (k - centre + 0.5) / scale <= 0.5:
                weights[i, k] = 1
    return weights / weights.sum(1, keepdim=True)


# --- textures -------------------------------------------------------------------------------


def plasma(batch: int, size: int, decay: float, generator: torch.Generator) -> Tensor:
    """Draw fractal clouds by the diamond-square algorithm: float32 [batch, size, size], 0 to 1.

    `size` is a power of two. Each halving of the step divides the size of what is drawn by `decay`.
    """
    clouds = torch.zeros(batch, size, size, dtype=torch.float64)
    step, wibble = size, 100.0

    def drawn(total: Tensor) -> Tensor:
        noise = torch.rand(total.shape, generator=generator, dtype=torch.float64)
        return total / 4 + wibble * wibble * (2 * noise - 1)

    while step >= 2:
        half = step // 2
        corners = clouds[:, ::step, ::step]
        total = corners + corners.roll(-1, 1)
        clouds[:, half::step, half::step] = drawn(total + total.roll(-1, 2))
        corners = clouds[:, ::step, ::step]
        centres = clouds[:, half::step, half::step]
        across = centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)
        clouds[:, ::step, half::step] = drawn(across)
        down = centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)
        clouds[:, half::step, ::step] = drawn(down)
        step, wibble = half, wibble / decay
    clouds -= clouds.amin((1, 2), keepdim=True)
    return (clouds / clouds.amax((1, 2), keepdim=True)).float()
