"""What a run's network said of each test image, so that runs can be compared image by image.

10,000 images of up to 256 classes take 23 kB.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of one run, in the order of the images that its test rows are chosen from.

    Attributes:
        digest: of those images; places among images with another one are of other images.
        tested: bool [images], which of them are test rows.
        right: bool [N], of the N test rows.
        labels: int64 [N], their classes; `predicted`: those the network says.
    """

    digest: str
    tested: NDArray[np.bool_]
    right: NDArray[np.bool_]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]


def to_bytes(
    digest: str,
    images: int,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
) -> bytes:
    """Return a safetensors file: packed bits, and classes as uint8, or uint16 beyond 256 of them.

    Args:
        images: from which test rows are chosen; `digest` is of these.
        rows: int64 [N], place of each test row among them, in any order; its class in `labels`
            and what the network says in `predicted`.
    """
    order = np.argsort(rows)
    small = np.uint8 if max(labels.max(), predicted.max()) < 256 else np.uint16
    arrays = {
        "tested": np.packbits(np.isin(np.arange(images), rows)),
        "right": np.packbits((labels == predicted)[order]),
        "labels": labels[order].astype(small),
        "predicted": predicted[order].astype(small),
    }
    # one entry: safetensors writes several in an order that varies, and with it the checksum
    return safetensors.numpy.save(arrays, {"of": f"{images} images, {digest}"})


def read(path: Path) -> Outcomes:
    """Read what `to_bytes` made."""
    with safetensors.safe_open(path, "numpy") as file:
        images, digest = file.metadata()["of"].split(" images, ")
        labels, predicted = (file.get_tensor(n).astype(np.int64) for n in ("labels", "predicted"))
        counts = {"tested": int(images), "right": len(labels)}
        bits = {n: np.unpackbits(file.get_tensor(n), count=k) for n, k in counts.items()}
    flags = {name: each.astype(bool) for name, each in bits.items()}
    return Outcomes(digest, **flags, labels=labels, predicted=predicted)
