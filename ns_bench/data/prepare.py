"""Data sets in files: on the Hugging Face hub, a local copy of one of these, or one's own.

Every image is decoded and resized once, into a folder that runs map into memory:

    $HF_HOME/ns_bench/NAME-<16 hex>/labeled.images.npy   uint8 [N, C, H, W]
                                    labeled.labels.npy   int64 [N], -1 where there is none
                                    labeled.hashes.npy   uint64 [N], of the decoded pixels
                                    test.*, unlabeled.*  the same, of splits of their own
                                    meta.json            fingerprint, unreadable images

Where images are not resized once (`data.pixels` = 0 and many sizes), what is decoded are
thumbnails, to find unreadable images and duplicates; runs decode the images themselves as they need
them, from Arrow files that `datasets` made (see `lazy.py`). Then there are also

                                    labeled.rows.npy     int64 [N], of the images in the Arrow files

Where a set's files are is no part of a recipe. It is noted in the store, where workers and jobs on
other machines find it: `<store>/data/NAME-<8 hex>.json`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ns_bench.data.catalog import FileSet, describe, hub_sets
from ns_bench.data.convert import convert
from ns_bench.errors import UserError
from ns_bench.files import locked, publish_json
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
    if _is_whole(note) and not paths.keys() & set(file_set.names):
        return Path(note["arrays"])
    known = {**_installed(), **note.get("places", {}), **paths}
    places = {
        name: str(Path(known[name]).expanduser().resolve())
        for name in file_set.names
        if name in known
    }
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
        return dict(json.loads(_note_file(file_set, store).read_bytes()))
    except (OSError, ValueError):
        return {}


def _is_whole(note: Mapping[str, Any]) -> bool:
    """Whether the arrays of a note are there, and the Arrow files that they need."""
    try:
        meta = json.loads((Path(note["arrays"]) / "meta.json").read_bytes())
    except (KeyError, OSError, ValueError):
        return False
    return all(Path(f).is_file() for part in meta.get("arrow", {}).values() for f in part["files"])


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
    note = {"arrays": str(folder)}
    if not _is_whole(note):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / ".lock"):  # of several processes, one decodes
            if not _is_whole(note):
                _convert_whole(folder, file_set, places)
    return folder


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
            key.update(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return key.hexdigest()


def _convert_whole(folder: Path, file_set: FileSet, places: Mapping[str, str]) -> None:
    """Convert into a folder beside `folder`, and rename it when it is whole."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        convert(file_set, places, unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
