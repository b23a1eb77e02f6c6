"""The idx files that MNIST came in, and Fashion-MNIST comes in: one array each, gzipped or not.

A header of two zero bytes, the type (8: unsigned bytes), the number of dimensions and each
dimension as a big-endian int32; then the bytes (yann.lecun.com/exdb/mnist, "the IDX file format").
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ns_bench.errors import UserError

if TYPE_CHECKING:
    import datasets

BYTES = 8
"""The type of unsigned bytes, the only one read here."""

STEMS = {"test": ("test", "t10k")}
"""How the files of a split begin, where not with its name: MNIST's test files begin with t10k."""


def images_file(folder: Path, split: str) -> Path | None:
    """Return the file of a split's images in `folder`, or None: SPLIT-images-idx3-ubyte[.gz]."""
    return _file(folder, split, "images", 3)


def _file(folder: Path, split: str, what: str, dimensions: int) -> Path | None:
    names = (
        folder / f"{stem}-{what}{dash}idx{dimensions}-ubyte{end}"
        for stem in STEMS.get(split, (split,))
        for dash in "-."
        for end in ("", ".gz")
    )
    return next((name for name in names if name.is_file()), None)


def open_split(folder: Path, split: str) -> "datasets.Dataset":
    """Return the images of a split, and its labels where they have a file, undecoded.

    Columns are `image` (`datasets.Image`, a PGM file each: the pixels behind a line) and `label`.

    Raises:
        UserError: a file is not as it should be, or there are more images than labels, or fewer.
    """
    import datasets

    path = images_file(folder, split)
    assert path is not None
    images = read(path, 3)
    head = b"P5 %d %d 255\n" % (images.shape[2], images.shape[1])
    cells = [{"bytes": head + image.tobytes(), "path": None} for image in images]
    columns: dict[str, list[object]] = {"image": [*cells]}
    features = datasets.Features({"image": datasets.Image()})
    if labels_path := _file(folder, split, "labels", 1):
        labels = read(labels_path, 1)
        if len(labels) != len(images):
            raise UserError(
                f"{labels_path}: it has {len(labels)} labels, expected {len(images)} as there are "
                f"images in {path.name}"
            )
        columns["label"] = labels.tolist()
        features["label"] = datasets.Value("int64")
    return datasets.Dataset.from_dict(columns, features=features)


def read(path: Path, dimensions: int) -> np.ndarray:
    """Return the array in an idx file, uint8 of this many dimensions, read-only.

    Raises:
        UserError: it is not gzip though its name ends in .gz, or no idx file of bytes with these
            dimensions, or shorter or longer than its header says.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except gzip.BadGzipFile as error:
        raise UserError(f"{path}: it is not a gzip file, or damaged: {error}") from None
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: it is damaged or was not copied to its end: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: it cannot be read: {error.strerror}") from None
    magic, start = bytes([0, 0, BYTES, dimensions]), 4 + 4 * dimensions
    if content[:4] != magic or len(content) < start:
        raise UserError(
            f"{path}: it begins with {content[:4].hex(' ') or 'nothing'}, expected "
            f"{magic.hex(' ')} and {dimensions} sizes: an idx file of bytes"
        )
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path}: {len(content) - start} bytes follow its header, expected "
            f"{math.prod(shape)} ({' x '.join(map(str, shape))})"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
