"""Corruptions against their published definitions.

The reference for 224 pixels is `imagecorruptions` (Hendrycks and Dietterich's code as a package;
its frost photographs and all). CIFAR-10-C's code is in no package: what of it has no randomness is
written down here again with the libraries that it calls, from
github.com/hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py.
"""

import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ns_bench.robustness import CORRUPTIONS, EXTRA, FAMILIES, OTHER, OVERLAPPING, SEVERITIES
from ns_bench.robustness import filters as f
from ns_bench.robustness.corruptions import corrupt
from ns_bench.robustness.severities import parameters
from ns_bench.selftrain.randaugment import OPERATIONS

pytestmark = pytest.mark.slow

ALL = (*CORRUPTIONS, *EXTRA)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(side: int, channels: int = 3, count: int = 1, seed: int = 0) -> Tensor:
    """Return smooth coloured images: uint8 [count, channels, side, side]."""
    coarse = torch.rand(count, channels, 7, 7, generator=generator(seed))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def published(name: str, image: Tensor, severity: int) -> np.ndarray:
    """Return what the package makes of an image [C, H, W]: float64, in its range."""
    package = pytest.importorskip(
        "imagecorruptions", reason="pip install imagecorruptions-imaug", exc_type=ImportError
    )
    done = package.corrupt(image.permute(1, 2, 0).numpy(), severity, name)
    return done.astype(np.float64).transpose(2, 0, 1)


# --- what every corruption is ---------------------------------------------------------------


def test_there_are_15_and_4_and_each_overlaps_randaugment_or_not():
    assert len(CORRUPTIONS) == 15 and len(EXTRA) == 4 and len(set(ALL)) == 19
    assert [len(names) for names in FAMILIES.values()] == [3, 4, 4, 4]
    assert {*OVERLAPPING} | {*OTHER} == {*CORRUPTIONS} and not {*OVERLAPPING} & {*OTHER}
    named = {why.split(":")[0].split(" which")[0].strip(",") for why in OVERLAPPING.values()}
    operations = {name.strip() for names in named for name in names.split(",")}
    assert operations <= set(OPERATIONS), "they are RandAugment's own names"
    assert {"Brightness", "Contrast", "Sharpness"} <= operations, "the paper's footnote 4"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3), (13, 3)])
def test_each_keeps_shape_and_input_and_repeats_itself(name, side, channels):
    images = photo(side, channels, count=3)
    before = images.clone()
    first = corrupt(images, name, 5, generator())
    assert first.shape == images.shape and first.dtype == torch.uint8
    assert torch.equal(first, corrupt(images, name, 5, generator()))
    assert torch.equal(images, before)
    if (name, channels) != ("saturate", 1):
        assert not torch.equal(first, images)


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from([name for name in ALL if name != "glass_blur"]),
    severity=st.sampled_from(SEVERITIES),
    height=st.integers(8, 20),
    width=st.integers(8, 20),
    channels=st.sampled_from([1, 3]),
)
def test_any_shape_will_do(name, severity, height, width, channels):
    random = torch.Generator().manual_seed(height * width)
    images = torch.randint(256, (2, channels, height, width), generator=random).to(torch.uint8)
    done = corrupt(images, name, severity, random)
    assert done.shape == images.shape and done.dtype == torch.uint8


@pytest.mark.parametrize("name", [name for name in ALL if name != "saturate"])
def test_more_severe_is_further_from_the_image(name):
    """But for saturate: severities 1 and 2 take colour away, 3 to 5 add some."""
    images = photo(32, count=16)
    near, far = (
        (corrupt(images, name, s, generator()).float() - images).square().mean() for s in (1, 5)
    )
    # elastic severities trade the affine map for local displacement
    assert far > near or name == "elastic_transform"


@pytest.mark.parametrize(
    ("images", "name", "severity"),
    [
        (torch.zeros(1, 1, 8, 8), "fog", 1),
        (torch.zeros(1, 2, 8, 8, dtype=torch.uint8), "fog", 1),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "smog", 1),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "fog", 6),
    ],
)
def test_what_cannot_be_is_refused(images, name, severity):
    with pytest.raises(ValueError, match=r"images must be|there is no corruption"):
        corrupt(images, name, severity, generator())


