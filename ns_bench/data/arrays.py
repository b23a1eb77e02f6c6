"""Whole data sets as arrays: those in files mapped from the folder that `prepare` made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ns_bench.data.catalog import FileSet
from ns_bench.data.convert import THUMBNAIL, loaded
from ns_bench.data.lazy import LazyImages, mapped
from ns_bench.data.prepare import set_folder


@dataclass(frozen=True)
class SplitArrays:
    """The images of one split: uint8 [N, C, H, W]; labels int64 [N]; hashes uint64 [N].

    Where `lazy` is not None it has the images, and `images` are thumbnails of them.
    """

    images: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    lazy: LazyImages | None = None


@dataclass(frozen=True)
class SetArrays:
    """A whole data set. `test` and `unlabeled` are None where they have no split of their own.

    Attributes:
        fingerprint: 16 hex digits of the images and labels, whatever files they were in; "" of a
            set that comes with a package.
        unreadable: images that could not be decoded, and are not there.
    """

    labeled: SplitArrays
    test: SplitArrays | None = None
    unlabeled: SplitArrays | None = None
    fingerprint: str = ""
    unreadable: int = 0


def set_arrays(file_set: FileSet, store: Path) -> SetArrays:
    """Return a data set in files, decoding it first where `prepare` has not.

    Raises:
        UserError: as `prepare`.
    """
    folder = set_folder(file_set, store, {})
    meta = json.loads((folder / "meta.json").read_bytes())
    splits = {use: _split(folder, use, meta) for use in file_set.parts}
    return SetArrays(
        splits["labeled"],
        splits.get("test"),
        splits.get("unlabeled"),
        meta["fingerprint"],
        sum(part.images - len(splits[use].labels) for use, part in file_set.parts.items()),
    )


def _split(folder: Path, part: str, meta: Mapping[str, Any]) -> SplitArrays:
    images, labels, hashed = loaded(folder, part)
    lazy = None
    if part in meta.get("arrow", {}):
        arrow = meta["arrow"][part]
        rows = np.load(folder / f"{part}.rows.npy", mmap_mode="r")
        encoded = mapped(arrow["files"], arrow["column"])
        stamps = (
            np.load(folder / f"{part}.stamps.npy", mmap_mode="r") if "stamps" in arrow else None
        )
        lazy = LazyImages(encoded, rows, THUMBNAIL, images.shape[1], stamps=stamps)
    return SplitArrays(images, labels, hashed, lazy)
