"""Images in files: decoded, cropped, resized; what cannot be read is left out and counted."""

import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photos import (
    POOL,
    alone,  # noqa: F401 (each test has a cache of its own, and no network)
    cell,
    decoded,
    photos,
    refused,
    spec,
    tree,
)
from PIL import Image

from ns_bench.data.decode import decode
from ns_bench.data.prepare import prepare
from ns_bench.data.split import load
from ns_bench.errors import UserError

pytestmark = pytest.mark.slow

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that are busy with something else."""


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "TIFF"), ("1", "PNG")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_mode(mode, suffix, channels):
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    found = decode(cell(image, suffix), channels, 8)
    assert found.shape == (channels, 8, 8) and found.dtype == np.uint8
    assert (found == 255).all()


@settings(patient, max_examples=30)
@given(width=st.integers(1, 40), height=st.integers(1, 40), pixels=st.integers(1, 20))
def test_images_of_any_size(width, height, pixels):
    found = decode(cell(Image.new("RGB", (width, height), (10, 20, 30))), 3, pixels)
    assert found.shape == (3, pixels, pixels)
    assert found.reshape(3, -1).T.tolist() == [[10, 20, 30]] * pixels**2


def test_an_image_of_the_right_size_is_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (decode(cell(Image.fromarray(pixels)), 3, 8) == pixels.transpose(2, 0, 1)).all()


def test_a_smaller_image_is_smoothed_and_a_long_one_cropped():
    checks = Image.fromarray((np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8))
    found = decode(cell(checks), 1, 4)
    assert abs(found.astype(int) - 127).max() < 20  # and no aliases of the pattern
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 200
    assert (decode(cell(Image.fromarray(wide)), 1, 4) == 200).all()


def ramp(width: int, height: int, horizontal: bool) -> Image.Image:
    """Return a picture whose grey tells the place, from 0 to 200."""
    along = np.linspace(0, 200, width if horizontal else height)
    grid = np.broadcast_to(along if horizontal else along[:, None], (height, width))
    return Image.fromarray(grid.round().astype(np.uint8))


@settings(patient, max_examples=60)
@given(
    width=st.integers(60, 300),
    height=st.integers(60, 300),
    area=st.floats(0.08, 1),
    aspect=st.floats(3 / 4, 4 / 3),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    suffix=st.sampled_from(["PNG", "JPEG"]),
)
def test_a_crop_is_of_the_whole_photo(width, height, area, aspect, place, suffix):
    """Of a ramp it is a ramp: its ends tell where it was cut."""
    crop, pixels = (area, aspect, *place), 16
    for horizontal, side, other in ((True, width, height), (False, height, width)):
        picture = cell(ramp(width, height, horizontal), suffix)
        found = decode(picture, 1, pixels, fast=True, photo=True, crop=crop)[0].astype(float)
        line = found.mean(0 if horizontal else 1)
        length = min((area * side * other * (aspect if horizontal else 1 / aspect)) ** 0.5, side)
        start = place[0 if horizontal else 1] * (side - length)
        middle = start + length * (np.arange(pixels) + 0.5) / pixels
        # the outermost pixels lean on what is inside the crop alone
        assert np.abs(line - middle / side * 200)[1:-1].max() < 6


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (256, 256)])
def test_without_a_crop_a_photo_is_evaluated_by_its_middle(width, height):
    """As in the official code: at 224 pixels 87.5 % of the shorter side."""
    picture = ramp(width, height, True)
    side = round(min(width, height) * 0.875)
    left, upper = (width - side) / 2, (height - side) / 2
    box = (left, upper, left + side, upper + side)
    expected = np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC, box=box))
    assert (decode(cell(picture), 1, 224, photo=True)[0] == expected).all()


def test_a_crop_of_a_turned_photo():
    """The camera's note is followed first."""
    picture = ramp(80, 60, True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: its left edge becomes the upper one
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=95, exif=exif)
    turned = {"bytes": content.getvalue(), "path": None}
    found = decode(turned, 1, 16, fast=True, photo=True, crop=(0.25, 0.75, 0.5, 0.0))
    assert found[0, 0].mean() < 20 and found[0, -1].mean() > 60
    assert np.abs(np.diff(found[0].astype(int), axis=1)).max() < 8