def test_lengths_fit_the_image():
    assert parameters("motion_blur", 1, 32) == (6, 1.0) == parameters("motion_blur", 1, 8)
    assert parameters("motion_blur", 1, 64) == (12, 2.0)
    assert parameters("motion_blur", 1, 224) == (10, 3.0)
    assert parameters("glass_blur", 5, 128) == (1.5 * 128 / 224, 2, 2)
    assert parameters("contrast", 5, 8) == (0.15,) and parameters("contrast", 5, 224) == (0.05,)
    assert parameters("spatter", 1, 64)[4] == 0.5, "the strength of water is no length"
    assert parameters("spatter", 4, 64)[4] == 1.2, "the width of mud is one"


# --- 224 pixels: the package ----------------------------------------------------------------


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize(
    ("name", "most", "mean"),  # grey levels
    [
        ("contrast", 1, 0.05),
        ("brightness", 1, 0.05),
        ("saturate", 1, 0.1),
        ("gaussian_blur", 1, 0.05),
        ("defocus_blur", 1, 0.05),
        ("pixelate", 0, 0),
        ("jpeg_compression", 0, 0),
    ],
)
def test_what_has_no_randomness_is_the_published_image(name, most, mean, severity):
    image = photo(224)
    ours = corrupt(image, name, severity, generator())[0].double().numpy()
    difference = np.abs(ours - published(name, image[0], severity))
    assert difference.max() <= most and difference.mean() <= mean


def error_of_spread(sample: np.ndarray) -> float:
    """Return the relative standard error of a sample's standard deviation."""
    squares = (sample - sample.mean()) ** 2
    kurtosis = (squares**2).mean() / squares.mean() ** 2
    return float(np.sqrt((kurtosis - 1) / (4 * sample.size)))


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_noise_has_the_published_distribution(name, severity):
    image = photo(224)
    ours = corrupt(image, name, severity, generator())[0].double().numpy()
    theirs = published(name, image[0], severity)
    clean = image[0].double().numpy()
    # the package's draws cannot be seeded: 150,000 say the mean to 0.3 of a grey level, and the
    # spread to what their tails allow (few pixels carry that of impulse noise)
    assert abs((ours - clean).mean() - (theirs - clean).mean()) < 0.8
    error = np.hypot(error_of_spread(ours - clean), error_of_spread(theirs - clean))
    assert (ours - clean).std() == pytest.approx((theirs - clean).std(), rel=5 * error)
    levels = (0, 1, 128, 254, 255)
    for low, high in itertools.pairwise(levels):
        share = [((x >= low) & (x < high)).mean() for x in (ours, theirs)]
        assert share[0] == pytest.approx(share[1], abs=0.01)


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("motion_blur", 0.25),
        ("snow", 0.15),
        ("fog", 0.25),
        ("spatter", 0.25),
        ("frost", 0.5),  # drawn, not photographed
    ],
)
def test_textures_change_images_by_as_much_as_the_published_ones(name, tolerance, severity):
    """Mean brightness and mean squared change, over twelve draws each."""
    image = photo(224)
    np.random.seed(0)
    clean = image[0].double().numpy()
    ours = corrupt(image.expand(12, -1, -1, -1), name, severity, generator()).double().numpy()
    theirs = np.stack([published(name, image[0], severity) for _ in range(12)])
    change = [np.sqrt(((x - clean) ** 2).mean()) for x in (ours, theirs)]
    assert change[0] == pytest.approx(change[1], rel=tolerance)
    assert ours.mean() == pytest.approx(theirs.mean(), rel=tolerance / 2)


def test_motion_blur_along_an_angle_is_the_published_one():
    image = photo(224)
    package = pytest.importorskip("imagecorruptions.corruptions", exc_type=ImportError)
    for angle in (-45.0, -10.0, 0.0, 33.0, 90.0, 180.0):
        pixels = image[0].permute(1, 2, 0).numpy().astype(np.float32)
        theirs = package._motion_blur(pixels, radius=15, sigma=8, angle=angle)
        ours = f.motion(image.float(), 15, 8.0, torch.tensor([angle]))[0].permute(1, 2, 0)
        assert np.abs(ours.numpy() - theirs).max() < 0.01


