"""Glyphs: grey images of printed characters, drawn in any number from the fonts of matplotlib.

Every image is one glyph of an atlas (characters x fonts) under its own random affine warp, stroke
weight, softness, grey levels, pixel noise and, often, a piece of another character at the border.
`difficulty` scales all of that: 0 is the plain glyph, upright and centred, 1 the default.

A row of a result is a function of the generator's state, the row's index and its label: the first
rows of a larger call are those of a smaller one, and two calls in a row are one call cut in two.
Hence every draw is a uniform one, row after row (torch draws normal ones in blocks, which depend on
how many there are), and pixels pass only through operations that look at one row alone and round
once: what the shape of a batch changes, such as the use of fused multiplication, changes no bit.
What a row draws becomes its warp in float64.

The bytes are a function of the versions of Pillow (hence FreeType), matplotlib and torch.
"""

import math
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

OUT_OF_DOMAIN = ("characters", "blends", "noise")
"""Kinds of images that belong to no class; see `out_of_domain`."""

MIN_PIXELS, MAX_PIXELS = 8, 64
"""Sides of images, from the fewest a person can read to the most that the atlas has detail for."""

MAX_DIFFICULTY = 2.0

# Digits, letters that look like nothing before them, and last those that do: D, Q and O like 0,
# B like 8, S like 5, Z like 2, I like 1.
_CHARACTERS = "0123456789AEFHKLMNPRTUVWXYCJGDBSZQIO"
_UNLIKE_DIGITS = 26

# Foreign to any number of classes. The TeX fonts (cm*) have some ASCII and no Greek.
_FOREIGN_ASCII = "adefhmnrt@#%&+=?*"
_FOREIGN_GREEK = "αδλμπσφψωΓΔΛΞΠΦΨΩ"

_TEXT_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
)
_TEX_FONTS = ("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10")
_FONTS = (*_TEXT_FONTS, *_TEX_FONTS)

# The atlas, as shares of the side of a tile: a glyph fits a box of this height and width.
_TILE, _BOX_HEIGHT, _BOX_WIDTH = 112, 0.6, 0.66
# Height of a glyph that fills its box, as a share of the side of an undistorted image.
_HEIGHT = 0.74
# Pixels of an atlas per pixel of an undistorted image: room for images that show glyphs smaller.
_OVERSAMPLING = 1.25

# What one image draws, before its pixel noise; the columns of the draws.
_PARAMETERS = (
    *("font", "rotation", "scale", "aspect", "shear", "right", "down", "softness", "weight"),
    *("dark", "light", "noise", "cluttered", "near", "direction", "neighbour", "strength"),
)

# Images worked on at a time, few enough for the cache; the result does not depend on it.
_CHUNK = 1024


def classes_of(count: int) -> str:
    """Return the characters of `count` classes, class k being the k-th: digits, then letters.

    Letters that can be taken for a digit come last: O is the 36th and I the 35th.

    Raises:
        ValueError: if `count` is not from 2 to 36.
    """
    if not 2 <= count <= len(_CHARACTERS):
        raise ValueError(f"there can be 2 to {len(_CHARACTERS)} classes, not {count}")
    return _CHARACTERS[:count]


