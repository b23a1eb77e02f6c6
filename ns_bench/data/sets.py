"""Data sets in files: on the Hugging Face hub, a local copy of one of these, or one's own.

Every image is decoded and resized once, into a folder that runs map into memory:

    $HF_HOME/ns_bench/NAME-<16 hex>/labeled.images.npy   uint8 [N, C, H, W]
                                    labeled.labels.npy   int64 [N], -1 where there is none
                                    labeled.hashes.npy   uint64 [N], of the decoded pixels
                                    test.*, unlabeled.*  the same, of splits of their own
                                    meta.json            fingerprint, unreadable images

Where images are not resized once (`data.pixels` = 0 and many sizes), what is decoded are
thumbnails, to find unreadable images and duplicates; runs decode the images themselves as they need
them, from Arrow files that `datasets` made (see `stream.py`). Then there are also

                                    labeled.rows.npy     int64 [N], of the images in the Arrow files

Where a set's files are is no part of a recipe. It is noted in the store, where workers and jobs on
other machines find it: `<store>/data/NAME-<8 hex>.json`.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ns_bench.data.catalog import files_of, hub_sets, pixels_of, sources_of
from ns_bench.data.decode import decode
from ns_bench.data.source import Source
from ns_bench.errors import UserError, unknown
from ns_bench.files import locked, publish_json
from ns_bench.recipe import Data, Files, Part

if TYPE_CHECKING:
    from ns_bench.data.pictures import Pictures

UNREADABLE = 0.01
"""Share of a split's images that may be unreadable: they are left out, and counted."""

PARTS = ("labeled", "test", "unlabeled")

THUMBNAIL = 16
"""Side of thumbnails of images that stream: 768 bytes each."""


@dataclass(frozen=True)
class Table:
    """The images of one split, mapped from disk: uint8 [N, C, H, W]; labels int64 [N]; hashes.

    Where `pictures` are not None, `images` are thumbnails of them.
    """

    images: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    pictures: "Pictures | None" = None


@dataclass(frozen=True)
class Arrays:
    """A whole data set. `test` and `unlabeled` are None where they have no split of their own.

    Attributes:
        fingerprint: 16 hex digits of the images and labels, whatever files they were in.
        unreadable: images that could not be decoded, and are not there.
    """

    labeled: Table
    test: Table | None
    unlabeled: Table | None
    fingerprint: str
    unreadable: int


def arrays(spec: Data, store: Path) -> Arrays:
    """Return the data set `spec.name`, decoding it first where `prepare` has not.

    Raises:
        UserError: as `prepare`.
    """
    if not _is_there(_noted(spec, store)):
        prepare([spec], store, {})
    folder = Path(_noted(spec, store)["arrays"])
    meta = json.loads((folder / "meta.json").read_bytes())

    def table(part: str) -> Table | None:
        if not (folder / f"{part}.images.npy").is_file():
            return None
        images, labels, hashed = (
            np.load(folder / f"{part}.{name}.npy", mmap_mode="r")
            for name in ("images", "labels", "hashes")
        )
        return Table(images, labels, hashed, _pictures(folder, part, meta, images.shape[1]))

    labeled = table("labeled")
    assert labeled is not None
    return Arrays(
        labeled, table("test"), table("unlabeled"), meta["fingerprint"], meta["unreadable"]
    )


def _pictures(folder: Path, part: str, meta: Mapping[str, Any], channels: int) -> Any:
    """Return the images of a split that streams; None if they are in the arrays."""
    if part not in meta.get("arrow", {}):
        return None
    from ns_bench.data.pictures import Pictures, mapped

    found = meta["arrow"][part]
    rows = np.load(folder / f"{part}.rows.npy", mmap_mode="r")
    return Pictures(mapped(found["files"], found["column"]), rows, THUMBNAIL, channels)


def prepare(specs: Iterable[Data], store: Path, paths: Mapping[str, str]) -> None:
    """Download and decode what data sets are in files, and note in `store` where they are.

    Args:
        paths: {name: local copy}: a folder of `save_to_disk`, of parquet files, or of folders
            SPLIT/CLASS/image.png. What was noted before stands where there is none.

    Raises:
        UserError: a set is not there and cannot be downloaded, or is not as it is described, or is
            another than that of the runs in the store.
    """
    seen = set()
    for spec in specs:
        files = files_of(spec)
        if files is None or (what := _what(spec, files)) in seen:
            continue
        seen.add(what)
        note, names = _noted(spec, store), sources_of(spec)
        if not paths.keys() & set(names) and _is_there(note):
            continue
        places = {**_installed(), **note.get("places", {}), **paths}
        found = {
            name: str(Path(places[name]).expanduser().resolve()) for name in names if name in places
        }
        folder = _decoded(spec, files, found)
        fingerprint = json.loads((folder / "meta.json").read_bytes())["fingerprint"]
        if note.get("fingerprint", fingerprint) != fingerprint:
            where = ", ".join(found.values()) or "the hub"
            raise UserError(
                f"data set '{spec.name}' in {where} is not the one that the runs in "
                f"{store} have, or in another order (fingerprint {fingerprint}, not "
                f"{note['fingerprint']}): give it another data.name or use another store"
            )
        file = _note_file(spec, files, store)
        file.parent.mkdir(parents=True, exist_ok=True)
        now = {"places": found, "arrays": str(folder), "fingerprint": fingerprint}
        if now != note:
            publish_json(file, now)