def test_a_few_unreadable_images_are_left_out_and_counted(tmp_path):
    data = spec(files__labeled__images=150, **{**POOL, "files__unlabeled__images": 120})
    found = photos({"train": 150, "test": 24, "extra": 120})
    place = tree(tmp_path / "photos", found, bare=("extra",))
    (place / "train" / "red" / "002.png").write_bytes(b"no image")
    (place / "extra" / "007.png").write_bytes(b"")
    prepare([data], tmp_path / "runs", {"photos": str(place)})
    read = decoded(data, tmp_path / "runs")
    assert (len(read.labeled.images), len(read.labeled.labels), read.unreadable) == (149, 149, 2)
    split = load(data, 0, tmp_path / "runs")
    assert split.facts["unreadable"] == 2
    assert len(split.unlabeled) == 119
    rows = zip(read.labeled.images, read.labeled.labels, strict=True)
    labels = {image.tobytes(): label for image, label in rows}
    expected = {
        np.asarray(r["image"]).transpose(2, 0, 1).tobytes(): r["label"] for r in found["train"]
    }
    assert labels.items() <= expected.items()  # no image has its neighbour's label


@pytest.mark.parametrize("side", [9500, 14000])
def test_an_image_of_too_many_pixels_is_unreadable(side):
    """11 or 24 kB that would be 0.3 or 0.6 GB and more."""
    bomb = cell(Image.new("1", (side, side)))
    assert len(bomb["bytes"]) < 100_000
    with pytest.raises(Exception, match="could be decompression bomb"):
        decode(bomb, 3, 8)


def test_a_name_that_is_not_utf8_is_one_line(tmp_path):
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    (place / "train" / "blue" / "000.png").rename(
        os.fsdecode(os.fsencode(place) + b"/train/\xff.png")
    )
    assert "\\udcff.png' is no name in UTF-8" in refused(spec(), place, tmp_path)


def test_links_to_images_elsewhere_are_read_and_said(tmp_path, capsys):
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    inside, outside = place / "train/red/002.png", tmp_path / "elsewhere.png"
    inside.rename(outside)
    inside.symlink_to(outside)
    (place / "train/red/005.png").unlink()
    (place / "train/red/005.png").symlink_to("008.png")
    prepare([spec()], tmp_path / "runs", {"photos": str(place)})
    assert len(decoded(spec(), tmp_path / "runs").labeled.labels) == 60
    assert "split 'train': 1 files are links that lead out of it" in capsys.readouterr().err


@pytest.mark.parametrize(("to", "what"), [("elsewhere", "a folder"), ("none", "nothing")])
def test_links_to_folders_or_to_nothing_are_refused(to, what, tmp_path):
    """They were left out in silence, a class that was linked as a whole."""
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    (tmp_path / "elsewhere").mkdir()
    (place / "train/yellow").symlink_to(tmp_path / to)
    with pytest.raises(UserError, match=f"train/yellow' is a link to {what} ") as caught:
        prepare([spec()], tmp_path / "runs", {"photos": str(place)})
    assert "\n" not in str(caught.value)


def test_many_unreadable_images_are_named(tmp_path):
    place = tree(tmp_path / "photos", photos({"train": 60, "test": 24}))
    for path in sorted((place / "train" / "red").iterdir())[:12]:
        path.write_bytes(path.read_bytes()[:60])
    said = refused(spec(), place, tmp_path)
    assert "12 of 60 images of split 'train' cannot be read, more than 1%: 002.png (" in said
    assert said.count(".png") == 10 and said.endswith(" ...")
