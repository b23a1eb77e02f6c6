"""From the files of a data set to arrays: each image decoded and resized, each label a number."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ns_bench.data.catalog import FileSet, hub_sets
from ns_bench.data.decode import decode, stamp
from ns_bench.data.origin import Origin
from ns_bench.errors import UserError, unknown
from ns_bench.files import publish_json
from ns_bench.recipe import Files, Part

UNREADABLE = 0.01
"""Share of a split's images that may be unreadable: they are left out, and counted."""

THUMBNAIL = 16
"""Side of thumbnails of images that are decoded when they are needed: 768 bytes each."""


@dataclass(frozen=True)
class _Split:
    """A split that is read.

    Attributes:
        use: labeled, test or unlabeled.
        rows: of it, as `Origin.open` returns them.
        image, label: names of the columns; `label` is None where there are no labels.
    """

    use: str
    part: Part
    origin: Origin
    rows: Any
    image: str
    label: str | None

    def __str__(self) -> str:
        return f"{self.origin}, split '{self.part.split}'"

    @property
    def class_names(self) -> list[str] | None:
        """The names of classes, if the column of labels has any."""
        names = getattr(self.rows.features[self.label], "names", None)
        return None if names is None else list(names)


def convert(file_set: FileSet, places: Mapping[str, str], folder: Path) -> None:
    """Write the arrays of a data set and `meta.json` into `folder`, which is empty.

    With `file_set.pixels` 0 the arrays are of thumbnails, and `meta.json` also has in which Arrow
    files the images are.

    Args:
        places: {name of a set: folder}, of those that do not come from the hub.

    Raises:
        UserError: a set cannot be read, or is not as it is described.
    """
    content, classes = hashlib.sha256(), list[str]()
    arrow = {}
    for use, part in file_set.parts.items():
        name = part.source or file_set.name
        split = _open(use, part, Origin(name, places.get(name)), file_set)
        if use == "labeled":
            print(f"ns_bench: {split.origin} is read once, into {folder.parent}", file=sys.stderr)
        images, values, rows, stamps = _decode_all(split, file_set, folder)
        labels = np.full(len(rows), -1)
        if split.label is not None:
            values, names = _numbered(values, split.class_names)
            if use == "labeled":
                classes = names or []
            labels = _labels(split, values, names, classes, file_set.files)
        np.save(folder / f"{use}.labels.npy", labels)
        np.save(folder / f"{use}.hashes.npy", hashed := hashes(images))
        content.update(hashed.tobytes() + labels.tobytes())
        if not file_set.pixels:
            files = [file["filename"] for file in split.rows.cache_files]
            arrow[use] = {"files": files, "column": split.image}
            for kind, listed in (("rows", rows), ("stamps", stamps)):
                np.save(folder / f"{use}.{kind}.npy", numbers := np.array(listed, np.int64))
                arrow[use][kind] = digest(numbers)
    meta = {"fingerprint": content.hexdigest()[:16], "classes": classes}
    publish_json(folder / "meta.json", {**meta, "arrow": arrow} if arrow else meta)


def hashes(images: np.ndarray) -> np.ndarray:
    """Return a hash of each image, uint64 [N]; of a million, two are alike once in 4 10^7 sets."""
    plain = np.asarray(images)  # a row of a mapped file costs more than its hash
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in plain)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def digest(rows: np.ndarray) -> str:
    """Return the SHA-256, in hex, of which rows of Arrow files are a split's images, or of their
    stamps."""
    return hashlib.sha256(rows.dtype.str.encode() + rows.tobytes()).hexdigest()


