"""RandAugment against Pillow, and what its draws may and may not depend on."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from builders import seeded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import chisquare
from torch import Tensor

from ns_bench.selftrain.randaugment import (
    _BY_FAMILY,
    OPERATIONS,
    _apply,
    cutout,
    cutout_side,
    randaugment,
)

SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
SHAPES = [(8, 8), (32, 32), (24, 9), (5, 31), (64, 40), (20, 65), (2, 3), (1, 1)]


def apply_operation(images: Tensor, name: str, level: float, sign: int = 1) -> Tensor:
    """Apply one operation to every image, as `randaugment` does."""
    code = 2 * _BY_FAMILY.index(name) + (sign > 0)
    return _apply(images, torch.full((len(images),), code), level)


def random_images(seed: int, channels: int, shape: tuple[int, int], batch: int = 2) -> Tensor:
    """Return uint8 [batch, channels, *shape], each channel of a random range, some constant."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.integers(0, 256, (2, batch, channels, 1, 1)), axis=0)
    high = np.where(rng.random(low.shape) < 0.1, low, high)
    full = rng.random(low.shape) < 0.4
    low, high = np.where(full, 0, low), np.where(full, 255, high)
    pixels = rng.integers(low, high + 1, (batch, channels, *shape))
    return torch.from_numpy(pixels.astype(np.uint8))


def pillow(image: Tensor, name: str, level: float, sign: int) -> Tensor:
    """Return what Pillow makes of an image [C, H, W] by the official definition of `name`."""
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    picture = Image.fromarray(pixels.numpy())
    bands, fraction, side = len(picture.getbands()), level / 10, max(picture.size)
    shear, offset = sign * fraction * 0.3, sign * fraction * (side // 8 if side <= 64 else 100)
    grey, nearest = (128,) * bands, Image.Resampling.NEAREST

    def affine(*matrix: float) -> Image.Image:
        kind = Image.Transform.AFFINE
        return picture.transform(picture.size, kind, matrix, nearest, fillcolor=grey)

    match name:
        case "AutoContrast" | "Equalize" | "Invert":
            result = getattr(ImageOps, name.lower())(picture)
        case "Posterize":
            bits = min(int(fraction * 4), 8)
            result = ImageOps.posterize(picture, bits) if bits else picture.point([0] * 256 * bands)
        case "Solarize":
            result = ImageOps.solarize(picture, int(fraction * 256))
        case "SolarizeAdd":
            added = [min(value + int(fraction * 110), 255) for value in range(128)]
            result = picture.point([*added, *range(128, 256)] * bands)
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            result = getattr(ImageEnhance, name)(picture).enhance(fraction * 1.8 + 0.1)
        case "Rotate":
            result = picture.rotate(sign * fraction * 30, nearest, fillcolor=grey)
        case "ShearX":
            result = affine(1, shear, 0, 0, 1, 0)
        case "ShearY":
            result = affine(1, 0, 0, shear, 1, 0)
        case "TranslateX":
            result = affine(1, 0, offset, 0, 1, 0)
        case "TranslateY":
            result = affine(1, 0, 0, 0, 1, offset)
        case _:
            raise AssertionError(f"no definition of {name}")
    return torch.from_numpy(np.array(result)).view(*image.shape[1:], bands).permute(2, 0, 1)


def test_the_names_are_the_official_ones_in_their_order() -> None:
    assert " ".join(OPERATIONS) == (
        "AutoContrast Equalize Invert Rotate Posterize Solarize Color Contrast Brightness "
        "Sharpness ShearX ShearY TranslateX TranslateY SolarizeAdd"
    )


# Exact for every family. Levels are quarters because Pillow translates in double precision: an
# offset closer to half a pixel than 1/131072, without being there, would move by one pixel more.
@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 3]),
    shape=st.sampled_from(SHAPES),
    quarters=st.integers(0, 160),
    sign=st.sampled_from([-1, 1]),
)
@example(seed=0, channels=3, shape=(32, 32), quarters=0, sign=1)
@example(seed=1, channels=3, shape=(32, 32), quarters=108, sign=-1)
@example(seed=2, channels=1, shape=(8, 8), quarters=108, sign=1)
@example(seed=3, channels=3, shape=(32, 32), quarters=120, sign=1)
@example(seed=4, channels=3, shape=(64, 40), quarters=40, sign=-1)
@example(seed=5, channels=3, shape=(20, 65), quarters=3, sign=1)
def test_each_operation_equals_pillow(
    name: str, seed: int, channels: int, shape: tuple[int, int], quarters: int, sign: int
) -> None:
    images, level = random_images(seed, channels, shape), quarters / 4
    result = apply_operation(images, name, level, sign)
    expected = torch.stack([pillow(image, name, level, sign) for image in images])
    assert result.dtype == torch.uint8
    assert torch.equal(result, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNED)
def test_geometry_at_any_level_differs_from_pillow_by_ties_alone(name: str) -> None:
    images = random_images(0, 3, (32, 32), batch=1)
    levels = 40 * torch.rand(200, generator=seeded(), dtype=torch.float64)
    wrong = [
        (apply_operation(images, name, level, 1)[0] != pillow(images[0], name, level, 1)).any(0)
        for level in levels.tolist()
    ]
    assert torch.stack(wrong).float().mean() < 1e-4


