"""ImageNet-A, -C and -P from their published folders, for networks of ImageNet's classes.

    imagenet-a/n01498041/*.jpg                                200 of the classes (arXiv 1907.07174)
    imagenet-c/noise/gaussian_noise/1/n01440764/*.JPEG        corruption, severity, class
    imagenet-p/gaussian_noise/n01440764/*.mp4                 perturbation, class; frames of a video

All are read through `datasets`, file after file; nothing is copied. Videos are decoded by PyAV
(`pip install av`).
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ns_bench.data.decode import decode, fitted
from ns_bench.errors import UserError, unknown
from ns_bench.robustness import CORRUPTIONS, PERTURBATIONS, SEVERITIES
from ns_bench.robustness.perturbations import flips

ALEXNET_ERROR = dict(
    zip(
        CORRUPTIONS,
        (88.6428, 89.4468, 92.2640, 81.9880, 82.6268, 78.5948, 79.8360, 86.6816, 82.6572,
         81.9324, 56.4592, 85.3204, 64.6056, 71.7840, 60.6500),
        strict=True,
    )
)  # fmt: skip
"""Top-1 error (%) of AlexNet on ImageNet-C, mean over severities: what the paper's mCE (Table 4) is
relative to (github.com/hendrycks/robustness)."""

Predict = Callable[[Tensor], Tensor]
"""Logits, float32 [N, classes], of uint8 images [N, 3, pixels, pixels]."""


def batches(
    folder: Path, classes: Sequence[str], pixels: int, size: int = 256
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images of folders CLASS/image, resized and cropped to `pixels`, and labels, int64 [B].

    Args:
        classes: names of the network's classes in order, e.g. `timm.data.ImageNetInfo`'s WordNet
            ids; the label is the place of the folder's name in it.

    Raises:
        UserError: there is no such folder, no image in it, or a folder that is no class.
    """
    import datasets

    if not folder.is_dir() or not any(folder.glob("*/*")):
        raise UserError(f"{folder}: expected folders CLASS/image")
    place = {name: i for i, name in enumerate(classes)}
    for name in present(folder):
        if name not in place:
            raise unknown(f"class in {folder}:", name, place)
    rows = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), data_files={"all": "**"}, split="all", streaming=True
    ).cast_column("image", datasets.Image(decode=False))
    names = rows.features["label"].names
    images: list[Tensor] = []
    labels: list[int] = []
    for row in rows:
        images.append(torch.from_numpy(decode(row["image"], 3, pixels).copy()))
        labels.append(place[names[row["label"]]])
        if len(images) == size:
            yield torch.stack(images), torch.tensor(labels)
            images, labels = [], []
    if images:
        yield torch.stack(images), torch.tensor(labels)


def present(folder: Path) -> list[str]:
    """Return the names of the classes that have a folder."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def imagenet_a(
    predict: Predict, folder: Path, classes: Sequence[str], pixels: int
) -> dict[str, float]:
    """Return top-1 and top-5 (%) on ImageNet-A, among the classes that it has (the 200-class mask).

    Raises:
        UserError: as `batches`.
    """
    right = {1: 0, 5: 0}
    count = 0
    for images, labels in batches(folder, classes, pixels):
        mask = torch.full((len(classes),), -torch.inf)
        mask[[classes.index(name) for name in present(folder)]] = 0
        best = (predict(images) + mask).topk(5, dim=1).indices == labels[:, None]
        count += len(images)
        for k in right:
            right[k] += int(best[:, :k].any(1).sum())
    return {f"imagenet_a_top{k}": 100 * n / count for k, n in right.items()}


def imagenet_c(
    predict: Predict, folder: Path, classes: Sequence[str], pixels: int
) -> dict[str, float]:
    """Return mean top-1, mCE relative to AlexNet and top-1 by corruption (%) on ImageNet-C.

    Raises:
        UserError: a corruption or a severity is not there, or as `batches`.
    """
    top1 = {}
    for name in CORRUPTIONS:
        found = sorted(path for path in folder.rglob(name) if path.is_dir())
        if not found:
            raise UserError(f"{folder}: there is no folder {name} in it")
        scores = []
        for severity in SEVERITIES:
            right = count = 0
            for images, labels in batches(found[0] / str(severity), classes, pixels):
                right += int((predict(images).argmax(1) == labels).sum())
                count += len(images)
            scores.append(100 * right / count)
        top1[name] = sum(scores) / len(scores)
    relative = [(100 - top1[name]) / ALEXNET_ERROR[name] for name in CORRUPTIONS]
    return {
        "imagenet_c_top1": sum(top1.values()) / len(top1),
        "mce": 100 * sum(relative) / len(relative),
        **{f"imagenet_c_{name}": value for name, value in top1.items()},
    }


def imagenet_p(
    predict: Predict, folder: Path, pixels: int, reference: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the mean flip probability and that of each perturbation (%) on ImageNet-P; and mFR.

    Args:
        reference: {perturbation: flip probability (%)} of the network that mFR is relative to, the
            paper's being AlexNet; without it there is no mFR.

    Raises:
        UserError: a perturbation is not there, or no video in it, or PyAV is not installed.
    """
    found = {}
    for name in PERTURBATIONS:
        places = sorted(path for path in folder.rglob(name) if path.is_dir())
        if not places:
            raise UserError(f"{folder}: there is no folder {name} in it")
        each = [flips(predict(v).argmax(1)[:, None], name) for v in videos(places[0], pixels)]
        found[name] = sum(each) / len(each)
    scores = {"imagenet_p_flips": sum(found.values()) / len(found)}
    if reference is not None:
        relative = [found[name] / reference[name] for name in PERTURBATIONS]
        scores["mfr"] = 100 * sum(relative) / len(relative)
    return scores | {f"imagenet_p_{name}": value for name, value in found.items()}


def videos(folder: Path, pixels: int) -> Iterator[Tensor]:
    """Yield the frames of each video in folders CLASS/video, uint8 [frames, 3, pixels, pixels].

    Raises:
        UserError: there is no video, or PyAV is not installed.
    """
    import datasets

    try:
        import av
    except ImportError:
        raise UserError("videos need PyAV: pip install av") from None
    if not any(folder.glob("*/*.mp4")):
        raise UserError(f"{folder}: expected folders CLASS/video.mp4")
    rows = datasets.load_dataset(
        "videofolder",
        data_dir=str(folder),
        data_files={"all": "**/*.mp4"},
        split="all",
        streaming=True,
    ).cast_column("video", datasets.Video(decode=False))
    for row in rows:
        cell = row["video"]
        source = cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"])
        with av.open(source, "r") as video:
            frames = [frame.to_image() for frame in video.decode(video=0)]
        yield torch.stack([torch.from_numpy(fitted(frame, 3, pixels).copy()) for frame in frames])