def loaded(folder: Path, use: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `convert` wrote of a split, mapped from disk: images, labels, hashes."""
    images, labels, hashed = (
        np.load(folder / f"{use}.{name}.npy", mmap_mode="r")
        for name in ("images", "labels", "hashes")
    )
    return images, labels, hashed


# --- images ---------------------------------------------------------------------------------


def _open(use: str, part: Part, origin: Origin, file_set: FileSet) -> _Split:
    rows = origin.open(part.split, mapped=not file_set.pixels)
    columns = list(rows.features or {})
    image, label = origin.columns(file_set.files, columns)
    if part.source and image not in columns:
        image = origin.only_image(rows.features or {}) or image
    for column in [image] if use == "unlabeled" else [image, label]:
        if column not in columns:
            raise unknown(f"column of {origin}, split '{part.split}':", column, columns)
    # what is a class of another set is none of this one
    labeled = label in columns and not (use == "unlabeled" and part.source)
    return _Split(use, part, origin, rows, image, label if labeled else None)


def _decode_all(
    split: _Split, file_set: FileSet, folder: Path
) -> tuple[np.ndarray, list[Any], list[int], list[list[int]]]:
    """Decode a split into `folder`; returns images and labels of the readable rows, and these.

    The last are, of images that are decoded again when they are needed, the stamps of their files.

    Raises:
        UserError: too many images are unreadable, or their number is not the described one.
    """
    from numpy.lib.format import open_memmap

    part, channels, side = split.part, file_set.files.channels, file_set.pixels or THUMBNAIL
    known = hub_sets().get(split.origin.name)
    means = known is not None and known.means
    file = folder / f"{split.use}.images.npy"
    shape = (part.images, channels, side, side)
    images = open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    labels: list[Any] = []
    readable: list[int] = []
    stamps: list[list[int]] = []
    unreadable: list[str] = []
    count = 0
    columns = [split.image] if split.label is None else [split.image, split.label]
    for count, row in enumerate(split.origin.rows(part.split, split.rows, columns), start=1):
        if count > part.images:
            continue  # how many are there is worth knowing
        cell = row[split.image]
        try:
            seen = [] if file_set.pixels else stamp(cell)
            pixels = decode(cell, channels, side, fast=not file_set.pixels, means=means)
        except Exception as error:  # of damaged files Pillow says nearly anything
            place = cell.get("path") if isinstance(cell, dict) else None
            unreadable.append(f"{Path(place).name if place else f'row {count - 1}'} ({error})")
            continue
        images[len(readable)] = pixels
        readable.append(count - 1)
        stamps.append(seen)
        if split.label is not None:
            labels.append(row[split.label])
    _check_counts(split, count, unreadable)
    images.flush()
    if unreadable:
        np.save(folder / "whole.npy", images[: len(readable)])
        (folder / "whole.npy").replace(file)
    return np.load(file, mmap_mode="r"), labels, readable, stamps


def _check_counts(split: _Split, count: int, unreadable: list[str]) -> None:
    if count != split.part.images:
        raise UserError(
            f"{split.origin}: split '{split.part.split}' has {count} images, its description says "
            f"{split.part.images} (data.files.{split.use}.images)"
        )
    if len(unreadable) > UNREADABLE * count:
        listed = "; ".join(" ".join(line.split()) for line in unreadable[:10])
        raise UserError(
            f"{split.origin}: {len(unreadable)} of {count} images of split '{split.part.split}' "
            f"cannot be read, more than {UNREADABLE:.0%}: {listed}"
            + (" ..." if len(unreadable) > 10 else "")
        )


# --- labels ---------------------------------------------------------------------------------


def _numbered(values: list[Any], names: list[str] | None) -> tuple[list[Any], list[str] | None]:
    """Return labels as numbers, where they are words: in the order of these, which come second."""
    if names is not None or not any(isinstance(value, str) for value in values):
        return values, names
    names = sorted({str(value) for value in values if value is not None})
    numbers = {name: number for number, name in enumerate(names)}
    return [None if value is None else numbers[str(value)] for value in values], names


def _labels(
    split: _Split, values: list[Any], names: list[str] | None, classes: list[str], files: Files
) -> np.ndarray:
    """Return labels as int64 [N]; in a pool, what is no class has -1.

    Args:
        values: a number of each row, or None; of the classes `names`, if these have names.
        classes: names of the labeled split's classes, [] if they have none.

    Raises:
        UserError: a label that is none, or a class without images.
    """
    if split.use == "labeled":
        if names is not None and len(names) != files.classes:
            listed = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
            raise UserError(
                f"{split}: {len(names)} classes ({listed}), the description says {files.classes} "
                "(data.files.classes)"
            )
    elif names is not None and classes and names != classes:
        values = _as_in(classes, split, values, names)
    labels = _checked(split, values, files.classes)
    if split.use == "labeled":
        for number, images in enumerate(np.bincount(labels, minlength=files.classes)):
            if not images:
                word = f" ('{classes[number]}')" if classes else ""
                raise UserError(f"{split}: class {number}{word} has no images")
    return labels


def _as_in(classes: list[str], split: _Split, values: list[Any], names: list[str]) -> list[Any]:
    """Return the numbers that the labels have in `classes`, where they are numbers of `names`."""
    numbers = {name: number for number, name in enumerate(classes)}
    if split.use == "test":
        for name in names:
            if name not in numbers:
                raise unknown(f"class in {split}:", name, classes)
    return [None if v is None or v < 0 else numbers.get(names[v], -1) for v in values]


def _checked(split: _Split, values: list[Any], classes: int) -> np.ndarray:
    lowest = -1 if split.use == "unlabeled" else 0
    labels = np.full(len(values), -1)
    for row, value in enumerate(values):
        if value is None and split.use == "unlabeled":
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{split}: label {value!r} of row {row}: expected a whole number")
        if not lowest <= value < classes:
            raise UserError(f"{split}: label {value} of row {row}: expected 0 to {classes - 1}")
        labels[row] = value
    return labels