def test_the_sign_turns_an_operation_around() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).mul(4).expand(1, 1, 32, 32).contiguous()
    moved = apply_operation(ramp, "TranslateX", 5, 1)
    assert torch.equal(moved[..., :30], ramp[..., 2:])
    assert (moved[..., 30:] == 128).all()
    mirrored = apply_operation(ramp.flip(3), "TranslateX", 5, -1).flip(3)
    assert torch.equal(mirrored, moved)


def test_operations_that_change_nothing_at_magnitude_27() -> None:
    images = random_images(0, 3, (32, 32), batch=8)
    same = {name for name in OPERATIONS if torch.equal(apply_operation(images, name, 27), images)}
    assert same == {"Posterize", "Solarize"}
    grey = random_images(0, 1, (8, 8), batch=8)
    same = {name for name in OPERATIONS if torch.equal(apply_operation(grey, name, 27), grey)}
    assert same == {"Posterize", "Solarize", "Color", "Equalize"}


def decode(image: Tensor, results: Tensor, level: float) -> list[tuple[str, int]]:
    """Return for each of `results` the one operation and sign that turns `image` into it."""
    outcomes = {
        apply_operation(image[None], name, level, sign).numpy().tobytes(): (name, sign)
        for name in OPERATIONS
        for sign in ((-1, 1) if name in SIGNED else (1,))
    }
    assert len(outcomes) == len(OPERATIONS) + len(SIGNED), "outcomes are ambiguous"
    return [outcomes[result.numpy().tobytes()] for result in results]


def noise_image(seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, 32, 32), generator=seeded(seed), dtype=torch.uint8)


def test_operations_and_signs_are_drawn_uniformly() -> None:
    image, count = noise_image(), 6000
    drawn = decode(image, randaugment(image.expand(count, 3, 32, 32), 1, 6, seeded()), 6)
    names = Counter(name for name, _ in drawn)
    assert chisquare([names[name] for name in OPERATIONS]).pvalue > 1e-3
    signs = Counter(drawn)
    assert chisquare([signs[name, sign] for name in SIGNED for sign in (-1, 1)]).pvalue > 1e-3


def test_successive_images_and_layers_draw_independently() -> None:
    image, count = noise_image(), 4500
    generator = seeded()
    first, second = (
        [name for name, _ in decode(image, randaugment(batch, 1, 6, generator), 6)]
        for batch in [image.expand(count, 3, 32, 32)] * 2
    )
    for pairs in (zip(first, second, strict=True), pairwise(first)):
        seen = Counter(pairs)
        assert chisquare([seen[a, b] for a in OPERATIONS for b in OPERATIONS]).pvalue > 1e-3


def test_each_image_of_a_mixed_batch_gets_its_own_operation() -> None:
    images = random_images(1, 3, (32, 32), batch=64)
    image = noise_image()
    drawn = decode(image, randaugment(image.expand(64, 3, 32, 32), 1, 6.5, seeded(5)), 6.5)
    results = randaugment(images, 1, 6.5, seeded(5))
    for i, (name, sign) in enumerate(drawn):
        assert torch.equal(results[i], apply_operation(images[i : i + 1], name, 6.5, sign)[0])


def test_layers_follow_each_other() -> None:
    images, generator = random_images(2, 3, (32, 32), batch=50), seeded(3)
    expected = images
    for _ in range(3):
        expected = randaugment(expected, 1, 9, generator)
    assert torch.equal(randaugment(images, 3, 9, seeded(3)), expected)


@pytest.mark.parametrize("m", [0, 27, 6.5])
@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 8)), (3, (32, 32)), (3, (20, 12))])
def test_a_row_depends_on_its_own_pixels_and_draws_alone(
    channels: int, shape: tuple[int, int], m: float
) -> None:
    images = random_images(3, channels, shape, batch=40)
    before, generator = images.clone(), seeded(7)
    results = randaugment(images, 2, m, generator)
    assert results.shape == images.shape
    assert results.dtype == torch.uint8
    assert torch.equal(images, before), "the input was modified"
    assert torch.equal(randaugment(images, 2, m, seeded(7)), results), "not deterministic"

    others = torch.arange(40) % 3 > 0
    images[others] = random_images(4, channels, shape, batch=40)[others]
    other_generator = seeded(7)
    again = randaugment(images, 2, m, other_generator)
    assert torch.equal(again[~others], results[~others])
    assert torch.equal(generator.get_state(), other_generator.get_state())


def test_the_generator_decides() -> None:
    images, generator = random_images(3, 3, (32, 32), batch=40), seeded(7)
    first = randaugment(images, 2, 9, generator)
    assert not torch.equal(first, randaugment(images, 2, 9, generator))
    assert not torch.equal(first, randaugment(images, 2, 9, seeded(8)))