def hashes(images: np.ndarray) -> np.ndarray:
    """Return a hash of each image, uint64 [N]; of a million, two are alike once in 4 10^7 sets."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _installed() -> dict[str, str]:
    """Return {set: folder} of those that a package of the system has installed."""
    folders = {name: known.folder for name, known in hub_sets().items()}
    return {name: path for name, path in folders.items() if path and Path(path).is_dir()}


def _what(spec: Data, files: Files) -> str:
    return json.dumps([spec.name, asdict(files), pixels_of(spec)], sort_keys=True)


def _note_file(spec: Data, files: Files, store: Path) -> Path:
    key = hashlib.sha256(_what(spec, files).encode()).hexdigest()[:8]
    return store / "data" / f"{spec.name}-{key}.json"


def _noted(spec: Data, store: Path) -> dict[str, Any]:
    files = files_of(spec)
    assert files is not None
    try:
        return dict(json.loads(_note_file(spec, files, store).read_bytes()))
    except (OSError, ValueError):
        return {}


def _is_there(note: Mapping[str, Any]) -> bool:
    try:
        meta = json.loads((Path(note["arrays"]) / "meta.json").read_bytes())
    except (KeyError, OSError, ValueError):
        return False
    return all(Path(f).is_file() for part in meta.get("arrow", {}).values() for f in part["files"])


# --- decoding -------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the folder of decoded sets, beside what `datasets` downloads."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{home}/huggingface")).expanduser() / "ns_bench"


def _decoded(spec: Data, files: Files, places: Mapping[str, str]) -> Path:
    """Return the folder of arrays, of which all is there or nothing.

    Args:
        places: {source: folder}, of those that do not come from the hub.
    """
    key = hashlib.sha256(_what(spec, files).encode())
    for name in sources_of(spec):
        path = places.get(name)
        if path is None:
            if name not in hub_sets() and "/" not in name:
                raise UserError(
                    f"where is data set '{name}'? --data {name}=PATH says it, or path in the "
                    "table [data] of its profile"
                )
            continue
        if not Path(path).is_dir():
            raise UserError(f"data set '{name}': there is no folder {path}")
        if not pixels_of(spec):  # Arrow files of a folder of images hold paths, not images
            key.update(f"{path}\n".encode())
        for file in sorted(file for file in Path(path).rglob("*") if file.is_file()):
            stat = file.stat()
            key.update(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    folder = cache_folder() / f"{spec.name}-{key.hexdigest()[:16]}"
    here = {"arrays": str(folder)}
    if not _is_there(here):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / ".lock"):  # of several processes, one decodes
            if not _is_there(here):
                _decode_into(folder, spec, files, places)
    return folder


def _decode_into(folder: Path, spec: Data, files: Files, places: Mapping[str, str]) -> None:
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        content, unreadable, classes = hashlib.sha256(), 0, list[str]()
        arrow = {}
        for name in PARTS:
            part: Part = getattr(files, name)
            if not part.split:
                continue
            source = Source(part.source or spec.name, places.get(part.source or spec.name))
            columns, bad, mapped = _read(source, name, files, pixels_of(spec), unfinished)
            if mapped is not None:
                arrow[name] = mapped
            images = np.load(unfinished / f"{name}.images.npy", mmap_mode="r")
            labels = np.full(len(images), -1)
            if columns is not None:
                labels = _labels(columns, source, part.split, name, files, classes)
            np.save(unfinished / f"{name}.labels.npy", labels)
            np.save(unfinished / f"{name}.hashes.npy", hashed := hashes(images))
            content.update(hashed.tobytes() + labels.tobytes())
            unreadable += bad
        meta: dict[str, Any] = {"fingerprint": content.hexdigest()[:16], "unreadable": unreadable}
        if arrow:
            meta["arrow"] = arrow
        publish_json(unfinished / "meta.json", meta)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@dataclass(frozen=True)
class _Labels:
    """A split's labels as they are in its files, and the names of classes, if it has any."""

    values: list[Any]
    names: list[str] | None


