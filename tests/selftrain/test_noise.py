"""Input noise but for RandAugment: crops, shifts, mirroring."""

import math

import pytest
import torch
from builders import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from ns_bench.recipe import RowNoise
from ns_bench.selftrain.noise import augment, mirrored, padded_crop, resized_crop

CLEAN = RowNoise(randaugment_n=0, dropout=0.0, stochastic_depth=0.0)


def test_a_resized_crop_is_a_part_of_the_image() -> None:
    """Of a ramp it is a ramp again: it shows from which place to which the crop went."""
    ramp = torch.arange(64, dtype=torch.float32).mul(4).expand(1, 1, 64, 64)
    crops = resized_crop(ramp.expand(2000, -1, -1, -1).to(torch.uint8), 0.08, seeded(3))
    assert crops.shape == (2000, 1, 64, 64) and crops.dtype == torch.uint8
    assert (crops.int() - crops[:, :, :1].int()).abs().max() <= 1  # but for rounding
    left, right = crops[:, 0, 0, 8].float(), crops[:, 0, 0, 55].float()
    width = (right - left) / 47 / 4  # share of the image's width, by its slope
    assert 0.2 < width.min() < 0.3  # sqrt(0.08 x 3/4) = 0.245
    assert width.max() == pytest.approx(1, abs=0.01)
    middle = (left + right) / 2 / 252
    assert middle.mean() == pytest.approx(0.5, abs=0.02)
    assert middle[width > 0.99].std() < 0.01 < middle[width < 0.5].std()


def test_a_resized_crop_is_part_of_the_noise() -> None:
    picture = torch.randint(0, 256, (50, 3, 9, 9), generator=seeded()).to(torch.uint8)
    noise = RowNoise(randaugment_n=0, resized_crop=0.5)
    assert torch.equal(augment(picture, noise, seeded(2)), resized_crop(picture, 0.5, seeded(2)))


def test_a_resized_crop_is_bilinear() -> None:
    """By hand: the box of these draws, and between its pixels."""
    picture = torch.randint(0, 256, (1, 3, 40, 40), generator=seeded()).to(torch.uint8)
    draws = torch.rand(4, 1, generator=seeded(6))[:, 0]
    size = 0.3 + 0.7 * draws[0]
    aspect = torch.exp(math.log(3 / 4) + draws[1] * math.log(16 / 9))
    width, height = (40 * size**0.5 * aspect**0.5).item(), (40 * size**0.5 / aspect**0.5).item()
    assert max(width, height) < 40
    left, top = draws[2].item() * (40 - width), draws[3].item() * (40 - height)
    coordinate = torch.arange(40) + 0.5
    x = left + coordinate * width / 40 - 0.5
    y = top + coordinate * height / 40 - 0.5
    ours = resized_crop(picture, 0.3, seeded(6))[0].float()

    def at(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low = values.floor().clamp(0, 39)
        return low.long(), (low + 1).clamp(max=39).long(), (values - low).clamp(0, 1)

    x0, x1, fx = at(x)
    y0, y1, fy = at(y)
    image = picture[0].float()
    rows = image[:, y0] * (1 - fy)[:, None] + image[:, y1] * fy[:, None]
    expected = rows[:, :, x0] * (1 - fx) + rows[:, :, x1] * fx
    assert (ours - expected).abs().max() <= 0.51


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(2, 9), width=st.integers(2, 9), data=st.data(), seed=st.integers(0, 2**31)
)
def test_a_padded_crop_is_a_crop_of_the_reflected_image(
    height: int, width: int, data: st.DataObject, seed: int
) -> None:
    padding = data.draw(st.integers(1, min(height, width) - 1))
    images = torch.randint(0, 256, (6, 3, height, width), generator=seeded(seed)).byte()
    padded = pad(images.float(), (padding,) * 4, mode="reflect").byte()
    cropped = padded_crop(images, padding, seeded(seed))
    assert cropped.dtype == torch.uint8
    offsets = range(2 * padding + 1)
    for image, source in zip(cropped, padded, strict=True):
        crops = [source[:, y : y + height, x : x + width] for y in offsets for x in offsets]
        assert any(torch.equal(image, crop) for crop in crops)


def test_shifts_of_a_padded_crop_are_uniform_and_independent() -> None:
    picture = torch.randint(0, 256, (1, 1, 8, 8), generator=seeded()).byte()
    padded = pad(picture.float(), (2,) * 4, mode="reflect").byte()[0]
    offsets = [(y, x) for y in range(5) for x in range(5)]
    crops = [padded[:, y : y + 8, x : x + 8] for y, x in offsets]
    out = padded_crop(picture.expand(5000, -1, -1, -1), 2, seeded(1))
    counts = torch.tensor([(out == crop).flatten(1).all(1).sum() for crop in crops])
    assert counts.sum() == 5000
    chi2 = ((counts - 200.0) ** 2 / 200).sum()
    assert chi2 < 52  # 24 degrees of freedom: exceeded once in 1000


def test_padding_beyond_the_image_still_gives_pixels_of_it() -> None:
    picture = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    out = padded_crop(picture.expand(50, -1, -1, -1), 7, seeded())
    assert set(out.unique().tolist()) == {1, 2, 3, 4}
    line = torch.full((4, 1, 1, 1), 9, dtype=torch.uint8)
    assert torch.equal(padded_crop(line, 3, seeded()), line)


def test_no_noise_leaves_images_alone() -> None:
    images = torch.randint(0, 256, (5, 1, 8, 8), generator=seeded()).byte()
    assert torch.equal(augment(images, CLEAN, seeded()), images)


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(0, 2**31))
def test_mirroring_changes_about_half_of_the_images_and_nothing_else(count: int, seed: int) -> None:
    images = torch.arange(count * 6, dtype=torch.int32).remainder(256).to(torch.uint8)
    images = images.view(count, 1, 2, 3)
    found = mirrored(images, torch.Generator().manual_seed(seed))
    turned = [torch.equal(f, i.flip(2)) for f, i in zip(found, images, strict=True)]
    kept = [torch.equal(f, i) for f, i in zip(found, images, strict=True)]
    assert all(t or k for t, k in zip(turned, kept, strict=True))
    if count >= 40:
        assert 5 <= sum(turned) <= count - 5