def test_no_layers_no_images_and_strided_images() -> None:
    images = random_images(0, 3, (32, 32), batch=30)
    generator = seeded()
    assert torch.equal(randaugment(images, 0, 27, generator), images)
    assert torch.equal(generator.get_state(), seeded().get_state())
    assert randaugment(images[:0], 2, 27, generator).shape == (0, 3, 32, 32)
    strided = images.to(memory_format=torch.channels_last)
    expected = randaugment(images, 2, 9, seeded())
    assert torch.equal(randaugment(strided, 2, 9, seeded()), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 8)), (3, (32, 32))])
def test_a_device_computes_the_same_without_a_wait(channels: int, shape: tuple[int, int]) -> None:
    images = random_images(0, channels, shape, batch=200)
    on_device = images.cuda()
    randaugment(on_device, 2, 9, seeded())  # fills the tables kept for this level
    try:
        torch.cuda.set_sync_debug_mode("error")
        noised = cutout(randaugment(on_device, 2, 9, seeded()), 4, seeded())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(noised.cpu(), cutout(randaugment(images, 2, 9, seeded()), 4, seeded()))


def test_cutout_fills_a_clipped_square_around_a_uniform_centre() -> None:
    count, height, width, size = 6000, 5, 4, 2
    images = torch.zeros(count, 3, height, width, dtype=torch.uint8)
    results = cutout(images, size, seeded())
    assert not images.any()
    squares = []
    for y in range(height):
        for x in range(width):
            square = torch.zeros(3, height, width, dtype=torch.uint8)
            square[:, max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1] = 128
            squares.append(square.numpy().tobytes())
    seen = Counter(result.numpy().tobytes() for result in results)
    assert set(seen) == set(squares)
    assert chisquare([seen[square] for square in squares]).pvalue > 1e-3
    assert torch.equal(cutout(images, size, seeded()), results)


def is_erased(image: Tensor, result: Tensor, size: int) -> bool:
    """Whether `result` [C, H, W] is `image` with a grey square of this side, cut at the borders."""
    height, width = image.shape[1:]
    for y in range(height):
        for x in range(width):
            erased, half = image.clone(), size // 2
            erased[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 128
            if torch.equal(erased, result):
                return True
    return False


def test_cutout_is_one_operation_of_sixteen_if_it_is_one() -> None:
    image, count = noise_image()[:, :16, :16].contiguous(), 3200
    results = randaugment(image.expand(count, 3, 16, 16), 1, 10, seeded(), with_cutout=True)
    grey = (results == 128).all(1).flatten(1).sum(1)
    assert cutout_side(10, 16, 16) == 4
    others = Counter[bytes]()
    for name in OPERATIONS:
        for sign in (-1, 1):
            others[apply_operation(image[None], name, 10, sign)[0].numpy().tobytes()] += 1
    rest = [row for row in range(count) if results[row].numpy().tobytes() not in others]
    assert all(is_erased(image, results[row], 4) for row in rest[:40])
    assert all(4 <= int(grey[row]) <= 16 for row in rest)  # a corner of the square, or all of it
    assert chisquare([len(rest), count - len(rest)], [count / 16, count * 15 / 16]).pvalue > 1e-3


def test_without_cutout_the_draws_are_those_of_the_fifteen_operations() -> None:
    images = random_images(0, 1, (8, 8), batch=40)
    generator, other = seeded(4), seeded(4)
    results = randaugment(images, 2, 9, generator)
    assert torch.equal(results, randaugment(images, 2, 9, other, with_cutout=False))
    again = seeded(4)
    torch.randint(0, 2 * len(OPERATIONS), (2, 40), generator=again)
    assert torch.equal(generator.get_state(), again.get_state())


@pytest.mark.parametrize(
    ("level", "shape", "side"),
    [(10, (32, 32), 8), (5, (32, 32), 4), (9, (8, 8), 0), (10, (8, 8), 2), (27, (224, 224), 216)],
)
def test_the_square_has_the_official_side(level: float, shape: tuple[int, int], side: int) -> None:
    """Official `_level_to_arg` and `cutout`: int(level / 10 x constant) to each side."""
    assert cutout_side(level, *shape) == side


def test_cutout_keeps_what_lies_outside() -> None:
    images = random_images(0, 3, (32, 32), batch=20)
    assert torch.equal(cutout(images, 0, seeded()), images)
    results = cutout(images, 16, seeded())
    kept = results == images
    assert (results[~kept] == 128).all()
    assert (~kept).float().mean() < 16 * 16 / (32 * 32)
    assert (cutout(images, 64, seeded()) == 128).all()


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(2, 4, 8, 8, dtype=torch.uint8),
    ],
)
def test_other_images_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match="images must be uint8"):
        randaugment(images, 2, 9, seeded())
    with pytest.raises(ValueError, match="images must be uint8"):
        cutout(images, 4, seeded())


def test_other_numbers_and_names_are_refused() -> None:
    images = random_images(0, 3, (8, 8))
    for level in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="magnitude"):
            randaugment(images, 2, level, seeded())
    with pytest.raises(ValueError, match="layers"):
        randaugment(images, -1, 9, seeded())
    with pytest.raises(ValueError, match="side of the square"):
        cutout(images, -2, seeded())
