"""Data sets in files: on the Hugging Face hub, a local copy of one of these, or one's own.

Every image is decoded and resized once, into a folder that runs map into memory:

    $HF_HOME/ns_bench/NAME-<16 hex>/labeled.images.npy   uint8 [N, C, H, W]
                                    labeled.labels.npy   int64 [N], -1 where there is none
                                    labeled.hashes.npy   uint64 [N], of the decoded pixels
                                    test.*, unlabeled.*  the same, of splits of their own
                                    meta.json            fingerprint

What is there is held against its hashes and fingerprint before it is used, and decoded again if it
has changed.

Where images are not resized once (`data.pixels` = 0 and many sizes), what is decoded are
thumbnails, to find unreadable images and duplicates; runs decode the images themselves as they need
them, from Arrow files that `datasets` made (see `lazy.py`). Then there are also

                                    labeled.rows.npy     int64 [N], of the images in the Arrow files
                                    labeled.stamps.npy   int64 [N, 2], of the files that these name

Where a set's files are is no part of a recipe. It is noted in the store, where workers and jobs on
other machines find it: `<store>/data/NAME-<8 hex>.json`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ns_bench import fields
from ns_bench.data.catalog import FileSet, describe, hub_sets
from ns_bench.data.convert import THUMBNAIL, convert, digest, hashes, loaded
from ns_bench.errors import UserError, located
from ns_bench.files import locked, publish_json, sweep
from ns_bench.recipe import Data


def prepare(specs: Iterable[Data], store: Path, paths: Mapping[str, str]) -> None:
    """Download and decode what data sets are in files, and note in `store` where they are.

    Args:
        paths: {name: local copy}: a folder of `save_to_disk`, of parquet files, or of folders
            SPLIT/CLASS/image.png. What was noted before stands where there is none.

    Raises:
        UserError: a set is not there and cannot be downloaded, or is not as it is described, or is
            another than that of the runs in the store.
    """
    for file_set in dict.fromkeys(files for spec in specs for files in describe(spec).file_sets):
        set_folder(file_set, store, paths)


def set_folder(file_set: FileSet, store: Path, paths: Mapping[str, str]) -> Path:
    """Return the folder of a set's arrays, which are decoded first where they are not there.

    Args and errors are those of `prepare`.
    """
    note = _note(file_set, store)
    noted, damage = Path(note.get("arrays", "")), ""
    if note and not paths.keys() & set(file_set.names):
        damage = _damage(noted, file_set)
        if not damage:
            return noted
    known = {**_installed(), **note.get("places", {}), **paths}
    places = {
        name: str(Path(known[name]).expanduser().resolve())
        for name in file_set.names
        if name in known
    }
    with located(f"{noted}: {damage}") if damage else contextlib.nullcontext():
        folder = _decoded(file_set, places)
    fingerprint = json.loads((folder / "meta.json").read_bytes())["fingerprint"]
    if note.get("fingerprint", fingerprint) != fingerprint:
        where = ", ".join(places.values()) or "the hub"
        raise UserError(
            f"data set '{file_set.name}' in {where} is not the one that the runs in "
            f"{store} have, or in another order (fingerprint {fingerprint}, not "
            f"{note['fingerprint']}): give it another data.name or use another store"
        )
    new = {"places": places, "arrays": str(folder), "fingerprint": fingerprint}
    if new != note:
        file = _note_file(file_set, store)
        file.parent.mkdir(parents=True, exist_ok=True)
        publish_json(file, new)
    return folder


def _installed() -> dict[str, str]:
    """Return {set: folder} of those that a package of the system has installed."""
    folders = {name: known.folder for name, known in hub_sets().items()}
    return {name: path for name, path in folders.items() if path and Path(path).is_dir()}


def _identity(file_set: FileSet) -> str:
    return json.dumps([file_set.name, asdict(file_set.files), file_set.pixels], sort_keys=True)


def _note_file(file_set: FileSet, store: Path) -> Path:
    key = hashlib.sha256(_identity(file_set).encode()).hexdigest()[:8]
    return store / "data" / f"{file_set.name}-{key}.json"


def _note(file_set: FileSet, store: Path) -> dict[str, Any]:
    """Return {"places", "arrays", "fingerprint"} as noted in the store; {} if nothing is."""
    try:
        note = json.loads(_note_file(file_set, store).read_bytes())
        return {
            "places": fields.convert(note["places"], dict[str, str], "places"),
            "arrays": fields.convert(note["arrays"], str, "arrays"),
            "fingerprint": fields.convert(note["fingerprint"], str, "fingerprint"),
        }
    except (OSError, ValueError, KeyError, TypeError, UserError, RecursionError):
        return {}


# --- the cache of arrays --------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the folder of decoded sets, beside what `datasets` downloads."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{home}/huggingface")).expanduser() / "ns_bench"


def _decoded(file_set: FileSet, places: Mapping[str, str]) -> Path:
    """Return the folder of arrays, of which all is there or nothing.

    Args:
        places: {name of a set: folder}, of those that do not come from the hub.
    """
    folder = cache_folder() / f"{file_set.name}-{_content(file_set, places)[:16]}"
    if _damage(folder, file_set):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / ".lock"):  # of several processes, one decodes
            if damage := _damage(folder, file_set):
                if folder.exists():
                    print(f"ns_bench: {folder}: {damage}; decoded again", file=sys.stderr)
                _convert_whole(folder, file_set, places)
    return folder


def _damage(folder: Path, file_set: FileSet) -> str:
    """Return what is wrong with a set's arrays, "" if they are as they were decoded.

    All of them are read, once a process unless they change.
    """
    try:
        stats = {file.name: file.stat() for file in sorted(folder.iterdir())}
    except OSError as error:
        return str(error.strerror)
    seen = [(name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in stats.items()]
    return _damage_of(folder, file_set, tuple(seen))


@lru_cache
def _damage_of(folder: Path, file_set: FileSet, files: tuple[Any, ...]) -> str:
    """Hold the arrays in `files` against what a set is, and against its hashes and fingerprint."""
    content, use, side = hashlib.sha256(), "", file_set.pixels or THUMBNAIL
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        for use in file_set.parts:
            images, labels, hashed = loaded(folder, use)
            shape = (len(hashed), file_set.files.channels, side, side)
            if images.shape != shape or images.dtype != np.uint8 or labels.dtype != np.int64:
                return f"{use}.images.npy or {use}.labels.npy holds something else"
            if not np.array_equal(hashes(images), hashed):
                return f"{use}.images.npy or {use}.hashes.npy has changed"
            content.update(hashed.tobytes() + labels.tobytes())
            if not file_set.pixels:
                arrow = meta["arrow"][use]
                for name in {"rows", *arrow} & {"rows", "stamps"}:  # old ones have no stamps
                    numbers = np.load(folder / f"{use}.{name}.npy")
                    known = arrow.get(name, digest(numbers))
                    if known != digest(numbers) or len(numbers) != len(hashed):
                        return f"{use}.{name}.npy has changed"
                for file in arrow["files"]:
                    Path(file).stat()
        whole = content.hexdigest()[:16] == meta["fingerprint"]
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except Exception as error:  # of damaged files numpy says nearly anything
        return f"what is in it for '{use}' cannot be read: {' '.join(str(error).split())}"
    return "" if whole else "its labels or its meta.json have changed"


def _content(file_set: FileSet, places: Mapping[str, str]) -> str:
    """Return a hash, in hex, of what a set is and of the names, sizes and times of its files."""
    key = hashlib.sha256(_identity(file_set).encode())
    for name in file_set.names:
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
        if not file_set.pixels:  # Arrow files of a folder of images hold paths, not images
            key.update(f"{path}\n".encode())
        for file in sorted(file for file in Path(path).rglob("*") if file.is_file()):
            stat = file.stat()
            line = f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n"
            try:
                key.update(line.encode())
            except UnicodeEncodeError:
                raise UserError(f"data set '{name}': {str(file)!r} is no name in UTF-8") from None
    return key.hexdigest()


def _convert_whole(folder: Path, file_set: FileSet, places: Mapping[str, str]) -> None:
    """Convert into a folder beside `folder`, and rename it when it is whole."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    sweep(folder.parent, ".*.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        convert(file_set, places, unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