def test_fractal_clouds_are_those_of_the_published_algorithm(monkeypatch):
    """Drawn in the same order from the same numbers, they are the same clouds."""
    package = pytest.importorskip("imagecorruptions.corruptions", exc_type=ImportError)
    random = generator(3)

    def draw(low, high, shape):
        return low + (high - low) * torch.rand(shape, generator=random, dtype=torch.float64).numpy()

    monkeypatch.setattr(package.np.random, "uniform", draw)
    theirs = package.plasma_fractal(mapsize=32, wibbledecay=2.5)
    ours = f.plasma(1, 32, 2.5, generator(3))[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-3


# --- 32 pixels: the published code, written down again ---------------------------------------


def numpy_of(image: Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).numpy() / 255.0


def assert_close(ours: Tensor, theirs: np.ndarray, most: int = 1) -> None:
    """`theirs` from 0 to 1, [H, W, C]; both are cut to whole grey levels."""
    levels = (np.clip(theirs, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1).astype(int)
    assert np.abs(ours[0].numpy().astype(int) - levels).max() <= most


@pytest.mark.parametrize("severity", SEVERITIES)
def test_small_images_are_as_published(severity):
    image = photo(32)
    x = numpy_of(image)

    def ours(name: str) -> Tensor:
        return corrupt(image, name, severity, generator())

    c = [0.75, 0.5, 0.4, 0.3, 0.15][severity - 1]
    mean = x.mean((0, 1), keepdims=True)
    assert_close(ours("contrast"), (x - mean) * c + mean)

    sigma = [0.4, 0.6, 0.7, 0.8, 1][severity - 1]
    assert_close(
        ours("gaussian_blur"), ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")
    )

    c = [0.95, 0.9, 0.85, 0.75, 0.65][severity - 1]
    whole = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    small = whole.resize((int(32 * c), int(32 * c)), Image.Resampling.BOX)
    coarse = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
    assert np.array_equal(ours("pixelate")[0].permute(1, 2, 0).numpy(), coarse)

    file = io.BytesIO()
    whole.save(file, "JPEG", quality=[80, 65, 58, 50, 40][severity - 1])
    jpeg = np.asarray(Image.open(file))
    assert np.array_equal(ours("jpeg_compression")[0].permute(1, 2, 0).numpy(), jpeg)

    end = [1.06, 1.11, 1.16, 1.21, 1.26][severity - 1]
    factors = np.arange(1, end, 0.01)
    total = sum(zoomed(x, factor) for factor in factors)
    assert_close(ours("zoom_blur"), (x + total) / (len(factors) + 1))


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    side = len(x)
    cut = math.ceil(side / factor)
    top = (side - cut) // 2
    large = ndimage.zoom(x[top : top + cut, top : top + cut], (factor, factor, 1), order=1)
    trim = (len(large) - side) // 2
    return large[trim : trim + side, trim : trim + side]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_maps_are_as_published_from_the_same_draws(severity):
    """The package has other severities; this is CIFAR-10-C's code with SciPy's interpolation."""
    image, random = photo(32), generator(severity)

    def draw(reach: float, *shape: int) -> np.ndarray:
        return reach * (2 * torch.rand(shape, generator=random).numpy() - 1)

    alpha, sigma, affine = (
        32 * c
        for c in [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
                  (0.1, 0.03, 0.03)][severity - 1]
    )  # fmt: skip
    points = np.array([[26.0, 26], [26, 6], [6, 6]])
    moved = points + draw(affine, 3, 2)
    matrix = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)
    y, x = np.mgrid[:32, :32].astype(float)
    source_x, source_y = (matrix[0, i] * x + matrix[1, i] * y + matrix[2, i] for i in (0, 1))
    warped = [
        ndimage.map_coordinates(channel, [source_y, source_x], order=1, mode="mirror")
        for channel in numpy_of(image).transpose(2, 0, 1)
    ]
    if alpha:
        dx, dy = (
            alpha * ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3)
            for field in draw(1, 2, 32, 32)
        )
        warped = [
            ndimage.map_coordinates(channel, [y + dy, x + dx], order=1, mode="reflect")
            for channel in warped
        ]
    done = corrupt(image, "elastic_transform", severity, generator(severity))
    assert_close(done, np.stack(warped, 2))


def test_glass_takes_pixels_from_within_its_reach():
    ramp = torch.arange(32).mul(8).to(torch.uint8).expand(1, 3, 32, 32)
    done = corrupt(ramp, "glass_blur", 1, generator()).int()  # a sigma of 0.05 blurs nothing
    moved = (done - ramp)[..., 1:-1, 1:-1] / 8
    assert moved.min() == -1 and 0 <= moved.max() <= 30, "from the left one pixel, or a chain"
    assert (moved == 0).float().mean() > 0.3


def test_grey_images_have_their_colours_as_luma():
    image = photo(32, 1)
    grey = corrupt(image, "brightness", 3, generator())
    assert_close(grey, numpy_of(image) + 0.15)
    rgb = corrupt(image.expand(-1, 3, -1, -1), "brightness", 3, generator())
    assert (rgb.int() - grey.int()).abs().max() <= 1
    assert torch.equal(corrupt(image, "saturate", 5, generator()), image)