def _read(
    source: Source, name: str, files: Files, pixels: int, folder: Path
) -> tuple[_Labels | None, int, dict[str, Any] | None]:
    """Decode a split into `folder`; returns its labels, if it has any, and unreadable images.

    With `pixels` 0 thumbnails are decoded, and it also returns where the images themselves are:
    {"files": Arrow files, "column"}.

    Raises:
        UserError: a column is missing, too many images are unreadable or their number is not the
            described one.
    """
    from numpy.lib.format import open_memmap

    part: Part = getattr(files, name)
    split = part.split
    rows = source.open(split, mapped=not pixels)
    columns = list(rows.features or {})
    image, label = source.columns(files, rows.features or {})
    if part.source and image not in columns:
        image = source.only_image(rows.features or {}) or image
    for column in [image] if name == "unlabeled" else [image, label]:
        if column not in columns:
            raise unknown(f"column of {source}, split '{split}':", column, columns)
    if name == PARTS[0]:
        print(f"ns_bench: {source} is read once, into {folder.parent}", file=sys.stderr)
    # what is a class of another set is none of this one
    labeled = label in columns and not (name == "unlabeled" and part.source)
    chosen = [image, label] if labeled else [image]
    side = pixels or THUMBNAIL
    means = source.name in hub_sets() and hub_sets()[source.name].means
    shape = (part.images, files.channels, side, side)
    target = folder / f"{name}.images.npy"
    images = open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    labels: list[Any] = []
    good: list[int] = []
    bad: list[str] = []
    count = 0
    for count, row in enumerate(source.rows(split, rows, chosen), start=1):
        if count > part.images:
            continue  # how many are there is worth knowing
        cell = row[image]
        try:
            pixel = decode(cell, files.channels, side, fast=not pixels, means=means)
        except Exception as error:  # of damaged files Pillow says nearly anything
            place = cell.get("path") if isinstance(cell, dict) else None
            bad.append(f"{Path(place).name if place else f'row {count - 1}'} ({error})")
            continue
        images[count - 1 - len(bad)] = pixel
        labels.append(row[label] if labeled else None)
        good.append(count - 1)
    if count != part.images:
        raise UserError(
            f"{source}: split '{split}' has {count} images, its description says {part.images} "
            f"(data.files.{name}.images)"
        )
    if len(bad) > UNREADABLE * count:
        listed = "; ".join(" ".join(line.split()) for line in bad[:10])
        raise UserError(
            f"{source}: {len(bad)} of {count} images of split '{split}' cannot be read, more than "
            f"{UNREADABLE:.0%}: {listed}" + (" ..." if len(bad) > 10 else "")
        )
    images.flush()
    if bad:
        np.save(folder / "whole.npy", images[: len(labels)])
        (folder / "whole.npy").replace(target)
    mapped = None
    if not pixels:
        np.save(folder / f"{name}.rows.npy", np.array(good, np.int64))
        mapped = {"files": [file["filename"] for file in rows.cache_files], "column": image}
    return (_Labels(labels, _class_names(rows, label)) if labeled else None), len(bad), mapped


def _class_names(rows: Any, label: str) -> list[str] | None:
    names = getattr(rows.features[label], "names", None)
    return None if names is None else list(names)


def _labels(
    found: _Labels,
    source: Source,
    split: str,
    name: str,
    files: Files,
    classes: list[str],
) -> np.ndarray:
    """Return labels as int64 [N]. `classes` takes the names of the labeled split's classes.

    Classes that are words are numbered in their order; in a pool, what is no class has -1.

    Raises:
        UserError: a label that is none, or a class without images.
    """
    values, names = found.values, found.names
    where = f"{source}, split '{split}'"
    if names is None and any(isinstance(value, str) for value in values):
        names = sorted({str(value) for value in values if value is not None})
        values = [None if value is None else names.index(str(value)) for value in values]
    if name == "labeled":
        classes += names or []
        if names is not None and len(names) != files.classes:
            listed = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
            raise UserError(
                f"{where}: {len(names)} classes ({listed}), the description says {files.classes} "
                "(data.files.classes)"
            )
    elif names is not None and classes and names != classes:
        for word in names if name == "test" else []:
            if word not in classes:
                raise unknown(f"class in {where}:", word, classes)
        numbers = [classes.index(word) if word in classes else -1 for word in names]
        values = [None if v is None or v < 0 else numbers[v] for v in values]
    lowest = -1 if name == "unlabeled" else 0
    labels = np.full(len(values), -1)
    for row, value in enumerate(values):
        if value is None and name == "unlabeled":
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{where}: label {value!r} of row {row}: expected a whole number")
        if not lowest <= value < files.classes:
            raise UserError(
                f"{where}: label {value} of row {row}: expected 0 to {files.classes - 1}"
            )
        labels[row] = value
    if name == "labeled":
        for number, images in enumerate(np.bincount(labels, minlength=files.classes)):
            if not images:
                word = f" ('{classes[number]}')" if classes else ""
                raise UserError(f"{where}: class {number}{word} has no images")
    return labels
