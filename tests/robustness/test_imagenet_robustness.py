"""ImageNet-A, -C and -P: small generated images in the folders of the published sets."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ns_bench.errors import UserError
from ns_bench.robustness import CORRUPTIONS, PERTURBATIONS, SEVERITIES
from ns_bench.robustness.imagenet import (
    ALEXNET_ERROR,
    batches,
    imagenet_a,
    imagenet_c,
    imagenet_p,
    videos,
)
from ns_bench.verdicts import paper

CLASSES = [f"n{i:08}" for i in range(12)]
SHADE = 20  # the images of class k have the grey level 20 k


def write(folder: Path, names: list[str], images: int = 2, off: int = 0) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        level = SHADE * ((CLASSES.index(name) + off) % len(CLASSES))
        for i in range(images):
            Image.new("RGB", (40, 30), (level,) * 3).save(folder / name / f"test-{i}.png")


def shade(images: torch.Tensor) -> torch.Tensor:
    """A network that reads the class off the grey level; its second choice is the class above."""
    level = images.float().mean((1, 2, 3)) / SHADE
    return -(torch.arange(len(CLASSES)) - level[:, None] - 0.1).abs()


def test_images_are_resized_and_labeled_by_their_folder(tmp_path):
    write(tmp_path / "a", CLASSES[3:8], images=3)
    found = list(batches(tmp_path / "a", CLASSES, 16, size=4))
    assert [len(images) for images, _ in found] == [4, 4, 4, 3]
    assert found[0][0].shape == (4, 3, 16, 16) and found[0][0].dtype == torch.uint8
    images = torch.cat([images for images, _ in found]).float().mean((1, 2, 3))
    labels = torch.cat([labels for _, labels in found])
    assert torch.equal(images, SHADE * labels.float())
    assert sorted(labels.tolist()) == [3] * 3 + [4] * 3 + [5] * 3 + [6] * 3 + [7] * 3


def test_imagenet_a_counts_among_the_classes_that_it_has(tmp_path):
    write(tmp_path / "a", CLASSES[:6])
    assert imagenet_a(shade, tmp_path / "a", CLASSES, 8)["imagenet_a_top1"] == 100

    def wrong(images):
        """Sure of a class that is not in the set; the right one comes next."""
        logits = shade(images)
        logits[:, 11] = 100
        return logits

    found = imagenet_a(wrong, tmp_path / "a", CLASSES, 8)
    assert found == {"imagenet_a_top1": 100, "imagenet_a_top5": 100}
    found = imagenet_a(lambda images: -shade(images), tmp_path / "a", CLASSES, 8)
    assert found["imagenet_a_top1"] == 0 and found["imagenet_a_top5"] < 100


def test_imagenet_c_is_relative_to_alexnet(tmp_path):
    for name in CORRUPTIONS:
        for severity in SEVERITIES:  # severity 5 of fog shows the class above
            off = int(name == "fog" and severity == 5)
            folder = tmp_path / "c" / "family" / name / str(severity)
            write(folder, CLASSES[:2], images=1, off=off)
    found = imagenet_c(shade, tmp_path / "c", CLASSES, 8)
    assert found["imagenet_c_snow"] == 100 and found["imagenet_c_fog"] == pytest.approx(80)
    assert found["imagenet_c_top1"] == pytest.approx(100 - 20 / 15)
    assert found["mce"] == pytest.approx(100 * 20 / ALEXNET_ERROR["fog"] / 15)


def test_alexnet_is_the_reference_of_the_paper():
    """ResNet-50 of Table 4: its mean error over AlexNet's is near its mCE, the mean of ratios."""
    table = {(row.arm, row.metric): row.value for row in paper.rows("robustness")}
    mean = sum(ALEXNET_ERROR.values()) / 15
    ours = 100 * (100 - table["ResNet-50 224px", "imagenet_c_top1"]) / mean
    assert ours == pytest.approx(table["ResNet-50 224px", "mce"], abs=2)


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], "expected folders CLASS/image"), (["n00000099"], "did you mean 'n00000009'")],
)
def test_another_folder_is_refused(names, expected, tmp_path):
    for name in names:
        (tmp_path / "a" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / name / "1.png")
    with pytest.raises(UserError, match=expected):
        list(batches(tmp_path / "a", CLASSES, 8))
    with pytest.raises(UserError, match="there is no folder gaussian_noise"):
        imagenet_c(shade, tmp_path, CLASSES, 8)


def film(path: Path, levels: list[int]) -> None:
    """Write a video of grey frames, without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libx264rgb", rate=10, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "rgb24"
        for level in levels:
            pixels = np.full((32, 48, 3), level, dtype=np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        video.mux(stream.encode())


def test_frames_are_those_of_the_video(tmp_path):
    film(tmp_path / CLASSES[1] / "a.mp4", [20, 40, 60])
    film(tmp_path / CLASSES[2] / "b.mp4", [80, 100])
    first, second = videos(tmp_path, 16)
    assert first.shape == (3, 3, 16, 16) and first.dtype == torch.uint8
    assert first.float().mean((1, 2, 3)).tolist() == [20, 40, 60]
    assert second.float().mean((1, 2, 3)).tolist() == [80, 100]


def test_flips_on_imagenet_p_are_from_the_last_frame_or_of_noise_from_the_first(tmp_path):
    """Classes 1 2 2 1: two of three frames differ from the last one, two from the first."""
    for name in PERTURBATIONS:
        film(tmp_path / name / CLASSES[1] / "a.mp4", [20, 40, 40, 20])
        film(tmp_path / name / CLASSES[3] / "b.mp4", [60, 80, 80, 80])
    found = imagenet_p(shade, tmp_path, 8, reference=dict.fromkeys(PERTURBATIONS, 50.0))
    noise = 100 * (2 / 3 + 3 / 3) / 2
    other = 100 * (2 / 3 + 1 / 3) / 2
    assert found["imagenet_p_gaussian_noise"] == pytest.approx(noise)
    assert found["imagenet_p_tilt"] == pytest.approx(other)
    noises = sum(name.endswith("noise") for name in PERTURBATIONS)
    mean = (noises * noise + (len(PERTURBATIONS) - noises) * other) / len(PERTURBATIONS)
    assert found["imagenet_p_flips"] == pytest.approx(mean)
    assert found["mfr"] == pytest.approx(2 * mean)
    assert "mfr" not in imagenet_p(shade, tmp_path, 8)


def test_what_is_missing_of_imagenet_p_is_named(tmp_path):
    with pytest.raises(UserError, match=f"there is no folder {PERTURBATIONS[0]}"):
        imagenet_p(shade, tmp_path, 8)
    (tmp_path / PERTURBATIONS[0]).mkdir()
    with pytest.raises(UserError, match=r"expected folders CLASS/video\.mp4"):
        imagenet_p(shade, tmp_path, 8)
