"""Perturbation sequences: their frames against the libraries that the published code calls, and
flip probability by hand."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from ns_bench.robustness import PERTURBATIONS
from ns_bench.robustness.perturbations import FROM_FIRST, flips, frames

pytestmark = pytest.mark.slow

# CIFAR-10-P and ImageNet-P: github.com/hendrycks/robustness, ImageNet-P/create_p
SMALL = dict.fromkeys(PERTURBATIONS, 31) | {"motion_blur": 21, "translate": 16}
LARGE = dict.fromkeys(PERTURBATIONS, 31) | {"translate": 41}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(side: int, channels: int = 3) -> torch.Tensor:
    coarse = torch.rand(1, channels, 6, 6, generator=generator(1))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def sequence(images: torch.Tensor, name: str) -> torch.Tensor:
    return torch.stack(list(frames(images, name, generator())))


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Frames of whole grey levels against values from 0 to 1, but for the cut."""
    assert (ours.float() - 255 * theirs.clamp(0, 1)).abs().max() <= 1.01


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_frames_are_as_many_as_published_and_repeat_themselves(name):
    for side, channels, count in [(8, 1, SMALL), (32, 3, SMALL), (128, 1, LARGE)]:
        images = image(side, channels).repeat(24 if side == 8 else 2, 1, 1, 1)  # snow is rare
        done = sequence(images, name)
        assert done.shape == (count[name], *images.shape) and done.dtype == torch.uint8
        assert torch.equal(done, sequence(images, name))
        assert not torch.equal(done[0], done[-1])


def test_there_is_no_other():
    with pytest.raises(ValueError, match="no perturbation 'shear'"):
        next(frames(image(8), "shear", generator()))


def test_noise_begins_with_the_image_and_has_the_published_size():
    images = image(32).repeat(20, 1, 1, 1)
    inside = (images > 40) & (images < 215)  # where nothing is clipped
    for name, expected in [
        ("gaussian_noise", torch.tensor(0.02 * 255).expand(images.shape)),
        ("shot_noise", (images / 255 / 700).sqrt() * 255),
    ]:
        done = sequence(images, name)
        assert torch.equal(done[0], images)
        spread = (done[1:].float() - images)[:, inside].std()
        assert spread == pytest.approx(expected[inside].square().mean().sqrt().item(), rel=0.03)
        assert not torch.equal(done[1], done[2])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rotate", lambda i: {"angle": i - 15.0}),
        ("scale", lambda i: {"scale": (i * 2 + 70) / 100}),
        ("translate", lambda i: {"translate": [i - 7, 0]}),
    ],
)
def test_moves_are_those_of_torchvision(name, options):
    x = image(32)
    done = sequence(x, name)
    for i in range(len(done)):
        usual = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0]}
        theirs = affine(
            x / 255, **{**usual, **options(i)}, interpolation=InterpolationMode.BILINEAR
        )
        assert_close(done[i], theirs)


def test_a_shift_is_a_share_of_the_side():
    small = sequence(image(8, 1), "translate")
    assert torch.equal(small[7], image(8, 1)), "frame 7 is the image"
    assert torch.equal(small[11][..., 1:], image(8, 1)[..., :-1]), "4 of 32 pixels are 1 of 8"
    assert (small[11][..., 0] == 0).all(), "before a black ground"


def test_brightness_shifts_the_value():
    x = image(32)
    for i, frame in enumerate(sequence(x, "brightness")):
        value = (x / 255).amax(1) + (i - 15) * 0.015
        assert_close(frame.amax(1), value)


def test_zoom_blur_is_the_mean_of_growing_images():
    x = image(32)
    done = sequence(x, "zoom_blur")
    usual = {"angle": 0.0, "translate": [0, 0], "shear": [0.0]}
    total = x / 255
    for i in range(1, 31):
        total = total + affine(
            x / 255, **usual, scale=1 + 0.004 * i, interpolation=InterpolationMode.BILINEAR
        )
        assert_close(done[i], total / (i + 1))


def test_tilt_is_the_published_homography():
    cv2 = pytest.importorskip("cv2", reason="it comes with imagecorruptions", exc_type=ImportError)
    x = image(32)
    done = sequence(x, "tilt")
    far = math.hypot(32, 32)
    corners = np.array([[0, 0], [32, 0], [32, 32], [0, 32]], np.float32)
    for i, frame in enumerate(done):
        a = math.radians(0.75 * (i - 15))
        about_x = [[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]]
        about_y = [[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]]
        # as published, the plane lies one pixel behind the axes
        space = np.column_stack([corners - 16, np.ones(4)])
        turned = space @ (np.array(about_x) @ np.array(about_y)).T
        seen = far * turned[:, :2] / (turned[:, 2:] + far) + 16
        matrix = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
        theirs = cv2.warpPerspective(x[0].permute(1, 2, 0).numpy(), matrix, (32, 32))
        difference = frame[0].permute(1, 2, 0).numpy().astype(float) - theirs
        assert np.abs(difference).max() <= 2, "OpenCV may round positions to 1/32 pixel"


def test_flips_by_hand():
    labels = torch.tensor([[0, 1], [1, 1], [1, 1], [0, 2]])  # four frames of two images
    assert flips(labels, "rotate") == pytest.approx(100 * (2 / 3 + 1 / 3) / 2)
    assert flips(labels, "gaussian_noise") == pytest.approx(100 * (2 / 3 + 1 / 3) / 2)
    labels = torch.tensor([[0], [1], [1], [1]])
    assert flips(labels, "rotate") == pytest.approx(100 / 3)
    assert flips(labels, "shot_noise") == pytest.approx(100)
    assert set(FROM_FIRST) < set(PERTURBATIONS)