def images(
    labels: Tensor, *, classes: int, pixels: int, difficulty: float, generator: torch.Generator
) -> Tensor:
    """Draw one image of each label's character.

    ``images(labels[:n], ...)`` is ``images(labels, ...)[:n]``, from generators in the same state.

    Args:
        labels: int64 [N], from 0 to `classes` - 1; which characters: `classes_of`.
        classes: number of classes, 2 to 36. It bounds the labels and changes no image.
        pixels: side of the images, 8 to 64.
        difficulty: strength of every variation but that of the font, 0 to 2; 1 is the default of
            the benchmark (of 10 classes at 12 pixels, a support vector machine recognises 72 %
            with 50 labels and 99.9 % with 4,000), and 0 leaves one image per class and font.
        generator: source of the draws, on the CPU; a row takes 17 + pixels^2 of them.

    Returns:
        uint8 [N, 1, pixels, pixels]: light glyphs on dark ground.

    Raises:
        ValueError: if an argument is not as described.
    """
    _check(classes, pixels, difficulty, generator)
    if labels.dtype != torch.int64 or labels.ndim != 1 or labels.device.type != "cpu":
        got = f"{labels.dtype} {list(labels.shape)} on {labels.device}"
        raise ValueError(f"labels must be int64 [N] on the CPU, got {got}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(f"labels must be from 0 to {classes - 1}, got {low} to {high}")
    result = torch.empty(len(labels), 1, pixels, pixels, dtype=torch.uint8)
    for part, out in zip(labels.split(_CHUNK), result.split(_CHUNK), strict=True):
        draws = _draw(len(part), _width(pixels), generator)
        out[:, 0] = _bytes(_render(_class_glyphs(part, draws), draws, pixels, difficulty))
    return result


def out_of_domain(
    count: int,
    kind: str,
    *,
    classes: int,
    pixels: int,
    difficulty: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw `count` images of the `kind` of `OUT_OF_DOMAIN` that belong to no class.

    * characters: characters that are no class and not easily taken for one: signs, Greek and
      lower-case letters, and what fewer than 26 classes leave of the first 26;
    * blends: w times an image of a class plus 1 - w times one of a foreign character or, in every
      second image on average, of another class, w uniform from 0 to 1;
    * noise: smoothed random texture, from fine to coarse.

    The first rows of a larger call are those of a smaller one.

    Args:
        count: number of images.
        kind: one of `OUT_OF_DOMAIN`.
        classes, pixels, difficulty, generator: those of `images`.

    Returns:
        uint8 [count, 1, pixels, pixels].

    Raises:
        ValueError: if an argument is not as described.
    """
    _check(classes, pixels, difficulty, generator)
    if count < 0:
        raise ValueError(f"the number of images must not be negative, got {count}")
    if kind not in OUT_OF_DOMAIN:
        raise ValueError(f"the kind must be one of {', '.join(OUT_OF_DOMAIN)}, got {kind!r}")
    result = torch.empty(count, 1, pixels, pixels, dtype=torch.uint8)
    for out in result.split(_CHUNK):
        if kind == "characters":
            draws = _draw(len(out), _width(pixels), generator)
            glyphs = _foreign_glyphs(draws[:, 0], classes)
            grey = _render(glyphs, draws, pixels, difficulty)
        elif kind == "blends":
            grey = _blends(len(out), classes, pixels, difficulty, generator)
        else:
            grey = _texture(len(out), pixels, generator)
        out[:, 0] = _bytes(grey)
    return result


def _check(classes: int, pixels: int, difficulty: float, generator: torch.Generator) -> None:
    classes_of(classes)
    if not MIN_PIXELS <= pixels <= MAX_PIXELS:
        raise ValueError(
            f"the side of an image must be {MIN_PIXELS} to {MAX_PIXELS} pixels, got {pixels}"
        )
    if not 0 <= difficulty <= MAX_DIFFICULTY:
        raise ValueError(f"the difficulty must be from 0 to {MAX_DIFFICULTY:g}, got {difficulty}")
    if generator.device.type != "cpu":
        raise ValueError(f"the generator must be on the CPU, got one on {generator.device}")


# --- the atlas ------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _glyphs() -> tuple[tuple[str, str], ...]:
    """Return the (character, font) of every tile: the classes by font, then foreign characters."""
    return (
        *((character, font) for character in _CHARACTERS for font in _FONTS),
        *((character, font) for character in _FOREIGN_ASCII for font in _FONTS),
        *((character, font) for character in _FOREIGN_GREEK for font in _TEXT_FONTS),
    )


@lru_cache(maxsize=1)
def _tiles() -> Tensor:
    """Render every glyph into its box in the middle of a tile: uint8 [G, _TILE, _TILE]."""
    import matplotlib
    import numpy as np
    from PIL import Image, ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = {
        # The basic layout is there in every build of Pillow.
        name: ImageFont.truetype(folder / f"{name}.ttf", 128, layout_engine=ImageFont.Layout.BASIC)
        for name in _FONTS
    }
    tiles = np.zeros((len(_glyphs()), _TILE, _TILE), np.uint8)
    for tile, (character, font) in zip(tiles, _glyphs(), strict=True):
        mask = fonts[font].getmask(character, "L")
        ink = Image.frombytes("L", mask.size, bytes(mask))
        ink = ink.crop(ink.getbbox())
        scale = _TILE * min(_BOX_HEIGHT / ink.height, _BOX_WIDTH / ink.width)
        size = (max(1, round(scale * ink.width)), max(1, round(scale * ink.height)))
        left, top = (_TILE - size[0]) // 2, (_TILE - size[1]) // 2
        scaled = ink.resize(size, Image.Resampling.BOX)
        tile[top : top + size[1], left : left + size[0]] = np.asarray(scaled)
    return torch.from_numpy(tiles)


@lru_cache(maxsize=4)
def _atlas(pixels: int) -> Tensor:
    """Return every glyph, sharp and soft, for images of a side: float32 [G, 2, S, S], 0 to 1.

    It has about as many pixels as the images, so that sampling it needs no further smoothing.
    """
    side = min(_TILE, math.ceil(_OVERSAMPLING * pixels * _HEIGHT / _BOX_HEIGHT))
    sharp = _tiles()[:, None].float() / 255
    # Half the resolution of the image and back.
    few = max(4, math.ceil(0.5 * pixels * _HEIGHT / _BOX_HEIGHT))
    soft = interpolate(sharp, (few, few), mode="bilinear", antialias=True)
    return torch.cat(
        [
            interpolate(sharp, (side, side), mode="bilinear", antialias=True),
            interpolate(soft, (side, side), mode="bicubic").clamp_(0, 1),
        ],
        dim=1,
    )


def _class_glyphs(labels: Tensor, draws: Tensor) -> Tensor:
    """Return the tiles, int64 [N], of `labels` in the fonts that the draws choose."""
    return labels * len(_FONTS) + _choose(draws[:, 0], len(_FONTS))


def _foreign_glyphs(uniform: Tensor, classes: int) -> Tensor:
    """Return tiles, int64 [N], of characters that are no class, drawn by `uniform` [N]."""
    first, always = len(_FONTS) * classes, len(_FONTS) * len(_CHARACTERS)
    spare = len(_FONTS) * max(0, _UNLIKE_DIGITS - classes)
    chosen = _choose(uniform, spare + len(_glyphs()) - always)
    return torch.where(chosen < spare, first + chosen, always + chosen - spare)


def _choose(uniform: Tensor, count: int) -> Tensor:
    """Turn draws from [0, 1) into integers below `count`: exact in float64."""
    return (uniform.double() * count).long()


# --- images ---------------------------------------------------------------------------------


def _width(pixels: int) -> int:
    """Return how many draws one rendered image takes."""
    return len(_PARAMETERS) + pixels * pixels


def _draw(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw float32 [rows, columns] from [0, 1), row after row."""
    return torch.rand(rows, columns, generator=generator)


def _bytes(grey: Tensor) -> Tensor:
    """Round float32 from 0 to 1, or a little beyond, to uint8; `grey` is overwritten."""
    return grey.mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8)


def _render(glyphs: Tensor, draws: Tensor, pixels: int, difficulty: float) -> Tensor:
    """Render the tiles `glyphs`, int64 [N], with the draws [N, `_width`]: float32 [N, H, W]."""
    uniform = dict(zip(_PARAMETERS, draws[:, : len(_PARAMETERS)].double().unbind(1), strict=True))
    signed = {name: 2 * value - 1 for name, value in uniform.items()}

    # From positions in the image to positions in the tile, both from -1 to 1: shift to the centre
    # of the glyph, then turn, slant and scale.
    angle = 0.18 * difficulty * signed["rotation"]
    cos, sin = angle.cos(), angle.sin()
    slant = 0.12 * difficulty * signed["shear"]
    zoom = _BOX_HEIGHT / _HEIGHT * torch.exp(0.1 * difficulty * (signed["scale"] + 0.2))
    stretch = torch.exp(0.08 * difficulty * signed["aspect"])
    across, down = zoom * stretch, zoom / stretch
    matrix = (
        *(across * (cos - slant * sin), across * (sin + slant * cos)),
        *(-down * sin, down * cos),
    )
    centre = (0.09 * difficulty * signed["right"], 0.09 * difficulty * signed["down"])
    atlas = _atlas(pixels)
    both = _sample(atlas.index_select(0, glyphs), matrix, centre, pixels)
    softness = (0.5 * difficulty * uniform["softness"]).clamp(max=1)
    sharp, soft = both.unbind(1)
    ink = (soft - sharp).mul_(_column(softness)).add_(sharp)

    # Positive weights make strokes bold, negative ones thin.
    weight = difficulty * signed["weight"]
    bold = 0.5 * weight.clamp(min=0) - 0.15 * weight.clamp(max=0)
    thin = 0.15 * weight.clamp(max=0)
    ink.mul_(_column(1 + bold)).add_(_column(thin)).clamp_(0, 1)

    rows = (uniform["cluttered"] < 0.5 * difficulty).nonzero()[:, 0]
    if len(rows):
        ink[rows] = torch.maximum(ink[rows], _clutter(rows, uniform, matrix, centre, pixels))

    dark = 0.2 * difficulty * uniform["dark"]
    light = 1 - 0.15 * difficulty * uniform["light"]
    ink.mul_(_column(light - dark)).add_(_column(dark))
    # A pixel of a smaller image gathers more light.
    noise = 0.12 * min(1, pixels / 16) * difficulty * (0.3 + 0.7 * uniform["noise"])
    texture = draws[:, len(_PARAMETERS) :].view(-1, pixels, pixels)
    return ink.add_(texture.mul(_column(2 * noise)).sub_(_column(noise)))


def _clutter(
    rows: Tensor,
    uniform: dict[str, Tensor],
    matrix: tuple[Tensor, ...],
    centre: tuple[Tensor, Tensor],
    pixels: int,
) -> Tensor:
    """Return the ink, [R, H, W], of the neighbours that reach into the images of `rows`.

    A neighbour lies as its image's own glyph does, on a rectangle around that.
    """
    drawn = {name: value[rows] for name, value in uniform.items()}
    angle = 2 * math.pi * drawn["direction"]
    cos, sin = angle.cos(), angle.sin()
    distance = (1.3 + 0.35 * drawn["near"]) / torch.maximum(cos.abs(), sin.abs())
    # Characters are higher than wide.
    place = (centre[0][rows] + 0.85 * distance * cos, centre[1][rows] + distance * sin)
    glyphs = _choose(drawn["neighbour"], len(_glyphs()))
    tiles = _atlas(pixels)[:, :1].index_select(0, glyphs)
    ink = _sample(tiles, tuple(value[rows] for value in matrix), place, pixels)[:, 0]
    return ink.mul_(_column(0.4 + 0.6 * drawn["strength"]))


def _sample(
    tiles: Tensor, matrix: tuple[Tensor, ...], centre: tuple[Tensor, Tensor], pixels: int
) -> Tensor:
    """Look up `tiles`, float32 [N, C, S, S], at ``matrix @ (position - centre)``: [N, C, H, W].

    The matrices (a, b, c, d) and the centres (x, y) are float64 [N].
    """
    a, b, c, d = matrix
    x, y = centre
    position = ((2 * torch.arange(pixels, dtype=torch.float64) + 1) / pixels - 1).float()
    grid = torch.empty(len(tiles), pixels, pixels, 2)
    for axis, (by_x, by_y) in enumerate(((a, b), (c, d))):
        columns = position * by_x.float()[:, None]
        lines = position * by_y.float()[:, None] - (by_x * x + by_y * y).float()[:, None]
        torch.add(columns[:, None, :], lines[:, :, None], out=grid[..., axis])
    return grid_sample(tiles, grid, align_corners=False)


def _column(values: Tensor) -> Tensor:
    """Return float64 [N] as float32 [N, 1, 1]."""
    return values.float()[:, None, None]


# --- out of domain --------------------------------------------------------------------------


def _blends(
    rows: int, classes: int, pixels: int, difficulty: float, generator: torch.Generator
) -> Tensor:
    """Return mixtures of two rendered images, each with all its own draws."""
    width = _width(pixels)
    draws = _draw(rows, 4 + 2 * width, generator)
    shown_draws, other_draws = draws[:, 4:].split(width, dim=1)
    share, kind, label, step = draws[:, :4].double().unbind(1)
    labels = _choose(label, classes)
    others = (labels + 1 + _choose(step, classes - 1)) % classes
    second = _class_glyphs(others, other_draws)
    glyphs = torch.where(kind < 0.5, second, _foreign_glyphs(step, classes))
    shown = _render(_class_glyphs(labels, shown_draws), shown_draws, pixels, difficulty)
    other = _render(glyphs, other_draws, pixels, difficulty)
    return shown.sub_(other).mul_(_column(share)).add_(other)


def _texture(rows: int, pixels: int, generator: torch.Generator) -> Tensor:
    """Return noise smoothed by a random width, stretched between two random grey levels."""
    draws = _draw(rows, 3 + pixels * pixels, generator)
    smoothness, low, high = draws[:, :3].double().unbind(1)
    field = draws[:, 3:].view(rows, pixels, pixels)
    # Each step smooths both ways with (1, 2, 1) / 4, its taps ever farther apart.
    reaches = [reach for reach in (1, 1, 2, 2, 4, 4, 8, 8) if 8 * reach <= pixels]
    steps = _choose(smoothness, len(reaches) + 1)
    for step, reach in enumerate(reaches):
        active = (steps > step).nonzero()[:, 0]
        if len(active) == 0:
            break
        wide = pad(field[active], (reach,) * 4, mode="replicate")
        middle = slice(reach, -reach)
        tall = wide[..., : -2 * reach] + 2 * wide[..., middle] + wide[..., 2 * reach :]
        smooth = tall[:, : -2 * reach] + 2 * tall[:, middle] + tall[:, 2 * reach :]
        field[active] = smooth / 16
    least, greatest = field.flatten(1).aminmax(dim=1)
    span = (greatest - least)[:, None, None]
    dark, light = 0.4 * low, 1 - 0.4 * high
    field = (field - least[:, None, None]) / span
    return field.mul_(_column(light - dark)).add_(_column(dark))
